"""Operators with weights as products of matrices: the weight as `(groups, rows, columns)`, its inputs as columns.

A row is an output channel. What a row is multiplied with at one place of the output, an image's patch under a kernel or
a token's features, is one column of the inputs: so `output = weight @ inputs` for each group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn import functional as F

from qzoo.quant.operators.operands import CONVOLUTIONS

PRODUCTS = ("linear", "matmul", *CONVOLUTIONS)
"""The operators that have a form."""
PIECE = 2**22
"""How many elements of patches lie in memory at a time, unless those of one image are more."""


class Form(NamedTuple):
    """How an operator multiplies by a weight.

    Attributes:
        op: one of `PRODUCTS`.
        operand: the operand that is the weight: of a `matmul` it may stand on either side.
        groups: the number of groups of a convolution; 1 elsewhere.
        stride: of a convolution; `padding`, `dilation` and `output_padding` alike, a number for each of its axes.
    """

    op: str
    operand: str
    groups: int = 1
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()

    @property
    def is_transposed(self) -> bool:
        """Whether it is a transposed convolution."""
        return self.op.startswith("conv_transpose")

    @property
    def channel_axis(self) -> int:
        """The axis of the output that its channels lie along, counted from the end."""
        return -1 - len(self.stride) if self.stride else -2 if self.operand == "left" else -1


def form_of(op: str, operand: str, weight: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Form | None:
    """Returns the form of an operator that reads a weight; None where it has none.

    Args:
        op: what `operator_name` says of it.
        operand: the name of the weight among its operands.
        weight: the weight.
        args: the positional arguments of the call.
        kwargs: the keyword arguments of the call.
    """
    if op in ("linear", "matmul"):
        return Form(op, operand) if weight.dim() == 2 and (op == "matmul" or operand == "weight") else None
    if op not in CONVOLUTIONS or operand != "weight":
        return None
    names = ["stride", "padding", "dilation", "groups"]
    if op.startswith("conv_transpose"):
        names = ["stride", "padding", "output_padding", "groups", "dilation"]
    given = dict(zip(names, args[3:], strict=False)) | {name: kwargs[name] for name in names if name in kwargs}
    dims = weight.dim() - 2
    stride, dilation = (_each(given.get(name, 1), dims) for name in ("stride", "dilation"))
    output_padding = _each(given.get("output_padding", 0), dims)
    padding = given.get("padding", 0)
    if isinstance(padding, str):
        # What `same` adds at the end alone, of an even kernel, is told by `_padding`.
        padding = (-1,) * dims if padding == "same" else 0
    return Form(op, operand, int(given.get("groups", 1)), stride, _each(padding, dims), dilation, output_padding)


def _each(value: Any, dims: int) -> tuple[int, ...]:
    values = tuple(map(int, value)) if isinstance(value, (tuple, list)) else (int(value),)
    return values * dims if len(values) == 1 else values


def as_matrices(form: Form, weight: Tensor) -> Tensor:
    """Returns a weight, or what broadcasts like one and has its shape, as `(groups, rows, columns)`.

    Example:
        >>> import torch
        >>> as_matrices(Form("conv2d", "weight", 2, (1, 1), (0, 0), (1, 1)), torch.zeros(6, 4, 3, 3)).shape
        torch.Size([2, 3, 36])
    """
    if not form.stride:
        return (weight.t() if form.operand == "right" else weight).unsqueeze(0)
    apart: Tensor = weight.unflatten(0, (form.groups, -1))
    return (apart.transpose(1, 2) if form.is_transposed else apart).flatten(2)


def as_weight(form: Form, matrices: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Returns what `as_matrices` made of a weight of a shape in that shape again."""
    if not form.stride:
        return matrices[0].t() if form.operand == "right" else matrices[0]
    if not form.is_transposed:
        return matrices.reshape(shape)
    apart: Tensor = matrices.unflatten(2, (shape[0] // form.groups, *shape[2:]))
    return apart.transpose(1, 2).flatten(0, 1)


def input_columns(form: Form, x: Tensor, weight: tuple[int, ...], step: int = 1) -> Iterator[Tensor]:
    """Yields the inputs of a product as `(groups, columns of the weight, places)`, piece by piece.

    Args:
        form: of the operator.
        x: what it multiplies.
        weight: the shape of the weight.
        step: which places: one of so many, evenly spread.

    Example:
        >>> import torch
        >>> form = Form("conv1d", "weight", 1, (1,), (0,), (1,))
        >>> [*input_columns(form, torch.tensor([[[1.0, 2.0, 3.0]]]), (1, 1, 2))]
        [tensor([[[1., 2.],
                 [2., 3.]]])]
    """
    if not form.stride:
        rows = (x.transpose(-2, -1) if form.operand == "left" else x).reshape(
            -1, x.shape[-2 if form.operand == "left" else -1]
        )
        yield from (
            piece.t().unsqueeze(0)
            for piece in rows[_start(step, len(rows)) :: step].split(max(1, PIECE // rows.shape[1]))
        )
        return
    images = x if x.dim() == len(form.stride) + 2 else x.unsqueeze(0)
    an_image = math.prod(weight[2:]) * images[0].numel() // max(1, math.prod(form.stride))
    for piece in images.split(max(1, PIECE // max(1, an_image))):
        yield _patches(form, piece, weight[2:], step)


def output_columns(form: Form, y: Tensor, step: int = 1) -> Tensor:
    """Returns a product, or what has its shape, as `(groups, rows of the weight, places)`: the places of all inputs.

    Example:
        >>> import torch
        >>> output_columns(Form("linear", "weight"), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([[[1., 3.],
                 [2., 4.]]])
    """
    if not form.stride:
        rows = y.movedim(form.channel_axis, -1).flatten(0, -2)
        return rows[_start(step, len(rows)) :: step].t().unsqueeze(0)
    images = y if y.dim() == len(form.stride) + 2 else y.unsqueeze(0)
    kept = images[_every(_spread_over(step, list(images.shape[2:])), middle=True)]
    apart: Tensor = kept.unflatten(1, (form.groups, -1)).movedim(0, 2)
    return apart.flatten(2)


def mean_column(form: Form, x: Tensor, weight: tuple[int, ...]) -> Tensor:
    """Returns the mean of the columns of `input_columns`, all of them, `(groups, columns of the weight, 1)`, float32.

    Example:
        >>> import torch
        >>> mean_column(Form("conv1d", "weight", 1, (1,), (0,), (1,)), torch.tensor([[[1.0, 2.0, 3.0]]]), (1, 1, 2))
        tensor([[[1.5000],
                 [2.5000]]])
    """
    if form.stride and x.dim() == len(form.stride) + 2:
        x = x.float().mean(0, keepdim=True)  # a patch of the mean image is the mean of patches
    pieces = [(piece.float().sum(2, keepdim=True), piece.shape[2]) for piece in input_columns(form, x, weight)]
    return sum(total for total, _ in pieces) / sum(count for _, count in pieces)  # type: ignore[return-value]


def _start(step: int, places: int) -> int:
    return min(step // 2, max(places - 1, 0))  # in the middle: the first place of an image lies at its border


def _patches(form: Form, x: Tensor, kernel: tuple[int, ...], step: int) -> Tensor:
    """Returns the patches of images `(N, C, ...)` as `(groups, C / groups * taps, N * places)`."""
    dims = len(kernel)
    stride = (1,) * dims if form.is_transposed else form.stride
    x = F.pad(_spread(x, form.stride) if form.is_transposed else x, _padding(form, kernel))
    span = [(size - 1) * dilation + 1 for size, dilation in zip(kernel, form.dilation, strict=True)]
    places = [(size - own) // by + 1 for size, own, by in zip(x.shape[2:], span, stride, strict=True)]
    steps = x.stride()[2:]
    windows = x.as_strided(
        (len(x), x.shape[1], *kernel, *places),
        (
            *x.stride()[:2],
            *map(math.prod, zip(steps, form.dilation, strict=True)),
            *map(math.prod, zip(steps, stride, strict=True)),
        ),
    )
    if form.is_transposed:
        windows = windows.flip([2 + dim for dim in range(dims)])
    windows = windows[_every(_spread_over(step, places), middle=True)]
    apart: Tensor = windows.unflatten(1, (form.groups, -1)).movedim(0, 3 + dims - 1)
    return apart.flatten(2 + dims).flatten(1, 1 + dims)


def _spread(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """Returns images with zeros between their pixels: what a transposed convolution slides over."""
    sizes = [(size - 1) * by + 1 for size, by in zip(x.shape[2:], stride, strict=True)]
    spread = x.new_zeros(*x.shape[:2], *sizes)
    spread[_every(stride)] = x
    return spread


def _every(steps: Sequence[int], middle: bool = False) -> Any:
    """Returns an index of one of so many places along each of the last axes, from the first or from the middle one."""
    return (..., *(slice(step // 2 if middle else 0, None, step) for step in steps))


def _padding(form: Form, kernel: tuple[int, ...]) -> list[int]:
    """Returns how much is added before and after each axis, the last axis first, as `F.pad` takes it."""
    both: list[int] = []
    for axis in reversed(range(len(kernel))):
        reach, padding = form.dilation[axis] * (kernel[axis] - 1), form.padding[axis]
        if form.is_transposed:
            both += [reach - padding, reach - padding + form.output_padding[axis]]
        else:
            both += [reach // 2, reach - reach // 2] if padding < 0 else [padding, padding]
    return both


def _spread_over(step: int, places: list[int]) -> list[int]:
    """Returns a step along each axis, which together leave about one place of `step`.

    Example:
        >>> _spread_over(9, [8, 8]), _spread_over(4, [1, 8])
        ([3, 3], [1, 4])
    """
    steps, left = [], float(step)
    for axis, size in enumerate(places):
        own = min(size, max(1, round(left ** (1 / (len(places) - axis)))))
        steps.append(own)
        left = max(1.0, left / own)
    return steps
