"""The operators of one call of a block's own forward, seen by a mode: which quantizers stand at each, and what passes.

Operators count by name, those of child modules do not. A layer whose parameter is read is known by that, wherever it is
read; everything else by its site.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

from torch import Tensor, nn
from torch.fx import Proxy
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map

from qzoo.errors import UnsupportedError
from qzoo.quant.operators.attention import WAYS, arguments, attention, of_other_way
from qzoo.quant.operators.composite import opened
from qzoo.quant.operators.operands import Operand, counts, operands, with_operand
from qzoo.quant.operators.read_weights import (
    FunctionalPlaces,
    MadeOf,
    layers_read,
    quantized_weight,
    reads_another,
    stored,
)
from qzoo.quant.operators.spellings import MOVES, operator_name, writes_in_place
from qzoo.quant.tracing import is_captured
from qzoo.schema.resolution.plan import Site, WeightRead

Places = Mapping[Site, dict[str, str]]
"""By site and operand, or `output`: the name of the quantizer in the block."""


class Block(Protocol):
    """What the mode needs to know of a block, which is a `QuantizedBlock`."""

    operator_places: Places
    operator_layers: tuple[FunctionalPlaces, ...]
    _modules: dict[str, nn.Module | None]

    @property
    def operator_weights(self) -> dict[str, WeightRead]:
        """What the quantizers of weights quantize, by their names."""


class OwnOperators(TorchFunctionMode):
    """Sees the operators of one call of a block's forward."""

    def __init__(self, block: Block, call: int) -> None:
        super().__init__()
        self.block, self.call = block, call
        self.ops = {site.op for site in block.operator_places}
        self.ops |= WAYS if self.ops & WAYS else set()
        self.children_running = 0
        self.seen: dict[str, int] = {}
        # While torch's own attention runs: what was seen before it began.
        self.before: dict[str, int] | None = None
        computed = any(layer.read.made_of for layer in block.operator_layers)
        self.made_of = MadeOf(block) if computed and not is_captured() else None

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
        result = self._computed(func, args, kwargs)
        if self.made_of is not None:
            self.made_of.note((args, kwargs), result)
        return result

    def _computed(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = operator_name(func)
        if is_captured() and name in MOVES:
            args, kwargs = tree_map(partial(stored, self.block), (args, kwargs))
        found = list(operands(func, name, args, kwargs)) if name in self.ops else []
        places = self._places(name, found) if counts(found) else {}
        if name == "sdpa" and _is_watched(self.block, places):
            return self._attention(func, args, kwargs, places)
        return self._evaluate(func, args, kwargs, found, places) if places else func(*args, **kwargs)

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
        at_site, layers = self._at(name, position), layers_read(self.block, name, found, self.made_of)
        if any(names.items() <= at_site.items() for names in layers):
            return at_site
        # The forward took another way than the one that was traced: what is read says which layer it is.
        by_weight = {operand: quantizer for names in layers[::-1] for operand, quantizer in names.items()}
        if by_weight or is_captured() or not reads_another(self.block, at_site, found, self.made_of):
            return by_weight or at_site
        return {}

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
        return quantized_weight(self.block, quantizer, read, x)


def _states(block: Block, places: dict[str, str]) -> set[str]:
    # What stands for a quantizer in a model that is exported has no state: it quantizes.
    return {getattr(block._modules[name], "state", "quantizing") for name in places.values()}


def _is_watched(block: Block, places: dict[str, str]) -> bool:
    return bool(_states(block, places) - {"off"})


def _is_quantizing(block: Block, places: dict[str, str]) -> bool:
    return "quantizing" in _states(block, places)


def _not_followed(block: Block) -> str:
    names = ", ".join(sorted({name for at_site in block.operator_places.values() for name in at_site.values()}))
    return (
        f"torch.fx can't follow the forward of {type(block).__name__}, which quantizes operators in it ({names}). "
        "Trace a module that contains it, whose leaf it then is, or the float model before qzoo.quantize."
    )
