"""What a model computes besides its layers: every functional operator of one pass, who evaluates it, and from what.

The model runs once on an example, as it is; a `TorchFunctionMode` sees the operators and hooks tell whose forward is
running. On the meta device this costs no arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import arguments, run
from qzoo.quant.operators import counts, operands, operator_name, weight_of
from qzoo.schema.plan import Site


@dataclass(frozen=True)
class OperatorCall:
    """One evaluation of an operator.

    Attributes:
        index: its place in the order of evaluation.
        module: path of the module whose own forward evaluates it.
        site: which one it is there; None where rules can't speak of it, as of integers.
        op: the operator's name.
        inputs: indices of the evaluations that its tensors come from; of parameters and constants there are none.
        operands: by name, the evaluation an operand comes from, if it is an activation.
        shapes: the shapes of the operands, in the order of the arguments.
        weight: how much it computes, see `weight_of`.
    """

    index: int
    module: str
    site: Site | None
    op: str
    inputs: tuple[int, ...]
    operands: dict[str, int] = field(default_factory=dict)
    shapes: tuple[torch.Size, ...] = ()
    weight: int = 0

    @property
    def is_activation(self) -> bool:
        """Whether it depends on the model's input."""
        return bool(self.inputs)


@dataclass(frozen=True)
class Trace:
    """All evaluations of one pass; the first stands for the input. And how often each module was called."""

    evaluations: list[OperatorCall]
    calls: dict[str, int]


def trace(model: nn.Module, example: Any) -> Trace:
    """Returns what a model evaluates, in evaluation mode and without gradients; the model is left as it was.

    Args:
        model: float.
        example: its input, on its device: a tensor, a tuple of arguments, or a dict of them by name.

    Raises:
        Exception: whatever the model raises on the example.
    """
    recorder = _Recorder(model, arguments(example))
    with evaluation_mode(model), torch.no_grad(), _ownership(recorder), recorder:
        run(model, example)
    return Trace(recorder.evaluations, dict(recorder.calls))


@dataclass
class _Frame:
    """A module whose own forward is running."""

    path: str
    call: int
    seen: Counter[str] = field(default_factory=Counter)


class _Recorder(TorchFunctionMode):
    def __init__(self, model: nn.Module, given: tuple[Any, ...]) -> None:
        super().__init__()
        self.paths = {module: path for path, module in model.named_modules()}
        self.constants = {id(tensor) for module in model.modules() for tensor in _held(module)}
        self.evaluations = [OperatorCall(0, "", None, "input", (0,))]
        self.source = {id(tensor): 0 for tensor in _tensors(given)}
        # A tensor that were freed could lend its id to the next.
        self.alive: list[Any] = [given]
        self.calls: Counter[str] = Counter()
        self.frames: list[_Frame] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # What an operator writes to its own input would else seem to come from itself.
        seen = self._before(func, args, kwargs)
        result = func(*args, **kwargs)
        made = list(_tensors(result))
        if made and self.frames:
            self.alive.append(result)
            evaluation = self._recorded(*seen, weight_of(func, seen[0], args, kwargs))
            self.source |= {id(tensor): evaluation.index for tensor in made}
        return result

    def enter(self, module: nn.Module) -> None:
        path = self.paths.get(module)
        if path is not None:
            self.frames.append(_Frame(path, self.calls[path]))
            self.calls[path] += 1

    def leave(self, module: nn.Module) -> None:
        if module in self.paths:
            self.frames.pop()

    def _before(self, func: Any, args: Any, kwargs: Any) -> tuple[str, list[Any], list[int]]:
        name = operator_name(func)
        origins = [self._origin(tensor) for tensor in _tensors((args, kwargs))]
        found = []
        for operand, tensor in operands(func, name, args, kwargs):
            found.append((operand, tensor, self._origin(tensor)))
        return name, found, sorted({origin for origin in origins if origin is not None})

    def _recorded(self, name: str, found: list[Any], inputs: list[int], weight: int) -> OperatorCall:
        site = None
        frame = self.frames[-1]
        if counts([(operand, tensor) for operand, tensor, _ in found]):
            site = Site(name, frame.call, frame.seen[name])
            frame.seen[name] += 1
        sources = {operand.name: origin for operand, _, origin in found if origin is not None}
        shapes = tuple(tensor.shape for _, tensor, _ in found)
        index = len(self.evaluations)
        evaluation = OperatorCall(index, frame.path, site, name, tuple(inputs), sources, shapes, weight)
        self.evaluations.append(evaluation)
        return evaluation

    def _origin(self, tensor: Tensor) -> int | None:
        """Returns the evaluation that a tensor comes from; None for parameters and what comes from them alone."""
        if id(tensor) in self.constants:
            return None
        # What no mode sees made it, scripted code or an autograd function: it follows from what came last.
        index = self.source.setdefault(id(tensor), len(self.evaluations) - 1)
        self.alive.append(tensor)
        return index if self.evaluations[index].is_activation else None


@contextmanager
def _ownership(recorder: _Recorder) -> Iterator[None]:
    # As `quant.blocks` does, so that what other hooks compute counts for the same module.
    hooks = []
    try:
        for module in recorder.paths:
            hooks.append(module.register_forward_pre_hook(lambda module, _: recorder.enter(module), prepend=True))
            hooks.append(module.register_forward_hook(lambda module, *_: recorder.leave(module)))
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _held(module: nn.Module) -> Iterator[Tensor]:
    yield from module.parameters(recurse=False)
    yield from module.buffers(recurse=False)
    yield from _tensors([value for value in vars(module).values() if isinstance(value, Tensor)])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)
