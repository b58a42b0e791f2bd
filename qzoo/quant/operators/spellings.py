"""Functional operators by name: `a + b`, `torch.add(a, b)` and `a.add_(b)` are all `add`.

What `torch.overrides` hands to a mode is one of many spellings of an operator. This table says which are one;
`quant/operators/operands.py` says which of their arguments are operands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

SPELLINGS: dict[str, tuple[Any, ...]] = {
    "add": (torch.add, Tensor.add, Tensor.add_, Tensor.__add__, Tensor.__radd__, Tensor.__iadd__),
    "sub": (
        torch.sub, torch.subtract, Tensor.sub, Tensor.sub_, Tensor.subtract, Tensor.subtract_, Tensor.__sub__,
        Tensor.__rsub__, Tensor.__isub__,
    ),
    "mul": (
        torch.mul, torch.multiply, Tensor.mul, Tensor.mul_, Tensor.multiply, Tensor.multiply_, Tensor.__mul__,
        Tensor.__rmul__, Tensor.__imul__,
    ),
    "div": (
        torch.div, torch.divide, torch.true_divide, Tensor.div, Tensor.div_, Tensor.divide, Tensor.divide_,
        Tensor.true_divide, Tensor.true_divide_, Tensor.__truediv__, Tensor.__rdiv__, Tensor.__itruediv__,
    ),
    "matmul": (
        torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.mm, Tensor.bmm, Tensor.__matmul__, Tensor.__rmatmul__,
        torch.addmm, Tensor.addmm, Tensor.addmm_, torch.baddbmm, Tensor.baddbmm, Tensor.baddbmm_,
        torch.linalg.matmul, torch.mv, Tensor.mv,
    ),
    "inner": (torch.inner, Tensor.inner),
    "tensordot": (torch.tensordot,),
    "einsum": (torch.einsum,),
    "cat": (
        torch.cat, torch.concat, torch.concatenate, torch.hstack, torch.vstack, torch.row_stack, torch.dstack,
        torch.column_stack,
    ),
    "stack": (torch.stack,),
    "softmax": (torch.softmax, Tensor.softmax, F.softmax),
    "sdpa": (F.scaled_dot_product_attention,),
    "layer_norm": (torch.layer_norm, F.layer_norm),
    "group_norm": (torch.group_norm, F.group_norm),
    "batch_norm": (torch.batch_norm, F.batch_norm),
    "relu": (torch.relu, torch.relu_, Tensor.relu, Tensor.relu_, F.relu),
    "sigmoid": (torch.sigmoid, torch.sigmoid_, Tensor.sigmoid, Tensor.sigmoid_, F.sigmoid),
    "mean": (torch.mean, Tensor.mean),
}  # fmt: skip
_NAMES: dict[Any, str] = {function: name for name, functions in SPELLINGS.items() for function in functions}
REFLECTED = (Tensor.__radd__, Tensor.__rsub__, Tensor.__rmul__, Tensor.__rdiv__, Tensor.__rmatmul__)
"""Spellings that are called with the right operand first."""
IN_PLACE = frozenset({Tensor.__iadd__, Tensor.__isub__, Tensor.__imul__, Tensor.__itruediv__})
"""Spellings that write to the left operand; others that do end in an underscore, or are told to: `inplace=True`."""

MOVES = frozenset({
    "chunk", "clone", "contiguous", "detach", "dropout", "expand", "expand_as", "flatten", "flip", "gather", "getitem",
    "index_select", "movedim", "narrow", "pad", "permute", "pixel_shuffle", "pixel_unshuffle", "repeat", "reshape",
    "reshape_as", "roll", "select", "split", "squeeze", "swapaxes", "t", "T", "mT", "tile", "to", "transpose", "type",
    "type_as", "unbind", "unflatten", "unfold", "unsqueeze", "view", "view_as", "float", "half", "setitem",
    "broadcast_to", "split_with_sizes", "tensor_split", "masked_fill", "empty_like", "ones_like", "zeros_like",
    "new_empty", "new_zeros", "new_ones", "new_full", "channel_shuffle", "native_channel_shuffle", "data", "H", "mH",
    "dropout2d", "alpha_dropout", "rot90", "positive", "ravel", "alias", "cpu", "cuda", "double", "bfloat16",
    "dropout1d", "dropout3d", "feature_alpha_dropout", "requires_grad", "moveaxis", "adjoint", "meshgrid",
    "take_along_dim", "scatter", "scatter_", "where", "swapdims", "hsplit", "vsplit", "dsplit", "fliplr", "flipud",
    "repeat_interleave", "copy", "narrow_copy", "unsafe_chunk", "unsafe_split", "real", "conj", "resolve_conj",
    "resolve_neg", "view_as_complex", "view_as_real", "atleast_1d", "atleast_2d", "atleast_3d", "as_strided",
})  # fmt: skip
"""Operators that move values and compute none: what is quantized stays so."""


WEIGHTED = frozenset({"linear", "bilinear", "lstm", "gru", "rnn_tanh", "rnn_relu"})
"""Operators that multiply by weights, besides convolutions."""
NEUTRAL = {"add": 0, "sub": 0, "mul": 1, "div": 1, "pow": 1}
"""Numbers that an operator changes nothing with."""


def weight_of(function: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Returns how much an operator computes, to tell a branch from a skip: 0 if it changes no value.

    A layer with weights counts for two steps of arithmetic.

    Args:
        function: a spelling.
        name: what `operator_name` says of it.
        args: the positional arguments of the call.
        kwargs: the keyword arguments of the call.

    Example:
        >>> weight_of(torch.Tensor.__radd__, "add", (torch.ones(1), 0), {}), weight_of(torch.relu, "relu", (), {})
        (0, 1)
    """
    if name in MOVES or _changes_nothing(function, name, (*args, *kwargs.values())):
        return 0
    return 2 if name in WEIGHTED or name.startswith("conv") else 1


def _changes_nothing(function: Callable[..., Any], name: str, given: tuple[Any, ...]) -> bool:
    numbers = [value for value in given if isinstance(value, (int, float))]
    turned = name in ("sub", "div") and function in REFLECTED
    return name in NEUTRAL and len(numbers) == 1 == len(given) - 1 and numbers[0] == NEUTRAL[name] and not turned


def operator_name(function: Callable[..., Any]) -> str:
    """Returns the name of an operator, whatever its spelling.

    Example:
        >>> operator_name(torch.Tensor.__iadd__), operator_name(torch.nn.functional.gelu)
        ('add', 'gelu')
    """
    known = _NAMES.get(function)
    if known is not None:
        return known
    name = _own_name(function)
    if name in ("__get__", "__set__"):
        name = getattr(getattr(function, "__self__", None), "__name__", name)
    return name.strip("_")


def _own_name(function: Callable[..., Any]) -> str:
    """Returns what a spelling is called: `torch.ops.aten.add_.Tensor`, which says its overload too, is `add_`."""
    return str(getattr(function, "__name__", type(function).__name__)).partition(".")[0]


def writes_in_place(function: Callable[..., Any], kwargs: dict[str, Any]) -> bool:
    """Whether an operator writes to its first operand, which others may hold.

    Example:
        >>> writes_in_place(torch.Tensor.add_, {}), writes_in_place(torch.Tensor.add, {})
        (True, False)
    """
    name = _own_name(function)
    return function in IN_PLACE or kwargs.get("inplace") is True or (name.endswith("_") and name[-2:] != "__")
