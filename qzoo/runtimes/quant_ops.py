"""The two operators that an exported model speaks of quantization with, what they are in ONNX, and who calls them.

`quantize_dequantize` is a quantizer of activations: QuantizeLinear, then DequantizeLinear. `dequantize` gives a weight
from the integers that are stored of it. torch sees each as one operator, so that tracing can't take it apart. In a
model that is exported they stand for its quantizers, with nothing left to decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.quant.derived import copy_model
from qzoo.quant.fake_quant import Grid, quantization_scale, quantize
from qzoo.quant.grouped import along_weight
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.quant.weights import quantized_weights
from qzoo.quant.zero_point import on_grid

SMALLEST_SCALE = torch.finfo(torch.float32).tiny
"""The scale of a range that holds nothing: all comes to 0, as it does in the quantizer."""
EMPTY_SCALE = 2.0**-10
"""The scale of such a range behind a clip to 0: any serves, so one that a runtime can use, as most are."""
INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.uint16)


@torch.library.custom_op("qzoo::quantize_dequantize", mutates_args=())
def quantize_dequantize(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """Returns `x` rounded to the grid of a type, as ONNX defines QuantizeLinear and DequantizeLinear.

    Args:
        x: float, any shape.
        scale: the size of a step, of the dtype of `x`, `()`.
        zero_point: what 0 is stored as; its dtype is that of the stored values.
    """
    steps = x.float() / scale
    if zero_point.dtype not in INTEGERS:
        largest = torch.finfo(zero_point.dtype).max
        return (steps.clamp(-largest, largest).to(zero_point.dtype).float() * scale).to(x.dtype)
    of_type, zero = torch.iinfo(zero_point.dtype), zero_point.float()
    return (((steps.round() + zero).clamp(of_type.min, of_type.max) - zero) * scale).to(x.dtype)


@torch.library.custom_op("qzoo::dequantize", mutates_args=())
def dequantize(values: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    """Returns stored values scaled back, in the dtype of the scale.

    Args:
        values: as stored, of an integer or FP8 dtype.
        scale: the size of a step, float32 or float16; `()`, or `(C,)` along the axis.
        zero_point: what 0 is stored as, of the dtype of the values and the shape of the scale.
        axis: the axis of the channels.
    """
    shape = [-1 if dim == axis else 1 for dim in range(values.dim())] if scale.dim() else []
    return ((values.float() - zero_point.float().view(shape)) * scale.view(shape)).to(scale.dtype)


@quantize_dequantize.register_fake
def _(x: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    return torch.empty_like(x)


@dequantize.register_fake
def _(values: Tensor, scale: Tensor, zero_point: Tensor, axis: int) -> Tensor:
    return torch.empty_like(values, dtype=scale.dtype)


def translation() -> dict[Any, Callable[..., Any]]:
    """Returns what the exporter makes of the operators."""
    from onnxscript import opset21

    op: Any = opset21

    def quantized(x: Any, scale: Any, zero_point: Any) -> Any:
        return op.DequantizeLinear(op.QuantizeLinear(x, scale, zero_point), scale, zero_point)

    def stored(values: Any, scale: Any, zero_point: Any, axis: int) -> Any:
        # A zero point of 0 is said too: ONNX Runtime has no integer kernel of a Gemm whose weight has none.
        return op.DequantizeLinear(values, scale, zero_point, axis=axis)

    return {
        torch.ops.qzoo.quantize_dequantize.default: quantized,
        torch.ops.qzoo.dequantize.default: stored,
    }


def step_size(amax: Tensor, on: Grid) -> Tensor:
    """Returns the scale of ONNX, `amax / bound`, float32, in the shape of `amax`."""
    step: Any = amax.detach().float() / on.bound
    return torch.where(quantization_scale(amax, on) == 0, SMALLEST_SCALE, step)


def has_more_values(dtype: torch.dtype, on: Grid) -> bool:
    """Whether a type stores values beyond the ends of a grid, so that what is quantized has to be clipped before.

    Example:
        >>> from qzoo.quant.fake_quant import grid
        >>> has_more_values(torch.int8, grid(bits=8)), has_more_values(torch.int8, grid(bits=4))
        (False, True)
    """
    return dtype in INTEGERS and (on.low, on.high) != (torch.iinfo(dtype).min, torch.iinfo(dtype).max)


def stored_dtype(fp8: torch.dtype | None, bits: int, unsigned: bool) -> torch.dtype:
    """Returns the narrowest dtype of ONNX and torch alike that holds the values of a grid.

    Example:
        >>> stored_dtype(None, 4, unsigned=True), stored_dtype(None, 10, unsigned=False)
        (torch.uint8, torch.int16)
    """
    if fp8 is not None:
        return fp8
    if bits <= 8:
        return torch.uint8 if unsigned else torch.int8
    return torch.uint16 if unsigned else torch.int16


SHIFTED = {torch.int8: torch.uint8, torch.int16: torch.uint16}


def stored_grid(quantizer: TensorQuantizer) -> tuple[Grid, Tensor | None]:
    """Returns the grid by which the values of a quantizer are stored, and their zero points.

    Zero points that are all in the middle are left out: less the middle, the values are those of a signed grid, with
    the same steps. Runtimes that take no zero point take that.

    Example:
        >>> from qzoo.schema.quantizer import QuantizerSpec
        >>> quantizer = TensorQuantizer(QuantizerSpec(symmetric="auto"))
        >>> quantizer.set_amax(torch.tensor(2.0), None, torch.tensor(128))
        >>> stored_grid(quantizer)
        (Grid(low=-128, high=127, bound=255, fp8=None), None)
    """
    on, learned = quantizer.grid, quantizer.zero_point
    middle = (int(on.high) + 1) // 2
    zero_point = None if learned is None else on_grid(learned.detach(), on)
    if zero_point is None or bool((zero_point != middle).any()):
        return on, zero_point
    return Grid(on.low - middle, on.high - middle, on.bound), None


def exportable(model: nn.Module, *, shifted: bool = False) -> nn.Module:
    """Returns a copy of a calibrated model whose quantizers are these operators.

    Args:
        model: calibrated; not changed.
        shifted: store signed activations unsigned, 0 in the middle. The steps are the same; a runtime whose kernels
            take and give one type can then run a layer with a signed input and an unsigned output.

    Example:
        >>> model = exportable(qzoo.create("resnet8_digits_int8", pretrained=True))
        >>> type(model.conv1.input_quantizer).__name__
        'ExportedActivation'
    """
    exported = copy_model(model).eval()
    weights = {path: one.values for path, one in quantized_weights(model).items()}
    for path, quantizer in quantizers(exported).items():
        if quantizer.state != "quantizing":
            continue  # whoever switched it off wants the layer in float
        owner, _, role = path.rpartition(".")
        layer = exported.get_submodule(owner)
        stands: nn.Module
        if (weight := weights.get(path)) is not None:
            stands = ExportedWeight(quantizer, weight.detach())
        else:
            stands = ExportedActivation(quantizer, shifted=shifted)
        layer._modules[role] = stands
    return exported


class ExportedActivation(nn.Module):
    """A quantizer of an activation: `quantize_dequantize`, within the ends of the grid where the type has more.

    What comes to a range that holds nothing is clipped to 0: a scale that made it 0 could not be used.
    """

    scale: Tensor
    zero_point: Tensor

    def __init__(self, quantizer: TensorQuantizer, *, shifted: bool = False) -> None:
        super().__init__()
        on, own_zero = stored_grid(quantizer)
        dtype = stored_dtype(on.fp8, quantizer.spec.bits, unsigned=on.low == 0)
        zero, middle = int(own_zero) if own_zero is not None else 0, shifted and dtype in SHIFTED
        empty = float(quantization_scale(quantizer.amax, on)) == 0
        scale = torch.tensor(EMPTY_SCALE) if empty else step_size(quantizer.amax, on)
        self.register_buffer("scale", scale)
        stored, shift = (SHIFTED[dtype], torch.iinfo(dtype).max + 1) if middle else (dtype, 0)
        self.register_buffer("zero_point", torch.tensor(zero + shift, dtype=stored))
        self.ends: tuple[float, float] | None = None
        if empty:
            self.ends = (0.0, 0.0)
        elif has_more_values(dtype, on):
            self.ends = ((on.low - zero) * float(scale), (on.high - zero) * float(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x` rounded to the grid."""
        x = x if self.ends is None else x.clamp(*self.ends)
        rounded: Tensor = quantize_dequantize(x, self.scale, self.zero_point)
        return rounded


