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
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Proxy
from torch.overrides import TorchFunctionMode

from qzoo.errors import UnsupportedError
from qzoo.quant.attention import WAYS, arguments, attention, of_other_way
from qzoo.quant.composite import opened
from qzoo.quant.derived import Derived, derive, runs_own_forward
from qzoo.quant.operands import Operand, counts, operands, with_operand
from qzoo.quant.operators import MOVES, operator_name, writes_in_place
from qzoo.quant.tracing import fx_node, is_captured
from qzoo.quant.weight_cache import WeightCache
from qzoo.schema.plan import Site, WeightRead

Places = Mapping[Site, dict[str, str]]
"""By site and operand, or `output`: the name of the quantizer in the block."""


class FunctionalPlaces(NamedTuple):
    """The quantizers of a layer that an operator of a block computes.

    Attributes:
        op: the operator.
        operand: the operand that is the weight.
        read: the weight.
        names: by operand, or `output`: the names of the quantizers in the block.
    """

    op: str
    operand: str
    read: WeightRead
    names: dict[str, str]


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


def count_calls_from_start(model: nn.Module) -> None:
    """Lets each pass through a model count the calls of its blocks anew, even after one that ended in an exception."""
    model.register_forward_pre_hook(_start)


class QuantizedBlock(Derived):
    """What is added to a block's own class. Made by `quantize_operators`, never by hand."""

    # A slice of a container is made anew, by its class alone: it has the operators of none.
    operator_places: Places = MappingProxyType({})
    operator_calls: int = 1
    operator_layers: tuple[FunctionalPlaces, ...] = ()
    not_copied = ("weight_caches", "computed_weights")
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
        own = _OwnOperators(self, _RUNNING.next_call(self) if self.operator_calls > 1 else 0)
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


class _OwnOperators(TorchFunctionMode):
    """Sees the operators of one call of a block's forward."""

    def __init__(self, block: QuantizedBlock, call: int) -> None:
        super().__init__()
        self.block, self.call = block, call
        self.ops = {site.op for site in block.operator_places}
        self.ops |= WAYS if self.ops & WAYS else set()
        self.children_running = 0
        self.seen: dict[str, int] = {}
        # While torch's own attention runs: what was seen before it began.
        self.before: dict[str, int] | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if any(issubclass(kind, Proxy) for kind in types):
            raise UnsupportedError(_not_followed(self.block))
        if self.children_running:
            return func(*args, **kwargs)
        if (inner := opened(func)) is not None:
            return self._opened(inner, args, kwargs)
        name = operator_name(func)
        if is_captured() and name in MOVES:
            args = tuple(self._stored(value) for value in args)
        found = list(operands(func, name, args, kwargs)) if name in self.ops else []
        places = self._places(name, found) if counts(found) else {}
        if name == "sdpa" and _is_watched(self.block, places):
            return self._attention(func, args, kwargs, places)
        return self._evaluate(func, args, kwargs, found, places) if places else func(*args, **kwargs)

    def _stored(self, value: Any) -> Any:
        """Returns a parameter that is read in parts as its quantizer makes it, so that the parts are quantized too."""
        for name, read in self.block.operator_weights.items():
            if read.in_parts and read.parameter is not None and value is _held(self.block, read.parameter):
                return self.block._modules[name](value)  # type: ignore[misc]
        return value

    def _opened(self, inner: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self.before = dict(self.seen)
        try:
            with self:
                return inner(*args, **kwargs)
        finally:
            self.seen |= self._after_traced_way(self.before)
            self.before = None

    def _after_traced_way(self, before: dict[str, int]) -> dict[str, int]:
        """Returns how many operators of either way had been seen when attention was traced: what follows counts on."""
        way = self._traced_way(before)
        if way is None:
            return {}
        (other,) = WAYS - {way}
        return {way: before.get(way, 0) + (2 if way == "matmul" else 1), other: before.get(other, 0)}

    def _traced_way(self, before: dict[str, int]) -> str | None:
        """Returns the way of attention that its quantizers stand at; None where it has none."""
        products = (self._at("matmul", before.get("matmul", 0) + product) for product in (0, 1))
        return "sdpa" if self._at("sdpa", before.get("sdpa", 0)) else "matmul" if any(products) else None

    def _places(self, name: str, found: list[tuple[Operand, Tensor]]) -> dict[str, str]:
        """Returns the quantizers of an evaluation, by operand; and counts it."""
        position = self.seen.get(name, 0)
        self.seen[name] = position + 1
        if self.before is not None and name in WAYS and self._traced_way(self.before) in WAYS - {name}:
            return self._of_other_way(name, position, self.before)
        at_site, layers = self._at(name, position), self._layers_read(name, found)
        if any(names.items() <= at_site.items() for names in layers):
            return at_site
        # The forward took another way than the one that was traced: the parameter says which layer it is.
        by_parameter = {operand: quantizer for names in layers[::-1] for operand, quantizer in names.items()}
        return by_parameter or at_site

    def _at(self, name: str, position: int) -> dict[str, str]:
        return self.block.operator_places.get(Site(name, self.call, position), {})

    def _of_other_way(self, name: str, position: int, before: dict[str, int]) -> dict[str, str]:
        (other,) = WAYS - {name}
        product = position - before.get(name, 0)
        return of_other_way(name, product, lambda of: self._at(other, before.get(other, 0) + of))

    def _evaluate(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        found: list[tuple[Operand, Tensor]], places: dict[str, str],
    ) -> Any:  # fmt: skip
        # Of `addmm_` that is no operand: it adds to what it writes to.
        written = (args[0] if args else found[0][1]) if writes_in_place(func, kwargs) else None
        for operand, value in found:
            if operand.name in places:
                quantized = self._quantized(places[operand.name], value)
                args, kwargs = with_operand(args, kwargs, operand, quantized)
        result = func(*args, **kwargs)
        if "output" in places:
            result = self._quantized(places["output"], result)
        # Who holds what was written to expects the result there.
        return result if written is None or result is written else written.copy_(result)

    def _layers_read(self, name: str, found: list[tuple[Operand, Tensor]]) -> list[dict[str, str]]:
        """Returns the quantizers of each layer whose parameter an operator reads, wherever it does."""
        layers = []
        for layer in self.block.operator_layers:
            if layer.op == name and layer.read.parameter is not None:
                parameter = _held(self.block, layer.read.parameter)
                if any(operand.name == layer.operand and _is_part(value, parameter) for operand, value in found):
                    layers.append(layer.names)
        return layers

    def _attention(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], places: dict[str, str]) -> Any:
        def quantized(operand: str, x: Tensor) -> Tensor:
            return self._quantized(places[operand], x) if operand in places else x

        result = attention(quantized, **arguments(args, kwargs))
        if not _is_quantizing(self.block, places):
            result = func(*args, **kwargs)  # what was seen is that of the float model, and so is the result
        return self._quantized(places["output"], result) if "output" in places else result

    def _quantized(self, quantizer: str, x: Tensor) -> Tensor:
        read = self.block.operator_weights.get(quantizer)
        if read is None:
            return self.block._modules[quantizer](x)  # type: ignore[no-any-return, misc]
        return _quantized_weight(self.block, quantizer, read, x)


