"""Keeping what a calibration collected."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from qzoo.build.identity import identity
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.loading import dump_yaml
from qzoo.schema.resolve import ResolvedVariant
from qzoo.tasks.shared_calibration import SharedCalibration
from qzoo.weights.histograms import HISTOGRAMS, HistogramsInfo, save_histograms


def histograms_path(ranges: Path) -> Path:
    """Returns where the histograms of a ranges file lie: beside it.

    Example:
        >>> histograms_path(Path("resnet50_int8.ranges.safetensors")).name
        'resnet50_int8.histograms.safetensors'
    """
    return ranges.with_name(ranges.name.removesuffix(".safetensors").removesuffix(".ranges") + HISTOGRAMS.suffix)


def keep_histograms(
    path: Path, shared: SharedCalibration, entry: RecipeEntry, variant: ResolvedVariant, model: nn.Module, sha256: str
) -> None:
    """Writes the histograms that a variant's ranges were solved from.

    Args:
        path: of the file; replaced in one step.
        shared: the calibration; it has to keep histograms, and to have calibrated the variant.
        entry: the variant's recipe.
        variant: resolved.
        model: calibrated.
        sha256: of the images it was calibrated on.
    """
    info = HistogramsInfo(
        base=entry.name,
        variant=variant.variant,
        recipe=dump_yaml(entry.self_contained(variant.variant)),
        binning=variant.calibration.binning,
        calibration_images=len(shared.images_of(variant)),
        calibration_sha256=sha256,
        **identity(model),
    )
    save_histograms(path, shared.histograms(variant), info)
