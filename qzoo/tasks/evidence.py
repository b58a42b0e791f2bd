"""What is known of a calibrated variant: its ranges, the histograms behind them, and the receipt of its figure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from qzoo import environment
from qzoo.errors import WeightsError
from qzoo.pretrained import artifact_at_hand, artifact_file
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.resolve import ResolvedVariant
from qzoo.tasks.calibrate_variants import calibrate_variants
from qzoo.tasks.evaluate_named import evaluate_named
from qzoo.tasks.progress import Progress
from qzoo.tasks.settings import Settings
from qzoo.weights.artifact import ArtifactInfo
from qzoo.weights.content import content_digest
from qzoo.weights.histograms import load_histograms
from qzoo.weights.kinds import HISTOGRAMS, RANGES, RECEIPT, Kind
from qzoo.weights.ranges import RangesInfo, load_ranges
from qzoo.weights.receipt import load_receipt


@dataclass(frozen=True)
class Evidence:
    """The artifacts of one variant, all of the same ranges.

    Attributes:
        ranges: the file.
        histograms: the file, or None.
        receipt: the file, or None.
        images: how many it was calibrated on.
        sample_sha256: digest of these.
        missing: what there is not, and how to get it.
    """

    ranges: Path
    histograms: Path | None
    receipt: Path | None
    images: int
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
        WeightsError: there are no ranges, and no data to calibrate with.
    """
    if artifacts is not None and not artifacts.is_dir():
        raise WeightsError(f"There is no folder {artifacts} with artifacts. `qzoo reproduce --artifacts` fills one.")
    can_measure = settings.data is not None or variant.dataset == "digits"
    ranges = _at_hand(entry, variant, RANGES, artifacts)
    if ranges is None and can_measure:
        (made,) = calibrate_variants(
            entry, [variant.variant], settings, output=environment.artifacts(), progress=progress
        )
        ranges = made.path
    if ranges is None:
        command = f"qzoo calibrate {entry.address(variant.variant)} --data PATH"
        raise WeightsError(f"{variant.name} is not calibrated. Give --data PATH, or calibrate it first: {command}")
    values, info = load_ranges(ranges)
    receipt = _receipt(entry, variant, artifacts, info, content_digest(values))
    if can_measure and (receipt is None or not _measures(receipt, settings)):
        receipt = _measure(entry, variant, ranges, settings, progress)
    histograms = _histograms(entry, variant, artifacts, info)
    return Evidence(
        ranges, histograms, receipt, info.calibration_images, info.calibration_sha256,
        tuple(_missing(entry, variant, histograms, receipt)),
    )  # fmt: skip


def _at_hand(entry: RecipeEntry, variant: ResolvedVariant, kind: Kind, artifacts: Path | None) -> Path | None:
    given = artifacts / f"{variant.name}{kind.suffix}" if artifacts else None
    if given and given.is_file():
        return given
    # What is pinned on the hub is not asked for: it may be what this push is to replace.
    own = entry.published_name is not None
    return artifact_file(entry, variant.name, kind) if own else artifact_at_hand(entry, variant.name, kind)


def _receipt(
    entry: RecipeEntry, variant: ResolvedVariant, artifacts: Path | None, ranges: RangesInfo, ranges_sha256: str
) -> Path | None:
    path = _at_hand(entry, variant, RECEIPT, artifacts)
    if path is None:
        return None
    # A receipt of other ranges, or of the same ranges in another recipe, is evidence of another model.
    info = load_receipt(path).info
    same = (info.ranges_sha256, info.recipe_sha256) == (ranges_sha256, ranges.recipe_sha256)
    return path if same else None


def _measures(receipt: Path, settings: Settings) -> bool:
    """Whether a receipt has the images that are asked for: so many, or all."""
    claim = load_receipt(receipt)
    return claim.info.complete if settings.eval_images is None else len(claim) == settings.eval_images


def _histograms(
    entry: RecipeEntry, variant: ResolvedVariant, artifacts: Path | None, ranges: RangesInfo
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
    entry: RecipeEntry, variant: ResolvedVariant, ranges: Path, settings: Settings, progress: Progress
) -> Path:
    path = environment.artifacts() / f"{variant.name}{RECEIPT.suffix}"
    evaluate_named(entry, variant.variant, settings, ranges=ranges, receipt=path, progress=progress)
    return path


def _missing(entry: RecipeEntry, variant: ResolvedVariant, histograms: Path | None, receipt: Path | None) -> list[str]:
    data = "" if variant.dataset == "digits" else " --data PATH"
    missing = []
    if receipt is None:
        missing.append("no receipt, so the card has no figure and `qzoo verify` nothing to check: give --data PATH")
    if histograms is None:
        command = f"qzoo calibrate {entry.address(variant.variant)}{data}"
        missing.append(f"no histograms of these ranges, so nobody can solve others: `{command}` keeps some")
    return missing
