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
from qzoo.quant.inputs import run, with_images
from qzoo.quant.quantizer import TensorQuantizer


class Given(NamedTuple):
    """What a module was called with, so that it can be called with another tensor in the place of its only one."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def call(self, module: nn.Module, x: Tensor) -> Tensor:
        """Returns the only tensor that the module makes of `x`."""
        args, kwargs = tree_map(lambda leaf: x if leaf is PLACE else leaf, (self.args, self.kwargs))
        return only_tensor(module(*args, **kwargs))


class _Place:
    """Stands where the tensor was."""


PLACE = _Place()
"""Where the tensor of a call was."""


@dataclass
class _Call:
    given: Given
    inputs: list[_Seen]
    outputs: list[_Seen]
    numbers: list[Any]


class _Seen(NamedTuple):
    """A tensor at a moment: whoever writes to it makes another version."""

    tensor: Tensor
    version: int


_Found = dict[str, list[_Call]]
FEW, MORE = 2, 3
"""Images of the two passes: what has as many rows in both, or has rows for no image, is told by it."""


class Calls:
    """All calls of two passes, one of `FEW` images and one of `MORE`.

    Args:
        model: whose they are.
        few: of the first, by path, in the order in which they began.
        more: of the second.
    """

    def __init__(self, model: nn.Module, few: _Found, more: _Found) -> None:
        self._model, self._found, self._more = model, few, more
        self._order = {path: place for place, path in enumerate(few)}

    def order(self, path: str) -> int:
        """Returns its place in the order of evaluation; last where it is not called."""
        return self._order.get(path, len(self._order))

    def reason(self, path: str) -> str:
        """Returns why a module can't be run by itself; empty if it can."""
        calls = self._found.get(path, [])
        if len(calls) != 1:
            return f"it is called {len(calls)} times" if calls else "it is not called"
        (call,), more = calls, self._more.get(path, [])
        if len(call.inputs) != 1 or len(call.outputs) != 1:
            return f"it has {len(call.inputs)} tensors in and {len(call.outputs)} out"
        if len(more) != 1 or more[0].numbers != call.numbers:
            return "it is called in another way with more images"
        rows = {_rows(one, other) for one, other in zip(_tensors(call), _tensors(more[0]), strict=True)}
        return "its first axis runs over no images" if len(rows) > 1 or 0 in rows else ""

    def given(self, path: str) -> Given:
        """Returns how a module is called that can be run by itself."""
        return self._found[path][0].given

    def follows(self, path: str, before: str) -> bool:
        """Whether a module is given just what another gives, both being modules that can be run by themselves."""
        if self.reason(path) or self.reason(before):
            return False
        # Who wrote to it between the two made another version.
        one, other = self._found[path][0].inputs[0], self._found[before][0].outputs[0]
        return one.tensor is other.tensor and one.version == other.version

    def behind(self, path: str) -> Iterator[str]:
        """Yields the norm and activation modules that read what a module gives, one after the other."""
        while (path := self._next(path)) != "":
            yield path

    def _next(self, path: str) -> str:
        (output,) = self._found[path][0].outputs
        inside = f"{path}."
        later = (one for one in self._found if self.order(one) > self.order(path) and not one.startswith(inside))
        return next((one for one in later if self._reads(one, output) and _is_elementwise(self._module(one))), "")

    def _reads(self, path: str, output: _Seen) -> bool:
        return not self.reason(path) and self._found[path][0].inputs[0].tensor is output.tensor

    def _module(self, path: str) -> nn.Module:
        return self._model.get_submodule(path)


def _tensors(call: _Call) -> list[Tensor]:
    return [one.tensor for one in (*call.inputs, *call.outputs)]


def _rows(few: Tensor, more: Tensor) -> int:
    """Returns how many rows an image has; 0 where the first axis does not run over images."""
    if not few.dim() or few.shape[1:] != more.shape[1:]:
        return 0
    rows = len(few) // FEW
    return rows if (len(few), len(more)) == (FEW * rows, MORE * rows) else 0


def _is_elementwise(module: nn.Module) -> bool:
    known = isinstance(module, _BatchNorm) or type(module).__module__ == activation.__name__
    return known and not any(isinstance(part, TensorQuantizer) for part in module.modules())


def record_calls(model: nn.Module, example: Any) -> Calls:
    """Returns how the modules of a model are called; it runs twice, in evaluation mode, on images of the example."""
    return Calls(model, *(_recorded(model, with_images(example, images)) for images in (FEW, MORE)))


def _recorded(model: nn.Module, example: Any) -> _Found:
    found: _Found = {}
    paths = {module: path for path, module in model.named_modules() if not isinstance(module, TensorQuantizer)}

    def began(module: nn.Module, args: Any, kwargs: Any) -> None:
        call = _Call(given(args, kwargs), _seen((args, kwargs)), [], _numbers((args, kwargs)))
        found.setdefault(paths[module], []).append(call)

    def ended(module: nn.Module, args: Any, output: Any) -> None:
        found[paths[module]][-1].outputs = _seen(output)

    hooks = [module.register_forward_pre_hook(began, with_kwargs=True) for module in paths]
    hooks += [module.register_forward_hook(ended) for module in paths]
    try:
        with evaluation_mode(model), torch.no_grad():
            run(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _seen(value: Any) -> list[_Seen]:
    return [_Seen(tensor, tensor._version) for tensor in _different(value)]


def _numbers(value: Any) -> list[Any]:
    """Returns what may follow from the number of images."""
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, (int, float, torch.Size))]


def _different(value: Any) -> list[Tensor]:
    leaves = {id(leaf): leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)}
    return list(leaves.values())


def given(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
    """Returns a call without its tensor, which is not kept."""
    return Given(*tree_map(lambda leaf: PLACE if isinstance(leaf, Tensor) else leaf, (args, kwargs)))


def only_tensor(value: Any) -> Tensor:
    """Returns the one tensor in what a module is given or gives."""
    (tensor,) = _different(value)
    return tensor


class _ReachedError(Exception):
    """A pass came as far as somebody wanted it to."""


def passes(model: nn.Module, paths: tuple[str, ...], batches: Iterable[Any]) -> Iterator[Tensor]:
    """Runs a model on batches, each time no further than a unit, and yields what the unit is given.

    Args:
        model: in evaluation mode.
        paths: the modules of the unit, one after the other.
        batches: inputs of the model.
    """
    first = model.get_submodule(paths[0])
    for batch in batches:
        seen: list[Tensor] = []

        def began(_: nn.Module, args: Any, kwargs: Any, seen: list[Tensor] = seen) -> None:
            seen.append(only_tensor((args, kwargs)).detach())
            raise _ReachedError

        hook = first.register_forward_pre_hook(began, with_kwargs=True)
        try:
            with torch.no_grad():
                run(model, batch)
        except _ReachedError:
            pass
        finally:
            hook.remove()
        yield seen[0]
