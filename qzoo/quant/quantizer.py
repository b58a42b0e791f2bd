"""`TensorQuantizer`: the one stateful thing in the core."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from qzoo.errors import ArgumentError, UnsupportedError
from qzoo.quant.fake_quant import Grid, fake_quantize, grid, represented
from qzoo.quant.grouped import SHARED_BY_GROUPS, is_shared_by_groups
from qzoo.quant.learned_scale import SMALLEST_LEARNED, learned_fake_quantize
from qzoo.quant.tracing import fx_node
from qzoo.quant.zero_point import on_grid, zero_point_fault
from qzoo.schema.quantizer import QuantizerSpec

State = Literal["off", "calibrating", "quantizing"]


class UncalibratedWarning(UserWarning):
    """A model was used before its input quantizers had ranges: they let everything pass in float."""


class Collector(Protocol):
    """What a calibrating quantizer shows its tensors to; see `qzoo.quant.calibration.collectors`."""

    def collect(self, x: Tensor) -> None:
        """Takes note of one tensor; does not keep it."""


class Notice:
    """A warning that is given once, however many quantizers share it."""

    def __init__(self) -> None:
        self.given = False

    def give(self) -> None:
        """Warns, the first time."""
        if not self.given and not torch.compiler.is_compiling():
            self.given = True
            message = "This model is not calibrated: its activations stay in float. Run qzoo.calibrate on it first."
            warnings.warn(message, UncalibratedWarning, stacklevel=6)


class TensorQuantizer(nn.Module):
    """Fake-quantizes one tensor of a network, or watches it, or lets it pass.

    The state is `off` (x passes), `calibrating` (x passes and the collector sees it) or `quantizing`. A quantizer
    starts `off`, without a range; it is `quantizing` from the moment it gets one, by `set_amax` or from a state dict.

    Attributes:
        spec: format, bits, signedness and calibrator.
        amax: a buffer; float32, shape `()` per tensor, or broadcastable against the weight per channel.
            NaN until the quantizer has a range. While it is learned, a parameter of the same name.
        unsigned: a buffer of `unsigned: auto`, else None: whether calibration saw no negative value.
        zero_point: a buffer of `symmetric: false | auto`, else None: int32, shape of `amax`, which then is the width of
            the range. While it is learned, a parameter, float32.
        state: see above.
        collector: what sees the tensors while calibrating.
        kept: nobody writes to the tensor before the backward pass; `quantize_layer` knows.
        learned: what is quantized, while its range is a parameter that training changes; else None.
        was_learned: whether training changed the range since it was given; files don't tell.

    Example:
        >>> quantizer = TensorQuantizer(QuantizerSpec(bits=8))
        >>> quantizer.set_amax(torch.tensor(1.27))
        >>> quantizer(torch.tensor([0.004, 0.016, 9.0]))
        tensor([0.0000, 0.0200, 1.2700])
    """

    amax: Tensor
    unsigned: Tensor | None
    zero_point: Tensor | None

    def __init__(self, spec: QuantizerSpec, shape: tuple[int, ...] = (), notice: Notice | None = None) -> None:
        super().__init__()
        if not isinstance(spec, QuantizerSpec):
            raise ArgumentError(
                f"TensorQuantizer() got spec={spec!r}; expected a QuantizerSpec, of qzoo.schema.quantizer."
            )
        self.spec = spec
        self.state: State = "off"
        self.collector: Collector | None = None
        self.notice = notice
        self.kept = False
        self.learned: Literal["weight", "activation"] | None = None
        self.was_learned = False
        self.register_buffer("amax", torch.full(shape, torch.nan, dtype=torch.float32))
        # Whether `unsigned: auto` found negative values is a result like the range, so it travels with it.
        auto = torch.zeros((), dtype=torch.bool) if spec.unsigned == "auto" else None
        self.register_buffer("unsigned", auto)
        zero = torch.zeros(shape, dtype=torch.int32) if spec.has_zero_point else None
        self.register_buffer("zero_point", zero)
        self._on: Grid = self._grid()

    @property
    def calibrated(self) -> bool:
        """Whether the quantizer has a range."""
        return not self.amax.is_meta and not bool(self.amax.isnan().any())

    @property
    def grid(self) -> Grid:
        """The representable values, before scaling."""
        return self._on

    def set_amax(self, amax: Tensor, unsigned: bool | None = None, zero_point: Tensor | None = None) -> None:
        """Gives the quantizer its range and switches it to `quantizing`.

        Args:
            amax: float32, at least 0, finite, of the shape of `self.amax`; copied.
            unsigned: for `unsigned: auto`, what the calibration found.
            zero_point: for `symmetric: false | auto`: integers of the grid, of the shape of `self.amax`; copied. None
                leaves it as it is: at first 0, where the range begins at 0.

        Raises:
            ValueError: a shape is another one, a range is negative or not finite, or a zero point is none of the grid.
        """
        if tuple(amax.shape) != tuple(self.amax.shape):
            raise ValueError(f"amax has shape {tuple(amax.shape)}; this quantizer's is {tuple(self.amax.shape)}")
        if not bool((torch.isfinite(amax) & (amax >= 0)).all()):
            raise ValueError("amax has to be finite and at least 0")
        if zero_point is not None:
            self._take_zero_point(zero_point)
        self.amax.copy_(amax)
        self.was_learned = False
        if self.unsigned is not None and unsigned is not None:
            self.unsigned.fill_(unsigned)
        self._switch_on()

    def _take_zero_point(self, zero_point: Tensor) -> None:
        if self.zero_point is None:
            raise ValueError("this quantizer is symmetric, it has no zero point")
        if fault := zero_point_fault(zero_point, self.amax.shape, self._on):
            raise ValueError(f"zero_point {fault}")
        self.zero_point.copy_(zero_point)

    def learn(self, of: Literal["weight", "activation"], shared: TensorQuantizer | None = None) -> nn.Parameter:
        """Makes the range a parameter, which training changes, and the zero point another; `settle` ends that.

        Args:
            of: what is quantized; the gradient of a range depends on how many values share it, of an activation only
                those of one image count.
            shared: another quantizer, which learns; its range is to be that of both, and its zero point.

        Returns:
            The parameter of the range.

        Raises:
            UnsupportedError: there is no range to start from, or the format is no integer grid.
        """
        if self.state != "quantizing" or self._on.fp8 is not None:
            why = "it has no range yet" if self.state != "quantizing" else f"{self.spec.format} has no steps to learn"
            raise UnsupportedError(f"The range of this quantizer can't be learned: {why}.")
        start = {"amax": self.amax.detach().clone().clamp_(min=SMALLEST_LEARNED)}
        if self.zero_point is not None:
            start["zero_point"] = self.zero_point.detach().float()
        for name, own in start.items():
            del self._buffers[name]
            self.register_parameter(name, nn.Parameter(own) if shared is None else getattr(shared, name))
        self.learned = of
        assert isinstance(self.amax, nn.Parameter)
        return self.amax

    def settle(self) -> None:
        """Makes a learned range a buffer again, of the value that was learned; its zero point the nearest integer."""
        if self.learned is not None:
            amax, zero_point = self._parameters.pop("amax"), self._parameters.pop("zero_point", None)
            assert amax is not None
            self.register_buffer("amax", amax.detach().clone())
            if zero_point is not None:
                self.register_buffer("zero_point", on_grid(zero_point.detach(), self._on).to(torch.int32))
            self.learned, self.was_learned = None, True

    def become(self, other: TensorQuantizer) -> None:
        """Quantizes as another quantizer does from now on: its spec, its range and its state, which both share.

        Args:
            other: of the same tensor; of neither is the range learned.
        """
        self.spec, self.state, self.notice = other.spec, other.state, other.notice
        self._buffers.update(other._buffers)
        self._on = other._on

    def forward(self, x: Tensor) -> Tensor:
        """Returns `x` as the state says; shape and dtype stay."""
        if (node := fx_node(self, (x,), {})) is not None:
            return node  # type: ignore[return-value]
        if self.state == "quantizing":
            zero_point = self.zero_point
            if self.learned is not None and torch.is_grad_enabled():
                count = self._values_a_range(x)
                return learned_fake_quantize(x, self.amax, self._on, count, zero_point, kept=self.kept)
            if self.learned is not None and zero_point is not None:
                zero_point = on_grid(zero_point, self._on)
            return fake_quantize(x, self.amax, self._on, zero_point, kept=self.kept)
        if self.state == "calibrating" and self.collector is not None:
            self.collector.collect(x.detach())
        elif self.notice is not None:
            self.notice.give()
        return x

    def _values_a_range(self, x: Tensor) -> int:
        counted = x if self.learned == "weight" else x[:1]
        return counted.numel() // self.amax.numel()

    def _switch_on(self) -> None:
        self._on = self._grid()
        self.state = "quantizing"
        self.notice = None

    def _grid(self) -> Grid:
        unsigned = self.spec.unsigned is True or self.spec.has_zero_point
        if self.unsigned is not None and not self.unsigned.is_meta:
            unsigned = bool(self.unsigned)
        return grid(self.spec.format, self.spec.bits, unsigned, self.spec.narrow)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        given = state_dict.get(f"{prefix}zero_point")
        if self.learned is None and isinstance(given, Tensor) and given.is_floating_point():
            state_dict[f"{prefix}zero_point"] = on_grid(given, self._on)  # of a model in training; the dict is a copy
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
        if f"{prefix}amax" not in state_dict:
            return
        if is_shared_by_groups(state_dict[f"{prefix}amax"].shape, self.amax.shape):
            args[-1].append(f"{prefix}amax: {SHARED_BY_GROUPS}")  # the messages of what could not be loaded
        if self.calibrated:
            self._switch_on()
        elif self.state == "quantizing":
            self.state = "off"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # `.half()` and `.to(bfloat16)` are about weights and activations: a range that lost bits is another range.
        exact = {name: one.detach() for name in ("amax", "zero_point") if (one := getattr(self, name)) is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if exact["amax"].is_meta and not self.amax.is_meta:
            # Memory that was given to a meta model holds anything; it is no range.
            self._forget()
            return self
        for name, before in exact.items():
            now = getattr(self, name)
            if now.dtype != before.dtype:
                now.data = before.to(now.device)
        return self

    @torch.no_grad()
    def _forget(self) -> None:
        self.amax.fill_(torch.nan)
        for found in (self.unsigned, self.zero_point):
            if found is not None:
                found.zero_()

    def extra_repr(self) -> str:
        """One line: format, granularity, range, calibrator, state."""
        return f"{self.spec}, {self._range_text()}, {self.state}"

    def _range_text(self) -> str:
        if not self.calibrated:
            return "amax=?"
        if self.zero_point is not None:
            low, high = represented(self.amax.detach(), self._on, self.zero_point.detach())
            return f"from {_span(low)} to {_span(high)}, zero_point={_span(self.zero_point)}"
        return f"amax={_span(self.amax)}" + (f" ({self.amax.numel()})" if self.amax.numel() != 1 else "")


def _span(values: Tensor | float) -> str:
    low, high = torch.as_tensor(values).detach().aminmax()
    return f"{low.item():.4g}" if torch.as_tensor(values).numel() == 1 else f"{low.item():.4g}..{high.item():.4g}"
