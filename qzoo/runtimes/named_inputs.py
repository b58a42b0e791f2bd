"""The inputs of an exported model: each tensor that the model is given, under the name of its argument.

One alone is called `images`. What lies in an argument that is a list or a dict has its number or key behind a dot. What
is no tensor, such as a number or None, is a constant of the graph.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import onnx_ir as ir
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.inputs import arguments, batch_size, is_batched, signature, takes
from qzoo.quant.outputs import walk
from qzoo.results.export import Dynamic

INPUT = "images"
Axes = dict[int, str]
"""The dimensions of a tensor that may be of any size, with a name."""
BATCH, HEIGHT, WIDTH = "batch", "height", "width"


def named_inputs(model: nn.Module, inputs: Any) -> dict[str, Tensor]:
    """Returns the tensors that a model is given by name, in the order of its arguments.

    Args:
        model: its forward says what the arguments are called.
        inputs: a tensor, a tuple of arguments, or a dict of them by name.

    Raises:
        UnsupportedError: there is no tensor among them, or the model does not take them.

    Example:
        >>> import torch
        >>> list(named_inputs(nn.Bilinear(2, 3, 1), (torch.ones(1, 2), torch.ones(1, 3))))
        ['input1', 'input2']
    """
    given = bound(model, inputs)
    found = {".".join(map(str, path)): leaf for path, leaf in _leaves(given) if isinstance(leaf, Tensor)}
    if not found:
        raise UnsupportedError(
            f"There is no tensor in these inputs, {type(inputs).__name__}; expected a tensor, a tuple of arguments, or "
            "a dict of them by name."
        )
    return found if len(found) > 1 else {INPUT: next(iter(found.values()))}


def bound(model: nn.Module, inputs: Any) -> inspect.BoundArguments:
    """Returns what a model is called with, in the order of its arguments.

    Raises:
        UnsupportedError: the model does not take it.
    """
    args, kwargs = arguments(inputs)
    try:
        return signature(model).bind(*args, **kwargs)
    except TypeError as error:
        raise UnsupportedError(
            f"{type(model).__name__} does not take these inputs ({error}): its forward takes {takes(model)}. "
            "Give a tuple of its arguments, or a dict of them by name."
        ) from None


def dynamic_axes(named: dict[str, Tensor], dynamic: Dynamic) -> dict[str, Axes]:
    """Returns which dimensions of inputs may be of any size.

    Args:
        named: the inputs.
        dynamic: `batch`: the first dimension of all that have an element for each image; `size`: the last two of images
            too, and of what has the size of one, such as a mask `(N, H, W)`; `none`: no dimension.
    """
    if dynamic == "none":
        return {name: {} for name in named}
    images = batch_size([*named.values()])
    axes: dict[str, Axes] = {name: {0: BATCH} if is_batched(one, images) else {} for name, one in named.items()}
    if dynamic == "size":
        sizes: dict[tuple[int, ...], str] = {}
        for name, one in named.items():
            if one.dim() == 4:
                sizes.setdefault(tuple(one.shape[-2:]), re.sub(r"\W", "_", f"{name}_") if sizes else "")
        for name, one in named.items():
            prefix = sizes.get(tuple(one.shape[-2:])) if one.dim() > 2 else None
            if prefix is not None:
                axes[name] |= {one.dim() - 2: prefix + HEIGHT, one.dim() - 1: prefix + WIDTH}
    return axes


def name_inputs(graph: ir.Graph, names: list[str]) -> None:
    """Gives the inputs of a graph their names; a constant that has one already gets another."""
    for value, name in zip(graph.inputs, names, strict=True):
        if name in graph.initializers:
            graph.initializers[name].name = f"{name}.constant"
        value.name = name


def require_dynamic(graph: ir.Graph, axes: dict[str, Axes]) -> None:
    """Refuses a graph in which a dimension became fixed, because the model computes with its size.

    Raises:
        UnsupportedError: names input, dimension and size.
    """
    for value, (name, wanted) in zip(graph.inputs, axes.items(), strict=True):
        for place, axis in wanted.items():
            size = value.shape[place] if value.shape else None
            if isinstance(size, int):
                raise UnsupportedError(
                    f"The model takes {name} with a {axis} of {size} alone: something in it is made for that size. "
                    f"{_instead(axis)}"
                )


def _instead(axis: str) -> str:
    other = "none" if axis == BATCH else "batch"
    return f"Leave that fixed: --dynamic {other}, in Python dynamic='{other}'."


def _leaves(given: inspect.BoundArguments) -> Iterator[tuple[tuple[Any, ...], Any]]:
    for name, value in given.arguments.items():
        kind = given.signature.parameters[name].kind
        yield from walk(value, () if kind is inspect.Parameter.VAR_KEYWORD else (name,))
