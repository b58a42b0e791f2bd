"""Optimizing variants by their recipe, and saving what makes them of their float base."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from qzoo import environment
from qzoo.commands.images_picture import keep_picture
from qzoo.commands.settings import Settings
from qzoo.commands.shared_calibration import SharedCalibration, shared_calibration
from qzoo.commands.targets import targets
from qzoo.distributed import failing_together
from qzoo.errors import UnsupportedError
from qzoo.progress import Progress, silent
from qzoo.results.details import Details
from qzoo.results.optimization import Optimization
from qzoo.results.readable import Readable
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.measuring.gather import gather_quantizers
from qzoo.tasks.optimize import optimize
from qzoo.tasks.saving import save
from qzoo.weights.kinds import ROUNDING
from qzoo.zoo.zoo_model import ZooModel


@dataclass(frozen=True, repr=False)
class Optimized(Readable):
    """What optimizing a variant made.

    Attributes:
        name: full name of the variant.
        path: the path of the rounding file.
        report: what each step did.
        seconds: wall time, calibration included.
    """

    name: str
    path: Path
    report: Optimization
    seconds: float


def optimize_variants(
    variants: Sequence[ZooModel],
    settings: Settings | None = None,
    *,
    output: Path | None = None,
    details: Details | None = None,
    progress: Progress = silent,
) -> list[Optimized]:
    """Calibrates and optimizes variants as their recipe says, and writes what makes each of its float base.

    Args:
        variants: variants of one recipe that have an `optimize` block.
        settings: data, device, and what to change of what the recipe says.
        output: a file for one variant, or a folder for several; default: in qzoo's cache, where
            `create(..., pretrained=True)` finds them.
        details: filled in with what a page shows beside the figures, see `qzoo.html`.
        progress: shown the batches.

    Raises:
        DataError: the dataset is missing, of the wrong kind, or too small for `calib_images`.
        CalibrationError: a quantizer saw nothing, NaN or Inf; nothing is written for that variant.
        UnsupportedError: the device can't be used.
    """
    with failing_together():
        settings = settings or Settings()
        paths = targets(variants, ROUNDING, output, settings)
        shared = shared_calibration(variants, settings, progress)
        return [_optimize_one(shared, one, path, details, progress) for one, path in zip(variants, paths, strict=True)]


def optimizable(zoo_model: ZooModel) -> list[ZooModel]:
    """Returns a variant alone, and of a base all variants that are optimized, and not trained after it.

    Raises:
        UnsupportedError: there are none, or the variant has no `optimize` block.
    """
    chosen = [zoo_model] if zoo_model.variant is not None else zoo_model.variants
    found = [one for one in chosen if one.made_by is ROUNDING]
    if not found:
        whole = [one.address for one in zoo_model.variants if one.made_by is ROUNDING]
        advice = f"These have one: {', '.join(whole)}." if whole else "No variant of the recipe has one."
        raise UnsupportedError(
            f"{zoo_model.address} says no steps: its recipe has no `optimize` block. {advice} Or give the steps in "
            "Python: qzoo.optimize(model, images, {'round': 'gptq'})."
        )
    return found


def ptq_model(shared: SharedCalibration, variant: ResolvedVariant, progress: Progress = silent) -> nn.Module:
    """Returns a variant as it is before any training: calibrated, and optimized if its recipe says so."""
    if variant.optimize is None:
        return shared.calibrated(variant)[0]
    return optimized_variant(shared, variant, progress)[0]


def optimized_variant(
    shared: SharedCalibration, variant: ResolvedVariant, progress: Progress = silent
) -> tuple[nn.Module, Optimization]:
    """Returns a variant, calibrated and optimized by its recipe, and what was done.

    What was begun before, with the same images, steps and base, is gone on with.

    Args:
        shared: calibrates it.
        variant: resolved, with an `optimize` block.
        progress: shown the batches.
    """
    spec, images = variant.optimize, shared.images_of(variant)
    assert spec is not None
    # Where steps move weights from layer to layer, ranges are found after that.
    model = shared.quantized(variant) if spec.moves_ranges else shared.calibrated(variant)[0]
    folder = environment.runs() / variant.name
    report = optimize(model, images, spec, folder=folder, count=len(images), progress=progress)
    return model, report


def _optimize_one(
    shared: SharedCalibration, variant: ZooModel, path: Path, details: Details | None, progress: Progress
) -> Optimized:
    start, images = time.perf_counter(), shared.images_of(variant.resolved)
    model, report = optimized_variant(shared, variant.resolved, progress)
    save(model, path, images=len(images), sample_sha256=images.digest())
    keep_picture(path, images)
    gather_quantizers(details, variant.name, model, images)
    return Optimized(variant.name, path, report, time.perf_counter() - start)
