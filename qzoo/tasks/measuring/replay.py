"""Rerunning a model of which only the end has changed: what ran before the change is not computed again.

A recorded forward is a tree of module calls. When some modules change, every call that ended before the first call of
a changed module would give what it gave in the recording, so it does: whole blocks at once, and inside the blocks that
hold the changed module, layer by layer. Everything from that call on is computed. The result is equal bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from qzoo.quant.inputs import run
from qzoo.quant.layers import QuantizedLayer, is_quantizable
from qzoo.quant.operators.blocks import QuantizedBlock
from qzoo.quant.outputs import walk

_PLAIN = (Tensor, int, float, bool, str, type(None))


@dataclass
class _Call:
    """One call of a module.

    Attributes:
        module: which was called.
        first: its place in the order in which calls began; those inside it have `first + 1` to `last`.
        kept: a copy of the output, where the call can be replaced by it.
    """

    module: nn.Module
    first: int
    last: int = 0
    inside: list[_Call] = field(default_factory=list)
    kept: Any = None


class Replay:
    """A model whose forward is recorded once, and then rerun with some modules changed.

    Inside `installed()` each module's `forward` is an attribute of the instance that looks at the recording first; on
    leaving everything is as it was. It has to run without gradients and outside inference mode, in which tensors count
    no versions.

    Args:
        model: in evaluation mode. The same input has to give the same output.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).eval()
        >>> replay = Replay(model)
        >>> with replay.installed(), torch.no_grad():
        ...     logits = replay.record(torch.ones(1, 2))
        ...     _ = nn.init.zeros_(model[1].weight)
        ...     torch.equal(replay.rerun(torch.ones(1, 2), [model[1]]), model(torch.ones(1, 2)))
        True
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._modules = _outside_layers(model)
        # Anything without such a layer costs no more to compute than its kept output to copy.
        self._worth_keeping = {
            module for module in self._modules if module is not model and any(map(is_quantizable, module.modules()))
        }
        self._handle: Callable[..., Any] = _compute
        self._root = _Call(model, 0)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Lets the model's module calls pass through here, for the time of the context."""
        own = {module: module.__dict__["forward"] for module in self._modules if "forward" in module.__dict__}
        for module in self._modules:
            module.__dict__["forward"] = partial(self._called, module, module.forward)
        try:
            yield
        finally:
            self._root = _Call(self.model, 0)
            for module in self._modules:
                del module.__dict__["forward"]
                module.__dict__.update({"forward": own[module]} if module in own else {})

    def record(self, x: Any) -> Any:
        """Returns what the model makes of `x`, a tensor or arguments as in `Batch.inputs`, and remembers how."""
        # The old recording goes first: two at once would need twice the memory.
        self._root = _Call(self.model, 0)
        output = self._run(_Recorder(self._root, self._worth_keeping).called, x)
        _forget_split(self._root, _spans(self._root))
        return output

    def rerun(self, x: Any, changed: Collection[nn.Module]) -> Any:
        """Returns what the model makes of the recorded `x` now that some modules are no longer as they were.

        Args:
            x: the recorded input.
            changed: all modules that have changed: quantized layers, or modules outside of them.
        """
        first = min((call.first for call in _walk(self._root) if call.module in changed), default=None)
        return self._run(_Player(self._root, first).called, x)

    def _run(self, handle: Callable[..., Any], x: Any) -> Any:
        self._handle = handle
        try:
            # A copy, as a model may begin with an operation in place.
            return run(self.model, _copied(x))
        finally:
            self._handle = _compute

    def _called(self, module: nn.Module, forward: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return self._handle(module, forward, args, kwargs)


class _Recorder:
    """Builds the tree of calls."""

    def __init__(self, root: _Call, worth_keeping: Collection[nn.Module]) -> None:
        self.root, self.worth_keeping = root, worth_keeping
        self.stack: list[_Call] = []
        self.count = 0

    def called(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        call = _Call(module, self.count) if self.stack else self.root
        self.count += 1
        if self.stack:
            self.stack[-1].inside.append(call)
        before = _marks((args, kwargs))
        self.stack.append(call)
        output = forward(*args, **kwargs)
        self.stack.pop()
        call.last = self.count - 1
        if module in self.worth_keeping and before == _marks((args, kwargs)) and _can_be_kept(output, (args, kwargs)):
            call.kept = _copied(output)
        return output


class _Player:
    """Follows the tree of calls up to the first changed module; from there on everything is computed."""

    def __init__(self, root: _Call, target: int | None) -> None:
        self.target = root.last + 1 if target is None else target
        self.expected = iter([root])
        self.following = True

    def called(self, module: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if not self.following:
            return forward(*args, **kwargs)
        call = next(self.expected)
        assert call.module is module, "the same input has to lead to the same calls"
        self.following = call.first != self.target
        if call.kept is not None and call.last < self.target:
            return _copied(call.kept)
        outer, self.expected = self.expected, iter(call.inside)
        try:
            return forward(*args, **kwargs)
        finally:
            self.expected = outer


def _compute(_: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    return forward(*args, **kwargs)


def _outside_layers(model: nn.Module) -> list[nn.Module]:
    """Returns all modules but those inside quantized layers, which change only together with their layer."""
    inside = {part for layer in model.modules() if isinstance(layer, QuantizedLayer) for part in layer.modules()}
    # Whether some are called depends on what is on: they change together with the block that holds them.
    inside |= {one for block in model.modules() if isinstance(block, QuantizedBlock) for one in block.called_when_on}
    return [module for module in model.modules() if module not in inside or isinstance(module, QuantizedLayer)]


def _walk(call: _Call) -> Iterator[_Call]:
    yield call
    for inner in call.inside:
        yield from _walk(inner)


def _spans(root: _Call) -> dict[nn.Module, tuple[int, int]]:
    """Returns from where to where the calls of each module reach."""
    spans: dict[nn.Module, tuple[int, int]] = {}
    for call in _walk(root):
        first, last = spans.get(call.module, (call.first, call.last))
        spans[call.module] = min(first, call.first), max(last, call.last)
    return spans


def _forget_split(call: _Call, spans: dict[nn.Module, tuple[int, int]]) -> tuple[int, int]:
    """Forgets outputs of calls inside which only some of a module's calls are: a module may count its calls.

    Returns:
        From where to where the calls of all modules that are called in this call reach.
    """
    reaches = [spans[call.module], *(_forget_split(inner, spans) for inner in call.inside)]
    first, last = min(reach[0] for reach in reaches), max(reach[1] for reach in reaches)
    if first < call.first or last > call.last:
        call.kept = None
    return first, last


def _marks(arguments: Any) -> list[tuple[int, int]]:
    """Returns what shows that a call has changed its arguments in place: identities and versions."""
    return [(id(leaf), leaf._version if isinstance(leaf, Tensor) else 0) for _, leaf in walk(arguments)]


def _can_be_kept(output: Any, arguments: Any) -> bool:
    """Whether a copy of the output can stand for the call: what follows must not tell one from the other."""
    leaves = tree_leaves(output)
    if not all(isinstance(leaf, _PLAIN) for leaf in leaves):
        return False
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    given = {_memory(leaf) for _, leaf in walk(arguments) if isinstance(leaf, Tensor)}
    own = {_memory(tensor) for tensor in tensors}
    # Writing into a view of an argument, or into one of two outputs that overlap, has to reach the other.
    return not own & given and len(own) == len(tensors) and all(_is_dense(tensor) for tensor in tensors)


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _is_dense(tensor: Tensor) -> bool:
    """Whether a copy has the same strides, so that the same kernels run on it."""
    return torch.empty_like(tensor, device="meta").stride() == tensor.stride()


def _copied(output: Any) -> Any:
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, output)
