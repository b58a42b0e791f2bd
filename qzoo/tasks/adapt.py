"""Deriving from a calibrated model the one that a runtime runs best, with the same ranges."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.models.float_copy import float_copy
from qzoo.models.heads import requantize_replaced
from qzoo.models.provenance import provenance
from qzoo.models.quantize import quantize_in_place
from qzoo.models.shared_quantizers import shared_quantizers
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers, require_calibrated, require_quantizers
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.adapting import adapted
from qzoo.tasks.calibrate import calibrate
from qzoo.tasks.machine import warn_of_saturation
from qzoo.tasks.progress import Progress, silent


def adapt(
    model: nn.Module, runtime: Runtime, images: Any, *, reduce_range: bool = False, example: Tensor | None = None,
    progress: Progress = silent,
) -> nn.Module:  # fmt: skip
    """Returns a calibrated model with the quantizers that a runtime wants, of the same ranges.

    A quantizer that the model has keeps its range, and so does every other that reads the same tensor. On the images it
    is seen which activations are never negative, and quantizers that are new get their ranges: the main branches of
    residual additions, and the input of the last pooling.

    Args:
        model: calibrated, made by a scheme or a recipe; not changed.
        runtime: whose wishes are met.
        images: batches of `x` or `(x, y)`, as for `qzoo.calibrate`; not those that accuracy is measured on.
        reduce_range: weights of 7 bits, for CPUs without VNNI.
        example: an image `(1, C, H, W)`; default: of the size that the model is made for.
        progress: shown the batches.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are none.
        UnsupportedError: the model is of FP8, or was made by no scheme or recipe.

    Example:
        >>> model = qzoo.create("resnet50_int8", pretrained=True)  # doctest: +SKIP
        >>> adapt(model, runtime_named("onnxruntime"), images)  # doctest: +SKIP
    """
    requantize_replaced(model)
    require_quantizers(model)
    require_calibrated(model, f"adapt the model to {runtime.title}")
    made = provenance(model)
    if made is None or made.variant is None:
        raise UnsupportedError(
            "This model was quantized by no scheme or recipe, so there are no rules to adapt. Quantize the float model "
            f"with qzoo.quantize(model, '{runtime.scheme}'), and calibrate it."
        )
    rules = adapted(made.variant, runtime.name, symmetric=runtime.symmetric, reduce_range=reduce_range)
    found = float_copy(model)
    quantize_in_place(found, rules, example)
    calibrate(found, images, progress=progress)
    _keep_ranges(quantizers(model), found, example)
    return found


def runnable_model(
    model: nn.Module, runtime: Runtime, images: Any, *, reduce_range: bool = False, example: Tensor | None = None,
    progress: Progress = silent,
) -> nn.Module:  # fmt: skip
    """Returns what a runtime gets of a model: itself, or, with images, what `adapt` makes of it.

    Warns before, where this CPU may overflow.

    Raises:
        UnsupportedError: `reduce_range` without images; or as `adapt` does.
    """
    if reduce_range and images is None:
        raise UnsupportedError("reduce_range makes another model of it: give images to adapt it on, adapt_on=...")
    if not reduce_range:
        warn_of_saturation(model, runtime)
    if images is None:
        return model
    return adapt(model, runtime, images, reduce_range=reduce_range, example=example, progress=progress)


def _keep_ranges(source: dict[str, TensorQuantizer], target: nn.Module, example: Tensor | None) -> None:
    own = quantizers(target)
    for path in own.keys() & source.keys():
        own[path].set_amax(source[path].amax.detach())
    for group in shared_quantizers(target, example):
        known = next((path for path in group if path in source), group[0])
        for path in group:
            own[path].set_amax(own[known].amax)
