"""Quantized layers, derived from a layer's own class.

`quantize_layer` gives a layer a subclass of its own class whose forward is: quantize the input, then the layer's own
forward with the quantized weight in sight. So timm's `Conv2dSame` still pads, a weight-standardized convolution still
standardizes, and a user's subclass still does whatever it does. The layer stays the same object, with the same
parameters under the same names.

The quantized weight is visible as `layer.weight` *only inside the layer's own forward*, on the thread that runs it.
Everywhere else `layer.weight` is the float parameter: `nn.init`, optimizers and `load_state_dict` write to it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from qzoo.quant.derived import Derived, derive
from qzoo.quant.quantizer import TensorQuantizer

WEIGHTED = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
POOLING = (
    nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d,
)  # fmt: skip
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)

ROLES = ("input", "weight", "output")


def has_weight(layer: nn.Module) -> bool:
    """Whether the layer has a weight that can be quantized."""
    return isinstance(layer, WEIGHTED)


def is_quantizable(layer: nn.Module) -> bool:
    """Whether `quantize_layer` knows the layer."""
    return isinstance(layer, WEIGHTED + POOLING)


def output_channel_axis(layer: nn.Module) -> int:
    """Returns the axis of the weight that runs over output channels (over those of one group if transposed)."""
    return 1 if isinstance(layer, TRANSPOSED) else 0


def channel_shape(layer: nn.Module) -> tuple[int, ...]:
    """Returns the shape of a per-channel `amax` of the layer's weight, such as `(64, 1, 1, 1)`."""
    axis, shape = output_channel_axis(layer), float_weight(layer).shape
    return tuple(size if dim == axis else 1 for dim, size in enumerate(shape))


def quantize_layer(layer: nn.Module, quantizers: dict[str, TensorQuantizer]) -> None:
    """Turns a layer, in place, into its quantized subclass.

    Args:
        layer: an instance of `WEIGHTED` or `POOLING`, or of a subclass; its class changes, its identity does not.
        quantizers: by role, `input`, `weight`, `output`; they become `layer.input_quantizer` and so on.

    Raises:
        TypeError: the layer is of no kind that can be quantized, or has no weight to quantize.
    """
    if not is_quantizable(layer):
        raise TypeError(f"{type(layer).__name__} can't be quantized; layers that can: convolutions, linear, pooling")
    if "weight" in quantizers and not has_weight(layer):
        raise TypeError(f"{type(layer).__name__} has no weight to quantize")
    derive(layer, QuantizedLayer)
    for role, quantizer in quantizers.items():
        # The float layer keeps its input and weight for its own gradient, so nobody may write to them either.
        quantizer.kept = has_weight(layer) and role != "output"
        setattr(layer, f"{role}_quantizer", quantizer)


class QuantizedLayer(Derived):
    """What is added to a layer's own class. Made by `quantize_layer`, never by hand."""

    not_copied = ("_cache",)

    def forward(self, input: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Quantizes the input, runs the layer's own forward on the quantized weight, quantizes the output."""
        x = self._quantized("input", input)
        if "weight_quantizer" in self._modules:
            with _visible(self, self._quantized_weight()):
                y = super().forward(x, *args, **kwargs)
        else:
            y = super().forward(x, *args, **kwargs)
        return self._quantized("output", y)

    @property
    def weight(self) -> Tensor:
        """The float parameter; inside the layer's own forward, its quantized value."""
        seen = _SIGHT.weights.get(id(self))
        return float_weight(self) if seen is None else seen

    # Pruning and the older weight norm replace the parameter by a plain attribute, anew before each forward.
    @weight.setter
    def weight(self, value: Tensor) -> None:
        self.__dict__["weight"] = value

    @weight.deleter
    def weight(self) -> None:
        del self.__dict__["weight"]

    def refresh(self) -> None:
        """Forgets the cached quantized weight. Call it after writing through `weight.data`, which leaves no trace."""
        self.__dict__.pop("_cache", None)

    def _quantized(self, role: str, x: Tensor) -> Tensor:
        quantizer = quantizer_of(self, role)
        return x if quantizer is None else quantizer(x)

    def _quantized_weight(self) -> Tensor:
        quantizer, weight = quantizer_of(self, "weight"), float_weight(self)
        assert quantizer is not None
        if not _can_cache(self, weight, quantizer.amax):
            if not torch.compiler.is_compiling():
                # A step of a fused optimizer may follow, which leaves no trace in the weight's version.
                self.refresh()
            return quantizer(weight)  # type: ignore[no-any-return]
        key = (quantizer.state, quantizer.grid, _identity(weight), _identity(quantizer.amax))
        cached = self.__dict__.get("_cache")
        if cached is None or cached[0] != key or cached[1] is not weight:
            # Made outside inference mode, so that the value serves every later mode.
            with torch.inference_mode(False), torch.no_grad():
                cached = self.__dict__["_cache"] = (key, weight, quantizer(weight))
        return cached[2]  # type: ignore[no-any-return]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self.refresh()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def quantizer_of(layer: nn.Module, role: str) -> TensorQuantizer | None:
    """Returns the layer's quantizer of a role, or None."""
    return cast("TensorQuantizer | None", layer._modules.get(f"{role}_quantizer"))


class _Sight(threading.local):
    """Which layers see which quantized weight, on this thread."""

    def __init__(self) -> None:
        self.weights: dict[int, Tensor] = {}


_SIGHT = _Sight()


@contextmanager
def _visible(layer: nn.Module, weight: Tensor) -> Iterator[None]:
    _SIGHT.weights[id(layer)] = weight
    try:
        yield
    finally:
        del _SIGHT.weights[id(layer)]


def float_weight(layer: nn.Module) -> Tensor:
    """Returns the layer's float weight: its parameter, or what a parametrization makes of it."""
    weight = layer._parameters.get("weight")
    weight = layer.__dict__.get("weight") if weight is None else weight
    if weight is not None:
        return weight
    if not isinstance(layer, QuantizedLayer):
        return layer.weight  # type: ignore[return-value]
    inherited = getattr(layer.float_class, "weight", None)
    if isinstance(inherited, property) and inherited.fget is not None:
        return inherited.fget(layer)  # type: ignore[no-any-return]
    return nn.Module.__getattr__(layer, "weight")  # type: ignore[return-value]


def _can_cache(layer: nn.Module, weight: Tensor, amax: Tensor) -> bool:
    # Only a parameter of this layer has an identity and a version to go by; a parametrized weight is new each time.
    if torch.compiler.is_compiling() or layer._parameters.get("weight") is not weight:
        return False
    # Tensors made in inference mode count no versions.
    if weight.is_inference() or amax.is_inference():
        return False
    return not ((weight.requires_grad or amax.requires_grad) and torch.is_grad_enabled())


def _identity(tensor: Tensor) -> tuple[int, int, torch.dtype, torch.device]:
    return tensor.data_ptr(), tensor._version, tensor.dtype, tensor.device
