"""The operands of a functional operator: which of its arguments they are, and which axis of a weight its channels are.

An operator that multiplies by a parameter is a layer, whoever calls it: `F.linear(x, self.qkv.weight)`, `x @ self.w`,
`torch.lstm(x, state, weights, ...)`. Its operands are then inputs and weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qzoo.quant.operators.spellings import REFLECTED


class Operand(NamedTuple):
    """Where an operand stands among the arguments.

    Attributes:
        name: `input`, `left`, `right`, `query`, `weight` ...
        argument: position, or keyword.
        item: place in the argument, where that is a list of tensors.
    """

    name: str
    argument: int | str
    item: int | None = None


class Parameter(NamedTuple):
    """An argument that is an operand: its name as an operand, its position and its keyword."""

    name: str
    position: int
    keyword: str


INPUT = (Parameter("input", 0, "input"),)
BINARY = (Parameter("left", 0, "input"), Parameter("right", 1, "other"))
LAYER = (Parameter("input", 0, "input"), Parameter("weight", 1, "weight"))
CELL = (
    Parameter("input", 0, "input"), Parameter("hx", 1, "hx"), Parameter("weight_ih", 2, "w_ih"),
    Parameter("weight_hh", 3, "w_hh"),
)  # fmt: skip
CONVOLUTIONS = tuple(f"conv{kind}{dims}d" for kind in ("", "_transpose") for dims in (1, 2, 3))
RECURRENT = {"lstm": "LSTM", "gru": "GRU", "rnn_tanh": "RNN", "rnn_relu": "RNN"}
"""Operators that multiply by all weights of a recurrent layer, and the layer."""
LOOKUPS = ("embedding", "embedding_bag")
PARAMETERS = {
    **dict.fromkeys(("add", "sub", "mul", "div", "matmul", "inner"), BINARY),
    **dict.fromkeys(("linear", *CONVOLUTIONS), LAYER),
    **dict.fromkeys(LOOKUPS, (Parameter("weight", 1, "weight"),)),
    **dict.fromkeys((f"{name}_cell" for name in RECURRENT), CELL),
    "tensordot": (Parameter("left", 0, "a"), Parameter("right", 1, "b")),
    "bilinear": (Parameter("left", 0, "input1"), Parameter("right", 1, "input2"), Parameter("weight", 2, "weight")),
    "sdpa": (Parameter("query", 0, "query"), Parameter("key", 1, "key"), Parameter("value", 2, "value")),
}
"""The operands of an operator in the order of its arguments; of any other operator it is `input` alone."""
SPELLED_OTHERWISE: dict[Any, tuple[Parameter, ...]] = {
    **dict.fromkeys(REFLECTED, (Parameter("right", 0, "input"), Parameter("left", 1, "other"))),
    **dict.fromkeys((torch.mm, Tensor.mm, torch.bmm, Tensor.bmm), (BINARY[0], Parameter("right", 1, "mat2"))),
    **dict.fromkeys(
        (torch.addmm, Tensor.addmm, Tensor.addmm_), (Parameter("left", 1, "mat1"), Parameter("right", 2, "mat2"))
    ),
    **dict.fromkeys(
        (torch.baddbmm, Tensor.baddbmm, Tensor.baddbmm_),
        (Parameter("left", 1, "batch1"), Parameter("right", 2, "batch2")),
    ),
    **dict.fromkeys((torch.mv, Tensor.mv), (BINARY[0], Parameter("right", 1, "vec"))),
    torch.embedding: (Parameter("weight", 0, "weight"),),
    torch.embedding_bag: (Parameter("weight", 0, "weight"),),
}
"""Spellings whose operands stand elsewhere."""
MULTIPLYING = frozenset(PARAMETERS) - {"add", "sub", "mul", "div", "sdpa"} | {"einsum", *RECURRENT}
"""Operators that are layers where an operand is a parameter."""


def operands(function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[tuple[Operand, Any]]:
    """Yields the operands that are tensors, in the order in which they are passed.

    All tensors of `cat` and `stack` are one operand, `input`: what is put together shares its range.

    Args:
        function: a spelling.
        name: what `operator_name` says of it.
        args: the positional arguments of the call.
        kwargs: the keyword arguments of the call.

    Example:
        >>> x, weight = torch.ones(1, 2), torch.ones(3, 2)
        >>> [operand.name for operand, _ in operands(torch.nn.functional.linear, "linear", (x, weight), {})]
        ['input', 'weight']
    """
    if name in ("cat", "stack"):
        where, values = (0, args[0]) if args else ("tensors", kwargs["tensors"])
        yield from _items(["input"] * len(values), where, values)
    elif name == "einsum":
        yield from _operands_of_einsum(args)
    elif name in RECURRENT:
        yield from _operands_of_recurrent(args)
    else:
        for operand, position, keyword in SPELLED_OTHERWISE.get(function) or PARAMETERS.get(name, INPUT):
            argument: int | str = position if position < len(args) else keyword
            value = args[position] if position < len(args) else kwargs.get(keyword)
            if isinstance(value, Tensor):
                yield Operand(operand, argument), value
            elif operand == "hx" and value:
                yield Operand(operand, argument, 0), value[0]  # of an LSTM's state, what is multiplied


def _operands_of_einsum(args: tuple[Any, ...]) -> Iterator[tuple[Operand, Any]]:
    names = ["left", "right", *(f"operand{position}" for position in range(2, 26))]
    if len(args) == 2 and isinstance(args[1], (list, tuple)):
        yield from _items(names, 1, args[1])
    else:
        yield from (
            (Operand(name, position + 1), value)
            for position, (name, value) in enumerate(zip(names, args[1:], strict=False))
            if isinstance(value, Tensor)
        )


def _operands_of_recurrent(args: tuple[Any, ...]) -> Iterator[tuple[Operand, Any]]:
    """Yields the input, and each matrix among the weights: biases are vectors.

    The state is no operand: that of all steps but the first is computed inside.
    """
    yield Operand("input", 0), args[0]
    # A packed sequence has the sizes of its batches before the state.
    weights = 3 if isinstance(args[1], Tensor) and not args[1].is_floating_point() else 2
    for item, weight in enumerate(args[weights]):
        if weight.dim() > 1:
            yield Operand(f"weight_{item}", weights, item), weight


def _items(names: list[str], argument: int | str, values: Any) -> Iterator[tuple[Operand, Any]]:
    for item, (name, value) in enumerate(zip(names, values, strict=False)):
        if isinstance(value, Tensor):
            yield Operand(name, argument, item), value


def counts(found: list[tuple[Operand, Any]]) -> bool:
    """Whether an evaluation is one that rules can speak of: of floating-point tensors only.

    Batch norm's counter of batches is an integer: it counts in training alone, and would shift all numbers.
    """
    return bool(found) and all(value.is_floating_point() for _, value in found)


def with_operand(
    args: tuple[Any, ...], kwargs: dict[str, Any], operand: Operand, value: Tensor
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Returns the arguments with an operand replaced."""
    if isinstance(operand.argument, str):
        return args, {**kwargs, operand.argument: _with_item(kwargs[operand.argument], operand.item, value)}
    changed = list(args)
    changed[operand.argument] = _with_item(args[operand.argument], operand.item, value)
    return tuple(changed), kwargs


