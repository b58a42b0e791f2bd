"""What a model computes besides its layers: every functional operator of one pass, who evaluates it, and from what.

The model runs once on an example, as it is; a `TorchFunctionMode` sees the operators and hooks tell whose forward is
running. On the meta device this costs no arithmetic.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import arguments, run
from qzoo.quant.operators.composite import OperatorMode
from qzoo.quant.operators.operands import LOOKUPS, MULTIPLYING, RECURRENT, Channels, channels_of, counts, operands
from qzoo.quant.operators.spellings import operator_name, weight_of
from qzoo.schema.resolution.plan import Site, WeightRead


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
        reads: by name, what an operand that is a weight reads of which parameter; the path is that in the model.
        parameters: paths of the parameters that it depends on and no other activation does.
        macs: the number of multiplications and additions, where it multiplies by a weight.
        results: the shapes of what it gives.
    """

    index: int
    module: str
    site: Site | None
    op: str
    inputs: tuple[int, ...]
    operands: dict[str, int] = field(default_factory=dict)
    shapes: tuple[torch.Size, ...] = ()
    weight: int = 0
    reads: dict[str, WeightRead] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    macs: int = 0
    results: tuple[torch.Size, ...] = ()

    @property
    def is_activation(self) -> bool:
        """Whether it depends on the model's input."""
        return bool(self.inputs)


@dataclass(frozen=True)
class Trace:
    """All evaluations of one pass; the first stands for the input.

    Attributes:
        evaluations: in order.
        calls: by path, how often each module was called.
        outputs: indices of the evaluations that the model gives.
    """

    evaluations: list[OperatorCall]
    calls: dict[str, int]
    outputs: tuple[int, ...] = ()


def trace(model: nn.Module, example: Any) -> Trace:
    """Returns what a model evaluates, in evaluation mode and without gradients; the model is left as it was.

    Args:
        model: float.
        example: its input, on its device: a tensor, a tuple of arguments, or a dict of them by name.

    Raises:
        Exception: whatever the model raises on the example.
    """
    recorder = _Recorder(model, arguments(example))
    with evaluation_mode(model), torch.inference_mode(False), torch.no_grad(), _ownership(recorder), recorder:
        given = run(model, example)
        outputs = {index for tensor in _tensors(given) if (index := recorder.origin(tensor)) is not None}
    return Trace(recorder.evaluations, dict(recorder.calls), tuple(sorted(outputs)))


@dataclass
class _Frame:
    """A module whose own forward is running."""

    path: str
    call: int
    seen: Counter[str] = field(default_factory=Counter)


