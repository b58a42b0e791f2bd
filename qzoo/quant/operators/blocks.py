"""Quantizers at operators that are no layers, such as the residual addition in a block's own forward.

`quantize_operators` gives a block a subclass of its own class. While the block's own forward runs, a
`TorchFunctionMode` sees every operator, counts those the block evaluates itself, and passes the chosen operand of the
chosen one through a quantizer. No forward is copied or traced: whatever Python the block runs, it still runs. Operators
of child modules do not count, so the count is the same in training, where batch norm counts batches and drop-path
draws: hooks on the children tell when one of them is running.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule

from qzoo.quant.derived import Derived, derive, runs_own_forward
from qzoo.quant.inputs import tensors
from qzoo.quant.operators.own_operators import OwnOperators, Places
from qzoo.quant.operators.read_weights import FunctionalPlaces
from qzoo.quant.tracing import fx_node, is_captured, is_in_backward, is_transformed
from qzoo.schema.resolution.plan import WeightRead


def quantize_operators(
    block: nn.Module, quantizers: Mapping[str, nn.Module], places: Places, calls: int = 1,
    layers: Sequence[FunctionalPlaces] = (),
) -> None:  # fmt: skip
    """Puts quantizers at operators of a block's own forward, in place.

    Args:
        block: any module; its class changes, its identity does not. It must have none of these quantizers yet.
        quantizers: by name in the block, `residual_quantizer`; of any class.
        places: at which operand of which evaluation each of them stands.
        calls: how often the block is called in one pass through the model; each call has its own sites.
        layers: those of the places at which an operator reads a weight.

    Example:
        >>> from qzoo.quant.quantizer import TensorQuantizer
        >>> from qzoo.schema.resolution.plan import Site
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
    block.__dict__["operator_places"], block.__dict__["operator_calls"] = places, calls
    block.__dict__["operator_layers"], block.__dict__["operator_token"] = tuple(layers), object()
    for name, quantizer in quantizers.items():
        block.add_module(name, quantizer)
    own = {module for quantizer in quantizers.values() for module in quantizer.modules()}
    for child in block.modules():
        if child is not block and child not in own and "_tells_parent" not in child.__dict__:
            child.__dict__["_tells_parent"] = True
            # First and last of all: what other hooks compute is the child's too.
            child.register_forward_pre_hook(_enter, prepend=True)
            child.register_forward_hook(_leave, always_call=True)


def unquantize_operators(model: nn.Module) -> None:
    """Takes from a model all that `quantize_operators` noted in its modules and hung on them, in place."""
    for module in model.modules():
        for name in _NOTES:
            module.__dict__.pop(name, None)
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [number for number, hook in hooks.items() if hook in (_enter, _leave, _start)]:
                del hooks[number]
                module._forward_hooks_always_called.pop(number, None)


_NOTES = (
    "operator_places", "operator_calls", "operator_layers", "operator_token", "_tells_parent", "weight_caches",
    "computed_weights", "calls_by_input",
)  # fmt: skip


def count_calls_from_start(model: nn.Module) -> None:
    """Lets each pass through a model count the calls of its blocks anew, even after one that ended in an exception."""
    model.register_forward_pre_hook(_start)


