"""Calibrating variants by their recipe, and saving their ranges."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from qzoo.commands.keep import keep_calibration
from qzoo.commands.settings import Settings
from qzoo.commands.shared_calibration import SharedCalibration, shared_calibration
from qzoo.commands.targets import targets
from qzoo.distributed import failing_together, meet, rank
from qzoo.errors import UnsupportedError
from qzoo.progress import Progress, silent
from qzoo.quant.ranges import quantizers
from qzoo.results.calibration import Calibrated
from qzoo.results.details import Details
from qzoo.schema.calibration import MADE_FROM
from qzoo.tasks.measuring.gather import gather_quantizers
from qzoo.weights.kinds import RANGES, ROUNDING
from qzoo.zoo.zoo_model import ZooModel


def calibrate_variants(
    variants: Sequence[ZooModel],
    settings: Settings | None = None,
    *,
    output: Path | None = None,
    histograms: bool = True,
    details: Details | None = None,
    progress: Progress = silent,
) -> list[Calibrated]:
    """Calibrates variants as their recipe says, all in one pass over the images, and writes the ranges of each.

    Args:
        variants: variants of one recipe.
        settings: data, device, and what to change of what the recipe says.
        output: a ranges file for one variant, or a folder for several; default: in qzoo's cache, where
            `create(..., pretrained=True)` finds them.
        histograms: keep what was collected, beside the ranges: other ranges are solved from it without images.
        details: filled in with what a page shows beside the figures, see `qzoo.html`.
        progress: shown the batches.

    Returns:
        What was written; in all but the first of several processes nothing, as only the first writes.

    Raises:
        DataError: the dataset is missing, of the wrong kind, or too small for `calib_images`.
        CalibrationError: a quantizer saw nothing, NaN or Inf; nothing is written for that variant.
        UnsupportedError: the device can't be used.
        PeerError: another process of the same run failed.
    """
    with failing_together():
        settings = settings or Settings()
        paths = targets(variants, RANGES, output, settings)
        shared = shared_calibration(variants, settings, progress, keep_histograms=histograms)
        made = [_calibrate_one(shared, variant, path, details) for variant, path in zip(variants, paths, strict=True)]
        meet()  # in any process the files are there when this returns
    return [one for one in made if one is not None]


def calibratable(zoo_model: ZooModel) -> list[ZooModel]:
    """Returns a variant alone, and of a base all variants that calibration alone makes.

    Raises:
        UnsupportedError: there are none, or the variant is optimized after it.
    """
    if zoo_model.variant is not None:
        if zoo_model.made_by is ROUNDING:
            raise UnsupportedError(
                f"{zoo_model.name} is more than calibrated: its weights are optimized too. This does both: "
                f"{zoo_model.making_command}"
            )
        return [zoo_model]
    found = [variant for variant in zoo_model.variants if variant.made_by is RANGES]
    if not found:
        command = zoo_model.variants[0].making_command
        raise UnsupportedError(
            f"Every variant of {zoo_model.name} is optimized or trained, so none is calibrated alone: {command}"
        )
    return found


def _calibrate_one(
    shared: SharedCalibration, variant: ZooModel, path: Path, details: Details | None
) -> Calibrated | None:
    start = time.perf_counter()
    model, images = shared.calibrated(variant.resolved)
    if rank() > 0:
        return None
    kept = keep_calibration(path, shared, variant, model)
    seconds = time.perf_counter() - start
    seen_on = f"{len(images):,} {MADE_FROM[images.source]}"
    seen = None if details is None else shared.histograms(variant.resolved)
    gather_quantizers(details, variant.resolved.variant, model, images, seen, seen_on)
    return Calibrated(
        variant.name, path, kept, len(images), len(quantizers(model)), seconds, images.short, images.source
    )