def _with_item(argument: Any, item: int | None, value: Tensor) -> Any:
    if item is None:
        return value
    changed = list(argument)
    changed[item] = value
    return changed


class Channels(NamedTuple):
    """Where the output channels of a weight lie.

    Attributes:
        axis: the axis along which they lie; None where there is none.
        groups: the number of groups along the first axis that have channels of their own, of a transposed convolution.
    """

    axis: int | None
    groups: int = 1


def channels_of(name: str, operand: str, weight: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Channels:
    """Returns where the output channels of a weight lie: what a runtime may scale each by its own.

    Args:
        name: what `operator_name` says of the operator.
        operand: the name of the weight among its operands.
        weight: the weight.
        args: the positional arguments of the call.
        kwargs: the keyword arguments of the call.

    Example:
        >>> x, weight = torch.ones(1, 2), torch.ones(2, 3)
        >>> channels_of("matmul", "right", weight, (x, weight), {}).axis
        1
    """
    if name == "matmul":
        return Channels(None if weight.dim() < 2 else weight.dim() - (1 if operand == "right" else 2))
    if name == "einsum":
        return Channels(_channels_of_einsum(operand, weight, args))
    if name == "tensordot":
        return Channels(_channels_of_tensordot(operand == "right", weight, args, kwargs))
    if name == "inner":
        return Channels(weight.dim() - 2 if weight.dim() > 1 else None)
    if name.startswith("conv_transpose"):
        return Channels(1, int(args[6] if len(args) > 6 else kwargs.get("groups", 1)))
    return Channels(0)


def _channels_of_tensordot(is_right: bool, weight: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    """Returns the longest axis of a weight that is not summed over."""
    dims = args[2] if len(args) > 2 else kwargs.get("dims", 2)
    if isinstance(dims, int):
        summed = set(range(dims) if is_right else range(weight.dim() - dims, weight.dim()))
    else:
        summed = {int(axis) % weight.dim() for axis in dims[is_right]}
    return max(set(range(weight.dim())) - summed, key=lambda axis: weight.shape[axis], default=None)


def _channels_of_einsum(operand: str, weight: Tensor, args: tuple[Any, ...]) -> int | None:
    """Returns the longest axis of a weight that is one of the result and of no other operand."""
    equation = args[0]
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        return None
    inputs, _, result = equation.replace(" ", "").partition("->")
    subscripts = inputs.split(",")
    place = {"left": 0, "right": 1}.get(operand, int(operand.removeprefix("operand")) if operand[-1].isdigit() else 0)
    others = set("".join(subscripts[:place] + subscripts[place + 1 :]))
    axes = [axis for axis, letter in enumerate(subscripts[place]) if letter in result and letter not in others]
    return max(axes, key=lambda axis: weight.shape[axis], default=None)
