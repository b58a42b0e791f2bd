"""Calibrating variants by their recipe, and saving their ranges."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from qzoo import environment
from qzoo.commands.keep import keep_calibration
from qzoo.commands.settings import Settings, usable_device
from qzoo.commands.shared_calibration import SharedCalibration
from qzoo.distributed import failing_together, meet, rank
from qzoo.errors import RecipeError
from qzoo.files import require_writable
from qzoo.models.bases import create_base
from qzoo.quant.ranges import quantizers
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.resolve import ResolvedVariant, resolve
from qzoo.tasks.progress import Progress, silent
from qzoo.weights.kinds import RANGES
from qzoo.zoo.pretrained import check_published, warn_of_unpinned


@dataclass(frozen=True)
class Calibrated:
    """What a calibration made.

    Attributes:
        name: full name of the variant.
        path: of the ranges file.
        histograms: of the histograms file; None where none was kept.
        images: how many it saw.
        quantizers: how many got a range.
        seconds: wall time.
        short: the recipe wanted more images than there are.
    """

    name: str
    path: Path
    histograms: Path | None
    images: int
    quantizers: int
    seconds: float
    short: bool


def calibrate_variants(
    entry: RecipeEntry,
    variants: Sequence[str] = (),
    settings: Settings | None = None,
    *,
    output: Path | None = None,
    histograms: bool = True,
    progress: Progress = silent,
) -> list[Calibrated]:
    """Calibrates variants as their recipe says, all in one pass over the images, and writes the ranges of each.

    Args:
        entry: the recipe.
        variants: some of its variants; default: all that calibration alone makes.
        settings: data, device, and what to change of what the recipe says.
        output: a ranges file for one variant, or a folder for several; default: in qzoo's cache, where
            `create(..., pretrained=True)` finds them.
        histograms: keep what was collected, beside the ranges: other ranges are solved from it without images.
        progress: shown the batches.

    Returns:
        What was written; in all but the first of several processes nothing, as only the first writes.

    Raises:
        DataError: the dataset is missing, of the wrong kind, or too small for `calib_images`.
        CalibrationError: a quantizer saw nothing, NaN or Inf; nothing is written for that variant.
        UnsupportedError: the device can't be used.
        PeerError: another process of the same run failed.
    """
    if entry.published_name is not None and output is None:
        raise RecipeError(f"{entry.published_name} has ranges of its own. Say where those of this run go: -o FOLDER.")
    settings = settings or Settings()
    chosen = [resolve(entry, name) for name in variants or calibratable(entry)]
    paths = [_target(output, variant.name, len(chosen)) for variant in chosen]
    with failing_together():
        for variant in chosen:
            check_published(entry, variant)
        warn_of_unpinned(entry)
        if rank() == 0:
            require_writable(paths[0].parent)
        float_model = create_base(entry.recipe.base, pretrained=True).to(usable_device(settings.device))
        shared = SharedCalibration(float_model, chosen, settings, progress, keep_histograms=histograms)
        made = [_calibrate_one(shared, entry, variant, path) for variant, path in zip(chosen, paths, strict=True)]
        meet()  # in any process the files are there when this returns
    return [one for one in made if one is not None]


def calibratable(entry: RecipeEntry) -> list[str]:
    """Returns the variants that calibration alone makes, without training."""
    resolved = [resolve(entry, name) for name in entry.variants]
    return [variant.variant for variant in resolved if variant.finetune is None]


def _calibrate_one(
    shared: SharedCalibration, entry: RecipeEntry, variant: ResolvedVariant, path: Path
) -> Calibrated | None:
    start = time.perf_counter()
    model, images = shared.calibrated(variant)
    if rank() > 0:
        return None
    kept = keep_calibration(path, shared, entry, variant, model)
    seconds = time.perf_counter() - start
    return Calibrated(variant.name, path, kept, len(images), len(quantizers(model)), seconds, images.short)


def _target(output: Path | None, name: str, count: int) -> Path:
    folder = output or environment.artifacts()
    if folder.suffix not in ("", ".safetensors") and not folder.is_dir():
        raise RecipeError(
            f"{output} is neither a folder nor a .safetensors file. Ranges are safetensors: -o NAME.safetensors"
        )
    if folder.suffix != ".safetensors":
        return folder / f"{name}{RANGES.suffix}"
    if count > 1:
        raise RecipeError(f"{output} is one file, but {count} variants are calibrated. Give a folder with -o.")
    return folder