def _states(block: QuantizedBlock, places: dict[str, str]) -> set[str]:
    # What stands for a quantizer in a model that is exported has no state: it quantizes.
    return {getattr(block._modules[name], "state", "quantizing") for name in places.values()}


def _is_watched(block: QuantizedBlock, places: dict[str, str]) -> bool:
    return bool(_states(block, places) - {"off"})


def _is_quantizing(block: QuantizedBlock, places: dict[str, str]) -> bool:
    return "quantizing" in _states(block, places)


def _is_part(value: Tensor, parameter: Tensor) -> bool:
    """Whether a tensor is a parameter, or a view of it; a compiler can't tell, and has the sites."""
    return value is parameter or (not is_captured() and value._base is parameter)


def _quantized_weight(block: QuantizedBlock, name: str, read: WeightRead, weight: Tensor) -> Tensor:
    """Returns a weight as its quantizer makes it; of a part of a parameter, that part of the whole quantized one."""
    quantizer, whole = block._modules[name], weight
    if read.parameter is not None:
        whole = _held(block, read.parameter)
        if is_captured() and whole is not weight:
            return weight  # a part of what is quantized already, see `_stored`
    elif tuple(weight.shape) != read.size:
        raise UnsupportedError(_other_weight(block, name, read, weight))
    elif not torch.is_grad_enabled() and not is_captured():
        block.__dict__.setdefault("computed_weights", {})[name] = weight.detach()
    if is_captured():
        quantized = quantizer(whole)  # type: ignore[misc]
    else:
        cache: WeightCache = block.__dict__.setdefault("weight_caches", {}).setdefault(name, WeightCache())
        quantized = cache.quantized(quantizer, whole)  # type: ignore[arg-type]
    if whole is weight:
        return quantized  # type: ignore[no-any-return]
    return _part(quantized, whole, weight)


def _other_weight(block: QuantizedBlock, name: str, read: WeightRead, weight: Tensor) -> str:
    return (
        f"{block.float_class.__name__} computes a weight of shape {tuple(weight.shape)} where it computed one of "
        f"{read.size} ({name}) when it was quantized: its forward takes another way now. Quantize the float model with "
        "an example of this way: qzoo.quantize(model, scheme, example=inputs)."
    )


def _part(quantized: Tensor, whole: Tensor, part: Tensor) -> Tensor:
    """Returns the part of a quantized parameter that a view is of the parameter itself."""
    # What is expanded may be so by the size of a batch, which an exported graph does not know.
    size = [1 if step == 0 else length for length, step in zip(part.shape, part.stride(), strict=True)]
    offset = quantized.storage_offset() + part.storage_offset() - whole.storage_offset()
    own = quantized.as_strided(size, part.stride(), offset)
    return own.expand(part.shape)


def read_weight(block: QuantizedBlock, name: str) -> Tensor | None:
    """Returns the float weight that an operator of a block reads, by the name of its quantizer.

    Of one that is computed it is the value of the last pass without gradients; None if there was none.
    """
    parameter = block.operator_weights[name].parameter
    if parameter is None:
        return block.__dict__.get("computed_weights", {}).get(name)  # type: ignore[no-any-return]
    return _held(block, parameter)


def _held(block: nn.Module, path: str) -> Tensor:
    """Returns what stands for a parameter: itself, or what `torch.func.functional_call` and the like put there."""
    return attrgetter(path)(block)  # type: ignore[no-any-return]


def _not_followed(block: QuantizedBlock) -> str:
    names = ", ".join(sorted({name for at_site in block.operator_places.values() for name in at_site.values()}))
    return (
        f"torch.fx can't follow the forward of {type(block).__name__}, which quantizes operators in it ({names}). "
        "Trace a module that contains it, whose leaf it then is, or the float model before qzoo.quantize."
    )


class _Running(threading.local):
    """Whose own forward is running on this thread, innermost last; and how often each reused block was called."""

    def __init__(self) -> None:
        self.frames: list[_OwnOperators] = []
        self.calls: dict[int, int] = {}

    def next_call(self, block: QuantizedBlock) -> int:
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
