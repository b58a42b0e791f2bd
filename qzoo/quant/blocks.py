"""Quantizers at operators that are no layers, such as the residual addition in a block's own forward.

`quantize_operators` gives a block a subclass of its own class. While the block's own forward runs, a
`TorchFunctionMode` sees every operator, counts those the block evaluates itself, and passes the chosen operand of the
chosen one through a quantizer. No forward is copied or traced: whatever Python the block runs, it still runs. Operators
of child modules do not count, so the count is the same in training, where batch norm counts batches and drop-path
draws: hooks on the children tell when one of them is running.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from qzoo.quant.derived import Derived, derive
from qzoo.quant.operators import IN_PLACE, Operand, counts, operands, operator_name, with_operand
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.plan import Site

Places = dict[Site, dict[str, str]]
"""By site and operand, or `output`: the name of the quantizer in the block."""


def quantize_operators(
    block: nn.Module, quantizers: Mapping[str, TensorQuantizer], places: Places, calls: int = 1
) -> None:
    """Puts quantizers at operators of a block's own forward, in place.

    Args:
        block: any module; its class changes, its identity does not. It must have none of these quantizers yet.
        quantizers: by name in the block, `residual_quantizer`.
        places: at which operand of which evaluation each of them stands.
        calls: how often the block is called in one pass through the model; each call has its own sites.

    Example:
        >>> from qzoo.schema.quantizer import QuantizerSpec
        >>> class Skip(nn.Linear):
        ...     def forward(self, x):
        ...         return x + super().forward(x)
        >>> block = Skip(2, 2)
        >>> quantizers = {"residual_quantizer": TensorQuantizer(QuantizerSpec())}
        >>> quantize_operators(block, quantizers, {Site("add", 0, 0): {"left": "residual_quantizer"}})
        >>> block
        QuantSkip(
          in_features=2, out_features=2, bias=True
          (residual_quantizer): TensorQuantizer(8bit per-tensor max, amax=?, off)
        )
    """
    derive(block, _mixin(block))
    block.__dict__["operator_places"], block.__dict__["operator_calls"] = places, (0, calls)
    for name, quantizer in quantizers.items():
        block.add_module(name, quantizer)
    for child in block.modules():
        if child is not block and not isinstance(child, TensorQuantizer) and "_tells_parent" not in child.__dict__:
            child.__dict__["_tells_parent"] = True
            child.register_forward_pre_hook(_enter)
            child.register_forward_hook(_leave, always_call=True)


class QuantizedBlock(Derived):
    """What is added to a block's own class. Made by `quantize_operators`, never by hand."""

    operator_places: Places
    operator_calls: tuple[int, int]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the block's own forward, with its quantizers at its operators."""
        call, calls = self.operator_calls
        # A plain module attribute would go through nn.Module's checks on each call.
        self.__dict__["operator_calls"] = ((call + 1) % calls, calls)
        own = _OwnOperators(self, call)
        _RUNNING.frames.append(own)
        try:
            with own:
                return super().forward(*args, **kwargs)
        finally:
            _RUNNING.frames.pop()


class QuantizedContainer(QuantizedBlock):
    """Of a block that runs what it contains, one after the other: its quantizers are none of that."""

    def __iter__(self) -> Iterator[Any]:
        """Iterates over the members, or their names, without the quantizers."""
        members = self._members()
        return iter(members if isinstance(self, nn.ModuleDict) else members.values())

    def __len__(self) -> int:
        """Counts the members, without the quantizers."""
        return len(self._members())

    def items(self) -> Any:
        """Returns names and members, of an `nn.ModuleDict`."""
        return self._members().items()

    def keys(self) -> Any:
        """Returns the names of the members, of an `nn.ModuleDict`."""
        return self._members().keys()

    def values(self) -> Any:
        """Returns the members, of an `nn.ModuleDict`."""
        return self._members().values()

    def _members(self) -> dict[str, Any]:
        return {name: child for name, child in self._modules.items() if not isinstance(child, TensorQuantizer)}


def _mixin(block: nn.Module) -> type[QuantizedBlock]:
    return QuantizedContainer if isinstance(block, nn.Sequential | nn.ModuleDict) else QuantizedBlock


class _OwnOperators(TorchFunctionMode):
    """Sees the operators of one call of a block's forward."""

    def __init__(self, block: QuantizedBlock, call: int) -> None:
        super().__init__()
        self.block, self.call = block, call
        self.ops = {site.op for site in block.operator_places}
        self.children_running = 0
        self.seen: dict[str, int] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.children_running:
            return func(*args, **kwargs)
        name = operator_name(func)
        if name not in self.ops:
            return func(*args, **kwargs)
        found = list(operands(func, name, args, kwargs))
        if not counts(found):
            return func(*args, **kwargs)
        position = self.seen.get(name, 0)
        self.seen[name] = position + 1
        places = self.block.operator_places.get(Site(name, self.call, position))
        return func(*args, **kwargs) if places is None else self._evaluate(func, args, kwargs, found, places)

    def _evaluate(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        found: list[tuple[Operand, Tensor]], places: dict[str, str],
    ) -> Any:  # fmt: skip
        written = None
        for operand, value in found:
            if operand.name in places:
                if operand.name == "left" and func in IN_PLACE:
                    written = value
                    # The gradient of the quantizer needs what it saw, and the operator is about to write there.
                    value = value.clone()  # noqa: PLW2901
                quantized = self._quantized(places[operand.name], value)
                args, kwargs = with_operand(args, kwargs, operand, quantized)
        result = func(*args, **kwargs)
        if "output" in places:
            result = self._quantized(places["output"], result)
        return result if written is None else written.copy_(result)

    def _quantized(self, quantizer: str, x: Tensor) -> Tensor:
        return self.block._modules[quantizer](x)  # type: ignore[no-any-return, misc]


class _Running(threading.local):
    """Whose own forward is running on this thread, innermost last."""

    def __init__(self) -> None:
        self.frames: list[_OwnOperators] = []


_RUNNING = _Running()


def _enter(child: nn.Module, args: Any) -> None:
    if _RUNNING.frames:
        _RUNNING.frames[-1].children_running += 1


def _leave(child: nn.Module, args: Any, output: Any) -> None:
    if _RUNNING.frames:
        _RUNNING.frames[-1].children_running -= 1
