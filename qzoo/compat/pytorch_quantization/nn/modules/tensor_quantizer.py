"""`TensorQuantizer` of pytorch-quantization: its switches and its names, on qzoo's arithmetic and calibrators.

It differs from `qzoo.quant.quantizer.TensorQuantizer` in what scripts rely on: the buffer is called `_amax` and exists
from the first range on; without one the range is that of each tensor; calibrating and quantizing are two switches.
"""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor

from qzoo.compat.pytorch_quantization.nn.modules.quantizer_settings import QuantizerSettings
from qzoo.compat.pytorch_quantization.tensor_quant import fake_tensor_quant, grid_of, scaled_e4m3, tensor_quant
from qzoo.compat.pytorch_quantization.utils import reduce_amax
from qzoo.compat.pytorch_quantization.utils.axes import other_axes
from qzoo.errors import NotCalibratedError
from qzoo.runtimes.onnx_pair import is_exporting, quantize_dequantize_pair, untraced

__all__ = ["TensorQuantizer"]

logger = logging.getLogger(__name__)


class TensorQuantizer(QuantizerSettings):
    """Quantizes a tensor, or collects it, or clips it, as its switches say.

    Args:
        quant_desc: what it is; default: 8 bits, one signed range.
        disabled: let everything pass.
        if_quant: quantize.
        if_clip: clip to the bounds that are learned.
        if_calib: show the calibrator every tensor.

    Source: pytorch-quantization 2.2.1, `nn.TensorQuantizer`.

    Example:
        >>> from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
        >>> quantizer = TensorQuantizer(QuantDescriptor(amax=2.64, calib_method="histogram"))
        >>> quantizer
        TensorQuantizer(8bit fake per-tensor amax=2.6400 calibrator=HistogramCalibrator scale=1.0 quant)
        >>> quantizer(torch.tensor([0.03, 9.0]))
        tensor([0.0208, 2.6400])
    """

    use_fb_fake_quant = False
    """Older scripts set it before they export, calibrated or not: a range that is not there is that of the example."""
    _enable_onnx_export = False
    """Set by `enable_onnx_export`: refuse what is not calibrated, in the export and before."""

    def load_calib_amax(self, *args: Any, **kwargs: Any) -> None:
        """Takes over the range that the calibrator computes.

        Args:
            args: the positional arguments of the calibrator's `compute_amax`.
            kwargs: the keyword arguments of `compute_amax`, and `strict`: whether it is an error if the calibrator saw
                nothing; if not, the range is NaN.

        Raises:
            RuntimeError: there is no calibrator, or it saw nothing; or the range there was has another shape.
        """
        strict = kwargs.pop("strict", True)
        if self._calibrator is None:
            raise RuntimeError("Calibrator not created.")
        amax = self._calibrator.compute_amax(*args, **kwargs)
        if amax is None:
            problem = "Calibrator returned None. This usually happens when calibrator hasn't seen any tensor."
            if strict:
                raise RuntimeError(f"{problem} Passing 'strict=False' to `load_calib_amax()` will ignore the error.")
            logger.warning("%s Set amax to NaN!", problem)
            amax = torch.tensor(torch.nan)
        self._set("_amax", amax if self.amax is None else _as_shape(amax, self.amax.shape))

    def init_learn_amax(self) -> None:
        """Lets the learned bounds start at the range that is there, or at the largest of several.

        Raises:
            RuntimeError: the descriptor has no `learn_amax`, or there is no range.
        """
        if not self._learn_amax:
            raise RuntimeError("Called init_learn_amax with learn_amax=False.")
        if self.amax is None:
            raise RuntimeError("Called init_learn_amax without a range. Call load_calib_amax() before.")
        if self.amax.numel() != 1:
            logger.warning("Per channel learned amax not supported. Initializing with max(amax).")
        start = self.amax.max()
        self.clip.clip_value_min.data.copy_(-start)  # type: ignore[operator]
        self.clip.clip_value_max.data.copy_(start)  # type: ignore[operator]

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the inputs as the switches say; shape and dtype stay."""
        if self.pre_quant_scale is not None:
            inputs = inputs * self.pre_quant_scale
        if self._disabled:
            return inputs
        if self._if_calib:
            self._collect(inputs)
        if self._if_quant:
            return self._quantized(self.clip(inputs) if self._learn_amax else inputs)
        return self.clip(inputs) if self._if_clip else inputs

    def _collect(self, inputs: Tensor) -> None:
        if is_exporting() or torch.compiler.is_exporting():
            logger.warning("A quantizer is in calibration mode. Complete calibration before exporting.")
            return  # what passes is no tensor of the data
        assert self._calibrator is not None
        self._calibrator.collect(inputs.detach())

    def _quantized(self, inputs: Tensor) -> Tensor:
        if self._enable_onnx_export:
            self._check_onnx_readiness()
        if is_exporting():
            return self._exported(inputs)
        amax = self._get_amax(inputs)
        if isinstance(self._num_bits, tuple):
            return scaled_e4m3(inputs, amax, *self._num_bits)
        if self._fake_quant:
            return fake_tensor_quant(inputs, amax, self._num_bits, self._unsigned, self._narrow_range)
        outputs, self._scale = tensor_quant(inputs, amax, self._num_bits, self._unsigned)
        return outputs

    def _get_amax(self, inputs: Tensor) -> Tensor:
        """Returns the range: learned, fixed, or that of the inputs; float32, on their device."""
        if self._learn_amax:
            low, high = self.clip.clip_value_min, self.clip.clip_value_max
            amax = torch.maximum(-low, high).detach()  # type: ignore[operator, arg-type]
        elif self.amax is not None:
            amax = self.amax.to(inputs.device)
        else:
            amax = reduce_amax(inputs, axis=None if self._axis is None else other_axes(inputs, self._axis))
        return amax.float() if self._scale_amax is None else amax.float() * self._scale_amax

    def _exported(self, inputs: Tensor) -> Tensor:
        if not self.use_fb_fake_quant:
            self._check_onnx_readiness()
        on = grid_of(self._num_bits, self._unsigned, self._narrow_range)
        bits = 8 if isinstance(self._num_bits, tuple) else self._num_bits
        with untraced():
            amax = self._get_amax(inputs)
        return quantize_dequantize_pair(inputs, amax, on, bits)

    def _check_onnx_readiness(self) -> None:
        if self.amax is None and not self._learn_amax:
            raise NotCalibratedError(
                "Quantizer has not been calibrated. ONNX export requires the quantizer to be calibrated. Calibrate and "
                "load amax before exporting to ONNX."
            )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any, **kwargs: Any) -> None:
        for name in ("_amax", "_pre_quant_scale"):
            loaded = state_dict.get(prefix + name)
            if loaded is not None and name not in self._buffers:
                self.register_buffer(name, loaded.detach().clone())
            elif loaded is None and name in self._buffers:
                logger.error("%s: No %s in state_dict.", prefix[:-1], name.strip("_"))
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def _short_amax(self, fmt: str = ".4f") -> str:
        """Returns the range as it is printed: `dynamic`, `2.6400`, `[0.0000, 0.7817](64)`."""
        if self.amax is None:
            return "dynamic"
        if self.amax.numel() == 1:
            return f"{self.amax.item():{fmt}}"
        return f"[{self.amax.min().item():{fmt}}, {self.amax.max().item():{fmt}}]({self.amax.numel()})"

    def extra_repr(self) -> str:
        """Returns one line in the form of the original."""
        if self._disabled:
            return "disabled"
        parts = [
            f"{'unsigned ' if self._unsigned else ''}{self._num_bits}bit",
            "narrow" if self._narrow_range else "",
            "fake" if self._fake_quant else "",
            "per-tensor" if self._axis is None else f"axis={self._axis}",
            f"amax={self._short_amax()}",
            f"*{self._scale_amax}" if self._scale_amax else "",
            "pre_quant_scale" if self.pre_quant_scale is not None else "",
            "learned" if self._learn_amax else "",
            f"calibrator={type(self._calibrator).__name__}" if self._calibrator is not None else "",
            f"scale={self._scale}" if self._scale is not None else "",
            "quant" if self._if_quant else "",
            "clip" if self._if_clip else "",
            "calib" if self._if_calib else "",
        ]
        return " ".join(part for part in parts if part)


def _as_shape(amax: Tensor, shape: torch.Size) -> Tensor:
    """Returns a range in the shape of the one that is there, where it can be: one for all, or as many."""
    if amax.numel() == shape.numel():
        return amax.reshape(shape)
    return amax.expand(shape) if amax.numel() == 1 else amax