class _Recorder(OperatorMode):
    def __init__(self, model: nn.Module, given: tuple[Any, ...]) -> None:
        super().__init__()
        self.paths = {module: path for path, module in model.named_modules()}
        self.constants = {id(tensor) for module in model.modules() for tensor in _held(module)}
        self.weights = _Weights(model)
        self.evaluations = [OperatorCall(0, "", None, "input", (0,))]
        self.source = {id(tensor): 0 for tensor in _tensors(given)}
        # A tensor that were freed could lend its id to the next.
        self.alive: list[Any] = [given]
        self.calls: Counter[str] = Counter()
        self.frames: list[_Frame] = []

    def evaluated(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        # What an operator writes to its own input would else seem to come from itself.
        seen = self._before(func, args, kwargs)
        result = func(*args, **kwargs)
        made = list(_tensors(result))
        if made and self.frames:
            self.alive.append(result)
            evaluation = self._recorded(*seen, weight_of(func, seen[0], args, kwargs))
            evaluation = replace(evaluation, results=tuple(tensor.shape for tensor in made))
            if seen[0] in MULTIPLYING and evaluation.is_activation:
                evaluation = self._with_weights(evaluation, seen[1], (args, kwargs), made[0])
            self.evaluations.append(evaluation)
            self.source |= {id(tensor): evaluation.index for tensor in made}
            if not evaluation.is_activation:
                self.weights.computed(made, evaluation.parameters)
        return result

    def enter(self, module: nn.Module) -> None:
        path = self.paths.get(module)
        if path is not None:
            self.frames.append(_Frame(path, self.calls[path]))
            self.calls[path] += 1

    def leave(self, module: nn.Module) -> None:
        if module in self.paths:
            self.frames.pop()

    def _before(self, func: Any, args: Any, kwargs: Any) -> tuple[str, list[Any], list[int], list[str]]:
        name = operator_name(func)
        given = list(_tensors((args, kwargs)))
        origins = [self.origin(tensor) for tensor in given]
        found = []
        for operand, tensor in operands(func, name, args, kwargs):
            found.append((operand, tensor, self.origin(tensor)))
        parameters = list(dict.fromkeys(path for tensor in given for path in self.weights.made_of(tensor)))
        return name, found, sorted({origin for origin in origins if origin is not None}), parameters

    def _recorded(
        self, name: str, found: list[Any], inputs: list[int], parameters: list[str], weight: int
    ) -> OperatorCall:
        site = None
        frame = self.frames[-1]
        if counts([(operand, tensor) for operand, tensor, _ in found]):
            site = Site(name, frame.call, frame.seen[name])
            frame.seen[name] += 1
        sources = {operand.name: origin for operand, _, origin in found if origin is not None}
        shapes = tuple(tensor.shape for _, tensor, _ in found)
        index = len(self.evaluations)
        return OperatorCall(
            index, frame.path, site, name, tuple(inputs), sources, shapes, weight, parameters=tuple(parameters)
        )

    def _with_weights(
        self, evaluation: OperatorCall, found: list[Any], given: tuple[Any, Any], result: Tensor
    ) -> OperatorCall:
        reads, macs = {}, 0
        for operand, tensor, origin in found:
            if origin is None and self.weights.made_of(tensor):
                channels = channels_of(evaluation.op, operand.name, tensor, *given)
                reads[operand.name] = self.weights.read(tensor, channels)
                macs += _macs(evaluation.op, tensor, channels, found[0][1], result)
        return replace(evaluation, reads=reads, macs=macs)

    def origin(self, tensor: Tensor) -> int | None:
        """Returns the evaluation that a tensor comes from; None for parameters and what comes from them alone."""
        if id(tensor) in self.constants:
            return None
        # What no mode sees made it, scripted code or an autograd function: it follows from what came last.
        index = self.source.setdefault(id(tensor), len(self.evaluations) - 1)
        self.alive.append(tensor)
        return index if self.evaluations[index].is_activation else None


class _Weights:
    """Parameters, and what is computed from them alone."""

    def __init__(self, model: nn.Module) -> None:
        self.parameters = dict(model.named_parameters())
        self._made_of: dict[int, tuple[str, ...]] = {
            id(parameter): (path,) for path, parameter in self.parameters.items()
        }

    def made_of(self, tensor: Tensor) -> tuple[str, ...]:
        """Returns the paths of the parameters that a tensor is, is a part of, or is computed from."""
        return self._made_of.get(id(tensor), ())

    def computed(self, made: list[Tensor], parameters: tuple[str, ...]) -> None:
        """Notes what tensors were computed from, which the recorder keeps alive."""
        if parameters:
            for tensor in made:
                self._made_of.setdefault(id(tensor), parameters)

    def read(self, tensor: Tensor, channels: Channels) -> WeightRead:
        """Returns what an operator that is given a tensor reads: a parameter, be it in parts; or what is computed."""
        paths = self.made_of(tensor)
        parameter = self.parameters[paths[0]]
        # A view remembers what it is one of.
        if len(paths) == 1 and (tensor is parameter or tensor._base is parameter):
            axis = _axis_in(parameter, tensor, channels.axis)
            size = tuple(map(int, parameter.shape))
            return WeightRead(paths[0], size, axis, channels.groups, in_parts=tensor is not parameter)
        return WeightRead(None, tuple(map(int, tensor.shape)), channels.axis, channels.groups, made_of=paths)


def _axis_in(parameter: Tensor, view: Tensor, axis: int | None) -> int | None:
    """Returns the axis of a parameter that one of a view of it runs along; None where it runs along none alone."""
    if axis is None or view is parameter:
        return axis
    steps, step = list(parameter.stride()), view.stride(axis)
    own = next((place for place, stride in enumerate(steps) if stride == step and parameter.shape[place] > 1), None)
    return own if own is not None and view.shape[axis] <= parameter.shape[own] else None


def _macs(op: str, weight: Tensor, channels: Channels, first: Tensor, result: Tensor) -> int:
    """Returns how often a weight's values are multiplied: each once for each place in the result."""
    if op in LOOKUPS:
        return 0
    if op in RECURRENT:
        return weight.numel() * (first.numel() // first.shape[-1])
    outputs = 1 if channels.axis is None else weight.shape[channels.axis] * channels.groups
    return weight.numel() * result.numel() // max(outputs, 1)


@contextmanager
def _ownership(recorder: _Recorder) -> Iterator[None]:
    # As `quant.operators.blocks` does, so that what other hooks compute counts for the same module.
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