class ExportedWeight(nn.Module):
    """A quantizer of a weight, which gives the stored values of the layer's own, whatever it is shown."""

    values: Tensor
    scale: Tensor
    zero_point: Tensor

    def __init__(self, quantizer: TensorQuantizer, weight: Tensor) -> None:
        super().__init__()
        (on, zero), amax = stored_grid(quantizer), along_weight(quantizer.amax, weight)
        zero = torch.zeros_like(amax) if zero is None else along_weight(zero, weight)
        self.state, self.grid = quantizer.state, on
        dtype = stored_dtype(on.fp8, quantizer.spec.bits, unsigned=on.low == 0)
        values, scale = quantize(weight, amax, on, zero if zero.any() else None).to(dtype), step_size(amax, on)
        axes = [dim for dim, size in enumerate(amax.shape) if size > 1] or [0]
        # ONNX knows scales along one axis: the inputs and outputs of the groups become one.
        self.axis, self.apart = axes[0], tuple(weight.shape[:2]) if len(axes) > 1 else None
        self.register_buffer("values", values if self.apart is None else values.flatten(0, 1))
        one = scale.flatten() if scale.numel() > 1 else scale.reshape(())
        self.register_buffer("scale", one)
        self.register_buffer("zero_point", zero.to(dtype).view(one.shape))

    @property
    def amax(self) -> Tensor:
        """What a layer knows a quantizer's range by, to see whether the rounded weight may be kept."""
        return self.scale

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the weight, rounded."""
        rounded: Tensor = dequantize(self.values, self.scale, self.zero_point, self.axis)
        return rounded if self.apart is None else rounded.unflatten(0, self.apart)
