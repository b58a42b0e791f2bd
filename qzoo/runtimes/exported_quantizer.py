"""What stands for a quantizer in a model that is exported: an operator, with its scale, and nothing to decide."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qzoo.quant.derived import copy_model
from qzoo.quant.fake_quant import quantization_scale, quantize
from qzoo.quant.grouped import along_weight
from qzoo.quant.layers import float_weight
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.runtimes import quant_ops
from qzoo.runtimes.quant_ops import EMPTY_SCALE, has_more_values, step_size, stored_dtype

SHIFTED = {torch.int8: torch.uint8, torch.int16: torch.uint16}


def exportable(model: nn.Module, *, shifted: bool = False) -> nn.Module:
    """Returns a copy of a calibrated model whose quantizers are operators of `quant_ops`.

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
    for path, quantizer in quantizers(exported).items():
        if quantizer.state != "quantizing":
            continue  # whoever switched it off wants the layer in float
        owner, _, role = path.rpartition(".")
        layer = exported.get_submodule(owner)
        stands: nn.Module
        if role == "weight_quantizer":
            stands = ExportedWeight(quantizer, float_weight(layer).detach())
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
        on = quantizer.grid
        dtype = stored_dtype(on.fp8, quantizer.spec.bits, unsigned=on.low == 0)
        middle = shifted and dtype in SHIFTED
        zero = (torch.iinfo(SHIFTED[dtype]).max + 1) // 2 if middle else 0
        empty = float(quantization_scale(quantizer.amax, on)) == 0
        scale = torch.tensor(EMPTY_SCALE) if empty else step_size(quantizer.amax, on)
        self.register_buffer("scale", scale)
        self.register_buffer("zero_point", torch.tensor(zero, dtype=SHIFTED[dtype] if middle else dtype))
        self.ends: tuple[float, float] | None = None
        if empty:
            self.ends = (0.0, 0.0)
        elif has_more_values(dtype, on):
            self.ends = (on.low * float(scale), on.high * float(scale))

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x` rounded to the grid."""
        x = x if self.ends is None else x.clamp(*self.ends)
        rounded: Tensor = quant_ops.quantize_dequantize(x, self.scale, self.zero_point)
        return rounded


class ExportedWeight(nn.Module):
    """A quantizer of a weight, which gives the stored values of the layer's own, whatever it is shown."""

    values: Tensor
    scale: Tensor

    def __init__(self, quantizer: TensorQuantizer, weight: Tensor) -> None:
        super().__init__()
        on, amax = quantizer.grid, along_weight(quantizer.amax, weight)
        self.state, self.grid = quantizer.state, on
        dtype = stored_dtype(on.fp8, quantizer.spec.bits, unsigned=on.low == 0)
        values, scale = quantize(weight, amax, on).to(dtype), step_size(amax, on)
        axes = [dim for dim, size in enumerate(amax.shape) if size > 1] or [0]
        # ONNX knows scales along one axis: the inputs and outputs of the groups become one.
        self.axis, self.apart = axes[0], tuple(weight.shape[:2]) if len(axes) > 1 else None
        self.register_buffer("values", values if self.apart is None else values.flatten(0, 1))
        self.register_buffer("scale", scale.flatten() if scale.numel() > 1 else scale.reshape(()))

    @property
    def amax(self) -> Tensor:
        """What a layer knows a quantizer's range by, to see whether the rounded weight may be kept."""
        return self.scale

    def forward(self, weight: Tensor) -> Tensor:
        """Returns the weight, rounded."""
        rounded: Tensor = quant_ops.dequantize(self.values, self.scale, self.axis)
        return rounded if self.apart is None else rounded.unflatten(0, self.apart)
