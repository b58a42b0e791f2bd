"""Calibrating a variant by its recipe, and saving its ranges."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from qzoo import environment
from qzoo.build.bases import base_transform, create_base
from qzoo.build.quantize import quantize_in_place
from qzoo.data import evaluation_split
from qzoo.quant.ranges import quantizers
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.resolve import resolve
from qzoo.tasks.calibrate import calibrate
from qzoo.tasks.images import calibration_images
from qzoo.tasks.progress import Progress, silent
from qzoo.tasks.ranges import save


@dataclass(frozen=True)
class Calibrated:
    """What a calibration made.

    Attributes:
        name: full name of the variant.
        path: of the ranges file.
        images: how many it saw.
        quantizers: how many got a range.
        seconds: wall time.
        short: the recipe wanted more images than there are.
    """

    name: str
    path: Path
    images: int
    quantizers: int
    seconds: float
    short: bool


def calibrate_variant(
    entry: RecipeEntry, variant: str, *, data: Path | None = None, images: int | None = None,
    batch_size: int | None = None, device: str = "cpu", output: Path | None = None, progress: Progress = silent,
) -> Calibrated:  # fmt: skip
    """Calibrates a variant as its recipe says, and writes its ranges.

    Args:
        entry: the recipe.
        variant: one of its variants.
        data: folder of the dataset, or of all datasets; default `QZOO_DATA`.
        images: how many, if not as the recipe says.
        batch_size: likewise.
        device: `cpu`, `cuda` ...
        output: the ranges file; default: in qzoo's cache, where `create(..., pretrained=True)` finds it.
        progress: shown the batches.

    Raises:
        DataError: the dataset is missing, of the wrong kind, or too small for `images`.
        CalibrationError: a quantizer saw nothing, NaN or Inf; nothing is written.
    """
    start, resolved = time.perf_counter(), resolve(entry, variant)
    chosen = calibration_images(
        resolved.dataset, resolved.calibration, base_transform(resolved.base), data,
        evaluated_on=evaluation_split(resolved.dataset), images=images, batch_size=batch_size,
    )  # fmt: skip
    model = create_base(resolved.base, pretrained=True).to(device)
    quantize_in_place(model, resolved)
    calibrate(model, chosen, progress=progress, count=len(chosen))
    path = output or environment.home() / "ranges" / f"{resolved.name}.ranges.safetensors"
    save(model, path, images=len(chosen), sample_sha256=chosen.digest())
    return Calibrated(
        resolved.name, path, len(chosen), len(quantizers(model)), time.perf_counter() - start, chosen.short
    )
