from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from qzoo.quant.operators.operands import counts, operands, with_operand
from qzoo.quant.operators.spellings import operator_name, writes_in_place
from tests.each import for_each

A, B = torch.full((2, 2), 3.0), torch.full((2, 2), 2.0)


class Seen(TorchFunctionMode):
    """What a block's mode is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append((func, args, kwargs or {}))
        return func(*args, **(kwargs or {}))


def seen(run: Any) -> tuple[str, dict[str, Tensor], bool]:
    """Returns name, operands and whether it writes in place, of the one operator that the expression evaluates."""
    with Seen() as mode:
        run(A, B)
    ((function, args, kwargs),) = mode.calls
    name = operator_name(function)
    found = list(operands(function, name, args, kwargs))
    return name, {operand.name: value for operand, value in found}, writes_in_place(function, kwargs)


@pytest.fixture(autouse=True)
def _as_they_were() -> None:
    A.fill_(3.0)
    B.fill_(2.0)


BINARY = {
    "add": [lambda a, b: a + b, torch.add, lambda a, b: a.add(b), lambda a, b: a.add(other=b),
            lambda a, b: torch.add(input=a, other=b), lambda a, b: a.add_(b), lambda a, b: a.__iadd__(b),
            torch.ops.aten.add, torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor],
    "sub": [lambda a, b: a - b, torch.sub, torch.subtract, lambda a, b: a.subtract(b)],
    "mul": [lambda a, b: a * b, lambda a, b: a.mul_(b), torch.multiply, lambda a, b: a.multiply_(b)],
    "div": [lambda a, b: a / b, torch.div, lambda a, b: a.__itruediv__(b), torch.true_divide, lambda a, b: a.divide(b)],
    "matmul": [lambda a, b: a @ b, torch.matmul, lambda a, b: a.mm(b)],
    "einsum": [lambda a, b: torch.einsum("ij,jk", a, b), lambda a, b: torch.einsum("ij,jk", [a, b])],
}  # fmt: skip


@for_each(("name", "run"), [(name, run) for name, runs in BINARY.items() for run in runs])
def test_every_spelling_has_one_name_and_its_operands(name: str, run: Any) -> None:
    found, given, _ = seen(run)
    assert found == name
    assert set(given) == {"left", "right"}
    assert given["left"] is A
    assert given["right"] is B


@pytest.mark.parametrize(("run", "name", "operand"), [
    (lambda a, _: 1 + a, "add", "left"),  # torch hands `1 + a` on as `a + 1`
    (lambda a, _: a + 1, "add", "left"),
    (lambda a, _: 1 - a, "sub", "right"),
    (lambda a, _: 1 / a, "div", "right"),
])  # fmt: skip
def test_a_number_is_no_operand(run: Any, name: str, operand: str) -> None:
    found, given, _ = seen(run)
    assert found == name
    assert list(given) == [operand]


@for_each(("run", "name", "names"), [
    (lambda a, b: torch.cat([a, b]), "cat", ["input", "input"]),
    (lambda a, b: torch.cat(tensors=(a, b), dim=1), "cat", ["input", "input"]),
    (lambda a, b: torch.hstack([a, b]), "cat", ["input", "input"]),
    (lambda a, b: torch.stack([a, b]), "stack", ["input", "input"]),
    (lambda a, b: F.scaled_dot_product_attention(a, b, value=b), "sdpa", ["query", "key", "value"]),
    (lambda a, b: F.softmax(a, dim=1), "softmax", ["input"]),
    (lambda a, b: a.softmax(1), "softmax", ["input"]),
    (lambda a, b: F.layer_norm(a, (2,)), "layer_norm", ["input"]),
    (lambda a, b: F.gelu(a), "gelu", ["input"]),
    (lambda a, b: a.mean(0), "mean", ["input"]),
    (lambda a, b: a[0], "getitem", ["input"]),
    (lambda a, b: a.mT, "mT", ["input"]),
])  # fmt: skip
def test_other_operators(run: Any, name: str, names: list[str]) -> None:
    with Seen() as mode:
        run(A, B)
    function, args, kwargs = mode.calls[0]
    assert operator_name(function) == name
    assert [operand.name for operand, _ in operands(function, name, args, kwargs)] == names


@for_each(("run", "written"), [
    (lambda a, b: a.add_(b), True), (lambda a, b: a.__iadd__(b), True), (lambda a, b: a.relu_(), True),
    (lambda a, b: F.relu(a, inplace=True), True), (lambda a, b: torch.relu_(a), True),
    (torch.ops.aten.add_.Tensor, True), (torch.ops.aten.add.Tensor, False),
    (lambda a, b: a + b, False), (lambda a, b: F.relu(a), False), (lambda a, b: a.__add__(b), False),
])  # fmt: skip
def test_what_writes_in_place(run: Any, written: bool) -> None:
    assert seen(run)[2] is written


def test_integers_do_not_count() -> None:
    counter = torch.tensor(1)
    found = list(operands(Tensor.add_, "add", (counter, 1), {}))
    assert not counts(found)
    assert not counts([])
    assert counts(list(operands(torch.add, "add", (A, B), {})))
    assert not counts(list(operands(torch.add, "add", (A, counter), {})))


@pytest.mark.parametrize(("args", "kwargs"), [((A, B), {}), ((A,), {"other": B}), (([A, B],), {})])
def test_an_operand_is_replaced_and_the_arguments_are_not_changed(args: Any, kwargs: Any) -> None:
    name = "cat" if isinstance(args[0], list) else "add"
    function, new = {"cat": torch.cat, "add": torch.add}[name], torch.zeros(2, 2)
    operand = list(operands(function, name, args, kwargs))[-1][0]
    changed = with_operand(args, kwargs, operand, new)
    assert [value for _, value in operands(function, name, *changed)][-1] is new
    assert [value for _, value in operands(function, name, args, kwargs)][-1] is B
