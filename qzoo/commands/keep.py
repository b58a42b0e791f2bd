"""Keeping what a calibration found: the ranges, and the histograms that they were solved from."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from qzoo.commands.shared_calibration import SharedCalibration
from qzoo.models.identity import identity
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.loading import dump_yaml
from qzoo.schema.resolve import ResolvedVariant
from qzoo.tasks.saving import save
from qzoo.weights.histograms import HistogramsInfo, save_histograms
from qzoo.weights.kinds import HISTOGRAMS


def histograms_path(ranges: Path) -> Path:
    """Returns where the histograms of a ranges file lie: beside it.

    Example:
        >>> histograms_path(Path("resnet50_int8.ranges.safetensors")).name
        'resnet50_int8.histograms.safetensors'
    """
    return ranges.with_name(ranges.name.removesuffix(".safetensors").removesuffix(".ranges") + HISTOGRAMS.suffix)


def keep_calibration(
    path: Path, shared: SharedCalibration, entry: RecipeEntry, variant: ResolvedVariant, model: nn.Module
) -> Path | None:
    """Writes the ranges of a calibrated variant, and beside them its histograms, if these were kept.

    Args:
        path: of the ranges file; replaced in one step.
        shared: the calibration that made the model.
        entry: the variant's recipe.
        variant: resolved.
        model: calibrated.

    Returns:
        The path of the histograms.
    """
    images = shared.images_of(variant)
    sha256 = images.digest()
    save(model, path, images=len(images), sample_sha256=sha256)
    if not shared.keep_histograms:
        return None
    info = HistogramsInfo(
        base=entry.name,
        variant=variant.variant,
        recipe=dump_yaml(entry.self_contained(variant.variant)),
        binning=variant.calibration.binning,
        calibration_images=len(images),
        calibration_sha256=sha256,
        **identity(model),
    )
    save_histograms(histograms_path(path), shared.histograms(variant), info)
    return histograms_path(path)
