"""What all quantized layers have in common: torch's own class, its arguments, and descriptors besides."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from qzoo.compat.pytorch_quantization.nn.modules import _utils


class QuantizedWeighted(_utils.QuantMixin):
    """Takes the arguments of the float class, and `quant_desc_input=`, `quant_desc_weight=`."""

    weight: Tensor
    bias: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mine, descriptors = _utils.split_keywords(super().__init__, kwargs)
        desc_input, desc_weight = _utils.pop_quant_desc_in_kwargs(type(self), **descriptors)
        super().__init__(*args, **mine)
        self.init_quantizer(desc_input, desc_weight)

    def _quant(self, input: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the quantized input and the quantized weight."""
        return self._input_quantizer(input), self._weight_quantizer(self.weight)


class QuantizedInput(_utils.QuantInputMixin):
    """Takes the arguments of the float class, and `quant_desc_input=`; quantizes the input, then runs its forward."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        mine, descriptors = _utils.split_keywords(super().__init__, kwargs)
        desc_input = _utils.pop_quant_desc_in_kwargs(type(self), input_only=True, **descriptors)
        super().__init__(*args, **mine)
        self.init_quantizer(desc_input)

    def forward(self, input: Tensor) -> Any:
        """Returns what the float module makes of the quantized input."""
        return super().forward(self._input_quantizer(input))  # type: ignore[misc]
