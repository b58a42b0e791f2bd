"""Quantized layers, derived from a layer's own class.

`quantize_layer` gives a layer a subclass of its own class whose forward is: quantize the input, then the layer's own
forward with the quantized weight in sight. So timm's `Conv2dSame` still pads, a weight-standardized convolution still
standardizes, and a user's subclass still does whatever it does. The layer stays the same object, with the same
parameters under the same names.

The quantized weight is visible as `layer.weight` *only inside the layer's own forward*, on the thread that runs it.
Everywhere else `layer.weight` is the float parameter: `nn.init`, optimizers and `load_state_dict` write to it.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.derived import OWN_FORWARD, Derived, derive, runs_own_forward, underive
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.tracing import fx_node
from qzoo.quant.weight_cache import WeightCache

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


def weight_groups(layer: nn.Module) -> int:
    """Returns how many groups of channels share the axis of output channels: those of a transposed convolution.

    Its weight is `(in, out / groups, ...)`: channel `j` of group `g` owns `weight[g * in / groups:][: in / groups, j]`.
    """
    return int(layer.groups) if isinstance(layer, TRANSPOSED) else 1


def channel_shape(layer: nn.Module) -> tuple[int, ...]:
    """Returns the shape of a per-channel `amax` of the layer's weight, such as `(64, 1, 1, 1)`.

    Of a transposed convolution with groups it is `(groups, 1, out / groups, 1, 1)`; see `quant.grouped`.
    """
    axis, groups, shape = output_channel_axis(layer), weight_groups(layer), float_weight(layer).shape
    channels = tuple(size if dim == axis else 1 for dim, size in enumerate(shape))
    return channels if groups == 1 else (groups, *channels)


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


def unquantize_layer(layer: nn.Module) -> None:
    """Gives a layer, in place, its own class again, without quantizers; any other module loses its quantizers alike."""
    layer.__dict__.pop("_cache", None)
    underive(layer)
    for name in [name for name, child in layer._modules.items() if isinstance(child, TensorQuantizer)]:
        del layer._modules[name]


class QuantizedLayer(Derived):
    """What is added to a layer's own class. Made by `quantize_layer`, never by hand."""

    not_copied = ("_cache",)

    def forward(self, input: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Quantizes the input, runs the layer's own forward on the quantized weight, quantizes the output."""
        args = () if input is None else (input, *args)
        if (node := fx_node(self, args, kwargs)) is not None:
            return node
        if runs_own_forward(self):
            return super().forward(*args, **kwargs)
        args, kwargs = self._with_quantized_input(args, kwargs)
        if "weight_quantizer" not in self._modules:
            return self._quantized("output", super().forward(*args, **kwargs))
        _see_weight_first(self)
        with _visible(self):
            y = super().forward(*args, **kwargs)
        return self._quantized("output", y)

    @property
    def weight(self) -> Tensor:
        """The float parameter; inside the layer's own forward, its quantized value."""
        seen = _SIGHT.weights
        if id(self) not in seen:
            return float_weight(self)
        value = seen[id(self)]
        if value is None:
            value = seen[id(self)] = self._quantized_weight()
        return value

    # Pruning and the older weight norm replace the parameter by a plain attribute, anew before each forward.
    @weight.setter
    def weight(self, value: Tensor) -> None:
        own = _own_weight(self)
        if own is None or own.fset is None:
            self.__dict__["weight"] = value
        else:
            own.fset(self, value)

    @weight.deleter
    def weight(self) -> None:
        del self.__dict__["weight"]

    def refresh(self) -> None:
        """Forgets the quantized weight of the last call, and frees its memory."""
        self.__dict__.pop("_cache", None)

    def _with_quantized_input(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Quantizes the first tensor that the layer is given, in the order of its own forward's parameters."""
        if quantizer_of(self, "input") is None:
            return args, kwargs
        place = next((place for place, value in enumerate(args) if isinstance(value, Tensor)), None)
        if place is not None:
            return (*args[:place], self._quantized("input", args[place]), *args[place + 1 :]), kwargs
        own = self.__dict__.get(OWN_FORWARD) or self.float_class.forward
        names = [name for name in (*inspect.signature(own).parameters, *kwargs) if isinstance(kwargs.get(name), Tensor)]
        if names:
            return args, {**kwargs, names[0]: self._quantized("input", kwargs[names[0]])}
        if any(isinstance(value, (list, tuple, dict)) for value in (*args, *kwargs.values())):
            raise UnsupportedError(_without_tensor(self, (*args, *kwargs.values())))
        return args, kwargs  # of which the layer's own forward says what it lacks

    def _quantized(self, role: str, x: Tensor) -> Tensor:
        quantizer = quantizer_of(self, role)
        return x if quantizer is None else quantizer(x)

    def _quantized_weight(self) -> Tensor:
        quantizer = quantizer_of(self, "weight")
        assert quantizer is not None
        if torch.compiler.is_compiling():
            return quantizer(float_weight(self))  # type: ignore[no-any-return]
        cache: WeightCache = self.__dict__.setdefault("_cache", WeightCache())
        return cache.quantized(quantizer, float_weight(self))

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Any:
        self.refresh()
        return super()._apply(fn, recurse)  # type: ignore[no-untyped-call]


def quantizer_of(layer: nn.Module, role: str) -> TensorQuantizer | None:
    """Returns the layer's quantizer of a role, or None."""
    return cast("TensorQuantizer | None", layer._modules.get(f"{role}_quantizer"))


def _without_tensor(layer: nn.Module, given: tuple[Any, ...]) -> str:
    kinds = ", ".join(type(value).__name__ for value in given)
    return (
        f"{type(layer).__name__} was given ({kinds}) and no tensor, so its input can't be quantized. Let its forward "
        "take the tensor as an argument, or leave the input of the layer in float with a rule: input: false."
    )


class _Sight(threading.local):
    """Which layers see their quantized weight, on this thread; None until they look."""

    def __init__(self) -> None:
        self.weights: dict[int, Tensor | None] = {}


_SIGHT = _Sight()


@contextmanager
def _visible(layer: nn.Module) -> Iterator[None]:
    _SIGHT.weights[id(layer)] = None
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
    _see_weight_first(layer)
    own = _own_weight(layer)
    if own is not None and own.fget is not None:
        return own.fget(layer)  # type: ignore[no-any-return]
    return nn.Module.__getattr__(layer, "weight")  # type: ignore[return-value]


def _own_weight(layer: QuantizedLayer) -> property | None:
    """Returns the property that makes the float weight, as a parametrization has it."""
    later = (vars(kind) for kind in type(layer).__mro__ if "own_weight" in vars(kind))
    # One whose view of the weight was taken away again, as parametrizations are, makes no weight any more.
    own = next((kind["own_weight"] for kind in later if "weight" in kind), None)
    own = getattr(layer.float_class, "weight", None) if own is None else own
    return own if isinstance(own, property) else None


def _see_weight_first(layer: QuantizedLayer) -> None:
    """Puts the view of the quantized weight before a property that came after it: of a later parametrization."""
    if type(layer).weight is not QuantizedLayer.weight:
        # The class was made for this layer alone: torch's parametrizations do so.
        owner: Any = next(kind for kind in type(layer).__mro__ if "weight" in vars(kind))
        owner.own_weight, owner.weight = vars(owner)["weight"], QuantizedLayer.weight