class QuantizedBlock(Derived):
    """What is added to a block's own class. Made by `quantize_operators`, never by hand."""

    # A slice of a container is made anew, by its class alone: it has the operators of none.
    operator_places: Places = MappingProxyType({})
    operator_calls: int = 1
    operator_layers: tuple[FunctionalPlaces, ...] = ()
    not_copied = ("weight_caches", "computed_weights", "calls_by_input")
    operator_token: object = None
    """Tells blocks apart; torch.export hands on the same block as several objects."""

    @property
    def operator_weights(self) -> dict[str, WeightRead]:
        """What the quantizers of weights quantize, by their names."""
        layers = self.operator_layers
        return {layer.names[layer.operand]: layer.read for layer in layers if layer.operand in layer.names}

    @property
    def called_when_on(self) -> set[nn.Module]:
        """The quantizers that are called only while one of their operator is on: those inside attention."""
        at_attention = [names for site, names in self.operator_places.items() if site.op == "sdpa"]
        return {self._modules[name] for names in at_attention for name in names.values()}  # type: ignore[misc]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the block's own forward, with its quantizers at its operators."""
        if (node := fx_node(self, args, kwargs)) is not None:
            return node
        if runs_own_forward(self):
            return super().forward(*args, **kwargs)
        if isinstance(self, nn.RNNBase) and torch.compiler.is_dynamo_compiling():
            return _uncompiled(self, args, kwargs)
        own = OwnOperators(self, _RUNNING.call_of(self, args, kwargs) if self.operator_calls > 1 else 0)
        _RUNNING.frames.append(own)
        try:
            with own:
                return super().forward(*args, **kwargs)
        finally:
            _RUNNING.frames.pop()


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _uncompiled(block: QuantizedBlock, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Runs a recurrent layer, which dynamo does not trace, as it does not that of the float model."""
    return block.forward(*args, **kwargs)


class QuantizedContainer(QuantizedBlock):
    """A block that runs what it contains, one after the other: its quantizers are none of that."""

    def __iter__(self) -> Iterator[Any]:
        """Iterates over the members, or their names, without the quantizers."""
        members = self._members()
        return iter(members if isinstance(self, nn.ModuleDict) else members.values())

    def __getitem__(self, index: Any) -> Any:
        """Returns a member, or a container of some, which has the quantizers of none."""
        if isinstance(index, slice):
            members = list(self._members().items())[index]
            return self.float_class(OrderedDict(members) if isinstance(self, nn.Sequential) else dict(members).values())
        return super().__getitem__(index)  # type: ignore[misc]

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
        own = {name for at_site in self.operator_places.values() for name in at_site.values()}
        return {name: child for name, child in self._modules.items() if name not in own}


class QuantizedGraph(QuantizedBlock):
    """A graph of `torch.fx`, which writes its forward into its class: anew after a change, and for each copy."""

    def recompile(self) -> Any:
        """Writes the forward anew, behind the quantizers."""
        with _as_float(self):
            return self.recompile()

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        """Copies the graph, and what torch leaves out: the quantizers, which no node of it names."""
        with _as_float(self):
            twin = copy.deepcopy(self, memo)
        for own, copied in ((self.__dict__, twin.__dict__), (self._modules, twin._modules)):
            copied.update({name: copy.deepcopy(value, memo) for name, value in own.items() if name not in copied})
        derive(twin, QuantizedGraph)
        return twin


@contextmanager
def _as_float(graph: QuantizedGraph) -> Iterator[None]:
    kind = type(graph)
    graph.__class__ = kind.float_class  # type: ignore[assignment]
    try:
        yield
    finally:
        graph.__class__ = kind


def _mixin(block: nn.Module) -> type[QuantizedBlock]:
    if isinstance(block, GraphModule):
        return QuantizedGraph
    return QuantizedContainer if isinstance(block, nn.Sequential | nn.ModuleList | nn.ModuleDict) else QuantizedBlock


class _Running(threading.local):
    """Whose own forward is running on this thread, innermost last; and how often each reused block was called."""

    def __init__(self) -> None:
        self.frames: list[OwnOperators] = []
        self.calls: dict[int, int] = {}

    def call_of(self, block: QuantizedBlock, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """Returns which call of a block in a pass this is; of one that a checkpoint recomputes, which it was."""
        if is_captured():
            return self._next(block)
        memory = tuple(tensor.data_ptr() for tensor in tensors((args, kwargs)) if not is_transformed(tensor))
        if is_in_backward():
            return block.__dict__.get("calls_by_input", {}).get(memory, 0)  # type: ignore[no-any-return]
        call = self._next(block)
        if call == 0:
            block.__dict__["calls_by_input"] = {}
        block.__dict__["calls_by_input"][memory] = call
        return call

    def _next(self, block: QuantizedBlock) -> int:
        token = id(block.operator_token)
        call = self.calls.get(token, 0)
        self.calls[token] = (call + 1) % block.operator_calls
        return call


_RUNNING = _Running()


def _enter(child: nn.Module, args: Any) -> None:
    if _RUNNING.frames:
        _RUNNING.frames[-1].children_running += 1


def _leave(child: nn.Module, args: Any, output: Any) -> None:
    if _RUNNING.frames:
        _RUNNING.frames[-1].children_running -= 1


def _start(model: nn.Module, args: Any) -> None:
    _RUNNING.calls.clear()
