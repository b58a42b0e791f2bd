"""How the modules of a model are called in one pass: which can be run by themselves, and which follow right behind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules import activation
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves, tree_map

from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import batch_size, run
from qzoo.quant.quantizer import TensorQuantizer


@dataclass
class _Call:
    inputs: list[Tensor]
    outputs: list[Tensor]


class Calls:
    """All calls of one pass.

    Args:
        model: whose they are.
        found: by path, in the order in which they began.
        images: how many images the pass had.
    """

    def __init__(self, model: nn.Module, found: dict[str, list[_Call]], images: int) -> None:
        self._model, self._found, self._images = model, found, images
        self._order = {path: place for place, path in enumerate(found)}

    def order(self, path: str) -> int:
        """Returns its place in the order of evaluation; last where it is not called."""
        return self._order.get(path, len(self._order))

    def reason(self, path: str) -> str:
        """Returns why a module can't be run by itself; empty if it can."""
        calls = self._found.get(path, [])
        if len(calls) != 1:
            return f"it is called {len(calls)} times" if calls else "it is not called"
        (call,) = calls
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            return f"it has {len(call.inputs)} tensors in and {len(call.outputs)} out"
        if self._rows(call.inputs[0]) != self._rows(call.outputs[0]) or not self._rows(call.inputs[0]):
            return "its first axis runs over no images"
        return ""

    def behind(self, path: str) -> Iterator[str]:
        """Yields the norm and activation modules that read what a module gives, one after the other."""
        while (path := self._next(path)) != "":
            yield path

    def _next(self, path: str) -> str:
        (output,) = self._found[path][0].outputs
        inside = f"{path}."
        later = (one for one in self._found if self.order(one) > self.order(path) and not one.startswith(inside))
        return next((one for one in later if self._reads(one, output) and _is_elementwise(self._module(one))), "")

    def _reads(self, path: str, tensor: Tensor) -> bool:
        return not self.reason(path) and self._found[path][0].inputs[0] is tensor

    def _module(self, path: str) -> nn.Module:
        return self._model.get_submodule(path)

    def _rows(self, tensor: Tensor) -> int:
        """Returns how many rows an image has; 0 where the first axis does not run over images."""
        return 0 if not tensor.dim() or len(tensor) % self._images else len(tensor) // self._images


def _is_elementwise(module: nn.Module) -> bool:
    known = isinstance(module, _BatchNorm) or type(module).__module__ == activation.__name__
    return known and not any(isinstance(part, TensorQuantizer) for part in module.modules())


def record_calls(model: nn.Module, example: Any) -> Calls:
    """Returns how the modules of a model are called; it runs once, in evaluation mode.

    All that it computes is kept until then: an example should have few images, but two, to tell their axis from others.
    """
    found: dict[str, list[_Call]] = {}
    paths = {module: path for path, module in model.named_modules() if not isinstance(module, TensorQuantizer)}

    def began(module: nn.Module, args: Any, kwargs: Any) -> None:
        found.setdefault(paths[module], []).append(_Call(_different((args, kwargs)), []))

    def ended(module: nn.Module, args: Any, output: Any) -> None:
        found[paths[module]][-1].outputs = _different(output)

    hooks = [module.register_forward_pre_hook(began, with_kwargs=True) for module in paths]
    hooks += [module.register_forward_hook(ended) for module in paths]
    try:
        with evaluation_mode(model), torch.no_grad():
            run(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    return Calls(model, found, batch_size(example))


def _different(value: Any) -> list[Tensor]:
    leaves = {id(leaf): leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)}
    return list(leaves.values())


class Given(NamedTuple):
    """What a module was called with, so that it can be called with another tensor in the place of its only one."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def call(self, module: nn.Module, x: Tensor) -> Tensor:
        """Returns the only tensor that the module makes of `x`."""
        args, kwargs = tree_map(lambda leaf: x if leaf is _PLACE else leaf, (self.args, self.kwargs))
        return only_tensor(module(*args, **kwargs))


class _Place:
    """Stands where the tensor was."""


_PLACE = _Place()


def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
    """Returns a call without its tensor, which is not kept."""
    return Given(*tree_map(lambda leaf: _PLACE if isinstance(leaf, Tensor) else leaf, (args, kwargs)))


def only_tensor(value: Any) -> Tensor:
    """Returns the one tensor in what a module is given or gives."""
    (tensor,) = _different(value)
    return tensor


class _ReachedError(Exception):
    """A pass came as far as somebody wanted it to."""


class Seen(NamedTuple):
    """What was seen of a unit in one pass: the call, its tensor, and what came out; the latter None if not run."""

    given: Given
    x: Tensor
    y: Tensor | None


def passes(model: nn.Module, paths: tuple[str, ...], batches: Iterable[Any], *, through: bool) -> Iterator[Seen]:
    """Runs a model on batches, each time no further than a unit, and yields what the unit was given and gave.

    Args:
        model: in evaluation mode.
        paths: the modules of the unit, one after the other.
        batches: inputs of the model.
        through: run the unit too.
    """
    first, last = model.get_submodule(paths[0]), model.get_submodule(paths[-1])
    for batch in batches:
        seen: dict[str, Any] = {}

        def began(_: nn.Module, args: Any, kwargs: Any, seen: dict[str, Any] = seen) -> None:
            # The unit may write to its own input.
            seen["given"], seen["x"] = given(args, kwargs), only_tensor((args, kwargs)).detach().clone()
            if not through:
                raise _ReachedError

        def ended(_: nn.Module, args: Any, output: Any, seen: dict[str, Any] = seen) -> None:
            seen["y"] = only_tensor(output).detach()
            raise _ReachedError

        hooks = [first.register_forward_pre_hook(began, with_kwargs=True), last.register_forward_hook(ended)]
        try:
            with torch.no_grad():
                run(model, batch)
        except _ReachedError:
            pass
        finally:
            for hook in hooks:
                hook.remove()
        yield Seen(seen["given"], seen["x"], seen.get("y"))
