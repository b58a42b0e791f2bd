"""What is known of a variant: its ranges or trained weights, what they came from, and the receipt of its figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from qzoo import environment
from qzoo.commands.calibrate import calibrate_variants
from qzoo.commands.evaluate import measure_receipt, quantized_model
from qzoo.commands.settings import Settings
from qzoo.errors import WeightsError
from qzoo.quant.ranges import get_ranges
from qzoo.results.training import read_training_report
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.datasets import dataset_named
from qzoo.schema.resolve import ResolvedVariant
from qzoo.tasks.progress import Progress
from qzoo.weights.artifact import ArtifactInfo
from qzoo.weights.content import content_digest
from qzoo.weights.histograms import load_histograms
from qzoo.weights.kinds import HISTOGRAMS, MODEL, RANGES, RECEIPT, TRAINING, Kind
from qzoo.weights.ranges import load_ranges
from qzoo.weights.receipt import load_receipt
from qzoo.zoo.pretrained import artifact_at_hand, artifact_file, whole_model


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


def gather(
    entry: RecipeEntry, variant: ResolvedVariant, settings: Settings, artifacts: Path | None, progress: Progress
) -> Evidence:
    """Returns a variant's artifacts: those at hand, and with data those that have to be made.

    Args:
        entry: the recipe.
        variant: resolved.
        settings: data, device, number of images.
        artifacts: a folder that is looked into first.
        progress: shown the batches.

    Raises:
        WeightsError: there are no ranges, and no data to calibrate with; or a variant is to be trained first.
    """
    if artifacts is not None and not artifacts.is_dir():
        raise WeightsError(f"There is no folder {artifacts} with artifacts. `qzoo reproduce --artifacts` fills one.")
    if variant.finetune is not None:
        return _trained(entry, variant, settings, artifacts, progress)
    ranges = _ranges(entry, variant, settings, artifacts, progress)
    values, info = load_ranges(ranges)
    model = quantized_model(variant, ranges)
    receipt = _receipt(entry, variant, artifacts, content_digest(values), info.recipe_sha256)
    if _can_measure(variant, settings) and (receipt is None or not _measures(receipt, settings)):
        receipt = _measure(entry, variant, model, settings, progress)
    histograms = _histograms(entry, variant, artifacts, info)
    return Evidence(
        model, histograms, receipt, None, info.calibration_images, info.calibration_sha256,
        (*_without_receipt(receipt), *_without_histograms(entry, variant, histograms)),
    )  # fmt: skip


def _trained(
    entry: RecipeEntry, variant: ResolvedVariant, settings: Settings, artifacts: Path | None, progress: Progress
) -> Evidence:
    file, training = _at_hand(entry, variant, MODEL, artifacts), _training(entry, variant, artifacts)
    if file is None:
        command = f"qzoo finetune {entry.address(variant.variant)}{_data(variant)}"
        raise WeightsError(f"{variant.name} is not trained. Train it first: {command}")
    model = whole_model(variant, file)
    receipt = _receipt(entry, variant, artifacts, content_digest(get_ranges(model)), variant.digest)
    if _can_measure(variant, settings) and (receipt is None or not _measures(receipt, settings)):
        receipt = _measure(entry, variant, model, settings, progress)
    missing = [] if training else ["no report of its training, so the card does not tell how it was trained"]
    return Evidence(model, None, receipt, training, None, "", (*_without_receipt(receipt), *missing))


def _training(entry: RecipeEntry, variant: ResolvedVariant, artifacts: Path | None) -> Path | None:
    path = _at_hand(entry, variant, TRAINING, artifacts)
    # A report of another state of the recipe tells of another training.
    return path if path is not None and read_training_report(path).recipe_sha256 == variant.digest else None


def _ranges(
    entry: RecipeEntry, variant: ResolvedVariant, settings: Settings, artifacts: Path | None, progress: Progress
) -> Path:
    found = _at_hand(entry, variant, RANGES, artifacts)
    if found is not None:
        return found
    if not _can_measure(variant, settings):
        command = f"qzoo calibrate {entry.address(variant.variant)} --data PATH"
        raise WeightsError(f"{variant.name} is not calibrated. Give --data PATH, or calibrate it first: {command}")
    (made,) = calibrate_variants(entry, [variant.variant], settings, output=environment.artifacts(), progress=progress)
    return made.path


def _can_measure(variant: ResolvedVariant, settings: Settings) -> bool:
    return settings.data is not None or not dataset_named(variant.dataset).needs_data


def _data(variant: ResolvedVariant) -> str:
    return dataset_named(variant.dataset).data_option


def _at_hand(entry: RecipeEntry, variant: ResolvedVariant, kind: Kind, artifacts: Path | None) -> Path | None:
    given = artifacts / f"{variant.name}{kind.suffix}" if artifacts else None
    if given and given.is_file():
        return given
    # What is pinned on the hub is not asked for: it may be what this push is to replace.
    own = entry.published_name is not None
    return artifact_file(entry, variant.name, kind) if own else artifact_at_hand(entry, variant.name, kind)


def _receipt(
    entry: RecipeEntry, variant: ResolvedVariant, artifacts: Path | None, ranges_sha256: str, recipe_sha256: str
) -> Path | None:
    path = _at_hand(entry, variant, RECEIPT, artifacts)
    if path is None:
        return None
    # A receipt of other ranges, or of the same ranges in another recipe, is evidence of another model.
    info = load_receipt(path).info
    return path if (info.ranges_sha256, info.recipe_sha256) == (ranges_sha256, recipe_sha256) else None


def _measures(receipt: Path, settings: Settings) -> bool:
    """Whether a receipt has the images that are asked for: so many, or all."""
    claim = load_receipt(receipt)
    return claim.info.complete if settings.eval_images is None else len(claim) == settings.eval_images


def _histograms(
    entry: RecipeEntry, variant: ResolvedVariant, artifacts: Path | None, ranges: ArtifactInfo
) -> Path | None:
    path = _at_hand(entry, variant, HISTOGRAMS, artifacts)
    if path is None:
        return None
    _, info = load_histograms(path)
    return path if _calibration(info) == _calibration(ranges) else None


def _calibration(info: ArtifactInfo) -> dict[str, object]:
    """Returns what tells one calibration from another."""
    return info.model_dump(include={"recipe_sha256", "base_sha256", "calibration_images", "calibration_sha256"})


def _measure(
    entry: RecipeEntry, variant: ResolvedVariant, model: nn.Module, settings: Settings, progress: Progress
) -> Path:
    path = environment.artifacts() / f"{variant.name}{RECEIPT.suffix}"
    measure_receipt(entry, model, settings, path, progress)
    return path


def _without_receipt(receipt: Path | None) -> list[str]:
    if receipt is not None:
        return []
    return ["no receipt, so the card has no figure and `qzoo verify` nothing to check: give --data PATH"]


def _without_histograms(entry: RecipeEntry, variant: ResolvedVariant, histograms: Path | None) -> list[str]:
    if histograms is not None:
        return []
    command = f"qzoo calibrate {entry.address(variant.variant)}{_data(variant)}"
    return [f"no histograms of these ranges, so nobody can solve others: `{command}` keeps some"]
