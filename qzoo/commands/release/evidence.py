"""What is known of a variant: its ranges or trained weights, what they came from, and the receipt of its figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from qzoo import environment
from qzoo.commands.calibrate import calibrate_variants
from qzoo.commands.evaluate import measure_receipt, quantized_model
from qzoo.commands.optimize import optimize_variants
from qzoo.commands.settings import Settings
from qzoo.errors import WeightsError
from qzoo.models.on_base import info_of
from qzoo.models.rounding import beyond_base
from qzoo.progress import Progress
from qzoo.results.training import read_training_report
from qzoo.schema.calibration import named_source
from qzoo.schema.datasets import dataset_named
from qzoo.weights.artifact import ArtifactInfo, content_digest
from qzoo.weights.histograms import load_histograms
from qzoo.weights.kinds import HISTOGRAMS, MODEL, RECEIPT, ROUNDING, TRAINING, Kind
from qzoo.weights.receipt import load_receipt
from qzoo.zoo.pretrained import model_of_checkpoint
from qzoo.zoo.zoo_model import ZooModel


@dataclass(frozen=True)
class Evidence:
    """The artifacts of one variant, all of the same ranges.

    Attributes:
        model: calibrated, or trained.
        histograms: the file, or None.
        receipt: the file, or None.
        training: the report of its training; None for a variant that calibration alone makes.
        images: how many it was calibrated on; None for a trained one, whose ranges are no longer those.
        sample_sha256: digest of these.
        missing: what there is not, and how to get it.
    """

    model: nn.Module
    histograms: Path | None
    receipt: Path | None
    training: Path | None
    images: int | None
    sample_sha256: str
    missing: tuple[str, ...]


def gather(zoo_model: ZooModel, settings: Settings, artifacts: Path | None, progress: Progress) -> Evidence:
    """Returns a variant's artifacts: those at hand, and with data those that have to be made.

    Args:
        zoo_model: a variant.
        settings: data, device, number of images.
        artifacts: a folder that is looked into first.
        progress: shown the batches.

    Raises:
        WeightsError: there are no ranges, and no data to calibrate with; or a variant is to be trained first.
    """
    if artifacts is not None and not artifacts.is_dir():
        raise WeightsError(f"There is no folder {artifacts} with artifacts. `qzoo reproduce --artifacts` fills one.")
    if zoo_model.resolved.finetune is not None:
        return _trained(zoo_model, settings, artifacts, progress)
    file = _on_base(zoo_model, settings, artifacts, progress)
    info, model = info_of(file), quantized_model(zoo_model.resolved, file)
    receipt = _receipt(zoo_model, artifacts, content_digest(beyond_base(model)), info.recipe_sha256)
    if _can_measure(zoo_model, settings) and (receipt is None or not _measures(receipt, settings)):
        receipt = _measure(zoo_model, model, settings, progress)
    histograms = _histograms(zoo_model, artifacts, info)
    return Evidence(
        model, histograms, receipt, None, info.calibration_images, info.calibration_sha256,
        (*_without_receipt(receipt), *_without_histograms(zoo_model, histograms)),
    )  # fmt: skip


def _trained(zoo_model: ZooModel, settings: Settings, artifacts: Path | None, progress: Progress) -> Evidence:
    file, training = _at_hand(zoo_model, MODEL, artifacts), _training(zoo_model, artifacts)
    if file is None:
        raise WeightsError(f"{zoo_model.name} is not trained. Train it first: {zoo_model.command('finetune')}")
    model = model_of_checkpoint(zoo_model.resolved, file)
    receipt = _receipt(zoo_model, artifacts, content_digest(beyond_base(model)), zoo_model.resolved.digest)
    if _can_measure(zoo_model, settings) and (receipt is None or not _measures(receipt, settings)):
        receipt = _measure(zoo_model, model, settings, progress)
    missing = [] if training else ["no report of its training, so the card does not tell how it was trained"]
    return Evidence(model, None, receipt, training, None, "", (*_without_receipt(receipt), *missing))


def _training(zoo_model: ZooModel, artifacts: Path | None) -> Path | None:
    path = _at_hand(zoo_model, TRAINING, artifacts)
    # A report of another state of the recipe tells of another training.
    return path if path is not None and read_training_report(path).recipe_sha256 == zoo_model.resolved.digest else None


def _on_base(zoo_model: ZooModel, settings: Settings, artifacts: Path | None, progress: Progress) -> Path:
    optimizes = zoo_model.made_by is ROUNDING
    found = _at_hand(zoo_model, zoo_model.made_by, artifacts)
    if found is not None:
        return found
    if not _can_measure(zoo_model, settings):
        verb, done = ("optimize", "optimized") if optimizes else ("calibrate", "calibrated")
        raise WeightsError(
            f"{zoo_model.name} is not {done}. Give --data PATH, or {verb} it first: {zoo_model.making_command}"
        )
    if optimizes:
        return optimize_variants([zoo_model], settings, output=environment.artifacts(), progress=progress)[0].path
    return calibrate_variants([zoo_model], settings, output=environment.artifacts(), progress=progress)[0].path


def _can_measure(zoo_model: ZooModel, settings: Settings) -> bool:
    has_data = settings.data is not None and named_source(settings.data) is None
    return has_data or not dataset_named(zoo_model.dataset).needs_data


def _at_hand(zoo_model: ZooModel, kind: Kind, artifacts: Path | None) -> Path | None:
    given = artifacts / f"{zoo_model.name}{kind.suffix}" if artifacts else None
    if given and given.is_file():
        return given
    # What is pinned on the hub is not asked for: it may be what this push is to replace.
    own = zoo_model.entry.source.has_own_artifacts
    return zoo_model.artifact(kind) if own else zoo_model.artifact_at_hand(kind)


def _receipt(zoo_model: ZooModel, artifacts: Path | None, ranges_sha256: str, recipe_sha256: str) -> Path | None:
    path = _at_hand(zoo_model, RECEIPT, artifacts)
    if path is None:
        return None
    # A receipt of other ranges, or of the same ranges in another recipe, is evidence of another model.
    info = load_receipt(path).info
    return path if (info.ranges_sha256, info.recipe_sha256) == (ranges_sha256, recipe_sha256) else None


def _measures(receipt: Path, settings: Settings) -> bool:
    """Whether a receipt has the images that are asked for: so many, or all."""
    claim = load_receipt(receipt)
    return claim.info.complete if settings.eval_images is None else len(claim) == settings.eval_images


def _histograms(zoo_model: ZooModel, artifacts: Path | None, ranges: ArtifactInfo) -> Path | None:
    path = _at_hand(zoo_model, HISTOGRAMS, artifacts)
    if path is None or zoo_model.made_by is ROUNDING:
        return None
    _, info = load_histograms(path)
    return path if _calibration(info) == _calibration(ranges) else None


def _calibration(info: ArtifactInfo) -> dict[str, object]:
    """Returns what tells one calibration from another."""
    return info.model_dump(include={"recipe_sha256", "base_sha256", "calibration_images", "calibration_sha256"})


def _measure(zoo_model: ZooModel, model: nn.Module, settings: Settings, progress: Progress) -> Path:
    path = environment.artifacts() / f"{zoo_model.name}{RECEIPT.suffix}"
    measure_receipt(zoo_model, model, settings, path, progress)
    return path


def _without_receipt(receipt: Path | None) -> list[str]:
    if receipt is not None:
        return []
    return ["no receipt, so the card has no figure and `qzoo verify` nothing to check: give --data PATH"]


def _without_histograms(zoo_model: ZooModel, histograms: Path | None) -> list[str]:
    # Ranges that were optimized come of more than a histogram.
    if histograms is not None or zoo_model.made_by is ROUNDING:
        return []
    command = zoo_model.command("calibrate")
    return [f"no histograms of these ranges, so nobody can solve others: `{command}` keeps some"]
