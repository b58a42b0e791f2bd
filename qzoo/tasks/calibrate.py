"""Calibrating a model on images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from qzoo.build.heads import requantize_replaced
from qzoo.build.provenance import provenance
from qzoo.quant.calibration import Collection, collecting, solve_ranges
from qzoo.quant.ranges import require_quantizers
from qzoo.tasks.batches import as_batches, device_of
from qzoo.tasks.modes import evaluation_mode
from qzoo.tasks.progress import Progress, silent


def calibrate(
    model: nn.Module,
    images: Any,
    *,
    binning: str | None = None,
    progress: Progress = silent,
    count: int | None = None,
) -> nn.Module:
    """Gives every quantizer of a model its range, in place, from the images it is shown.

    Args:
        model: made by `qzoo.create` or `qzoo.quantize`.
        images: any iterable of `x` or `(x, y)`, `x` float `(N, C, H, W)`, already transformed; or one such tensor.
        binning: of histograms, `aligned` or `reference`; default: what the recipe says, else `aligned`.
        progress: shown the batches.
        count: how many images there are, for the progress.

    Returns:
        The model itself.

    Raises:
        NotCalibratedError: the model has no quantizers.
        CalibrationError: a quantizer saw nothing, NaN or Inf; the model is as it was.

    Example:
        >>> model = qzoo.create("resnet8_digits_int8", pretrained="float")  # doctest: +SKIP
        >>> qzoo.calibrate(model, torch.rand(64, 1, 8, 8))  # doctest: +SKIP
    """
    requantize_replaced(model)
    made = provenance(model)
    binning = binning or (made.variant.calibration.binning if made and made.variant else "aligned")
    require_quantizers(model)
    solve_ranges(model, collect(model, images, binning=binning, progress=progress, count=count))
    return model


def collect(
    model: nn.Module,
    images: Any,
    *,
    binning: str = "aligned",
    histograms: Iterable[str] = (),
    progress: Progress = silent,
    count: int | None = None,
) -> Collection:
    """Returns what each activation quantizer saw of the images; the model's ranges stay as they are.

    Args:
        model: a quantized model; it runs in evaluation mode, in float.
        images: as for `calibrate`.
        binning: of histograms.
        histograms: paths of quantizers that get a histogram although their own calibrator needs only a maximum.
        progress: shown the batches.
        count: how many images there are, for the progress.
    """
    device = device_of(model)
    with evaluation_mode(model), collecting(model, binning, histograms) as collection, torch.no_grad():
        for x, _ in progress(as_batches(images, device), count, "calibrating"):
            model(x)
    return collection
