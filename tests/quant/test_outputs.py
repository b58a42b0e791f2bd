"""What a model gives, by name."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from qzoo.errors import DataError, UnsupportedError
from qzoo.quant.outputs import logits_of, named_tensors, primary
from tests.each import for_each

A, B = torch.zeros(2, 3), torch.ones(2, 5)


@dataclass
class Result:
    logits: Tensor
    hidden: Any = None


class Pair(NamedTuple):
    scores: Tensor
    boxes: Tensor


@for_each(
    ("output", "names"),
    [
        (A, ["logits"]),
        ((A, B), ["output_0", "output_1"]),
        ([A], ["output_0"]),
        (OrderedDict(out=A, aux=B), ["out", "aux"]),
        ({"a": {"b": [A, (B,)]}, 3: B}, ["a.b.0", "a.b.1.0", "output_3"]),
        (Result(A), ["logits"]),
        (Result(A, (A, B)), ["logits", "hidden.0", "hidden.1"]),
        (Pair(A, B), ["scores", "boxes"]),
        ((A, None, {"x": B}), ["output_0", "output_2.x"]),
        ({1: A, "output_1": B}, ["output_1", "output_1_1"]),
    ],
    ids=str,
)
def test_names(output: Any, names: list[str]) -> None:
    assert list(named_tensors(output)) == names


@pytest.mark.parametrize("output", [3, "text", (A, 1.5), {"a": {"b": object()}}, None, (), [None], {}], ids=range(8))
def test_what_is_no_tensor_is_told(output: Any) -> None:
    with pytest.raises(
        UnsupportedError, match=r"^The model gives .+ Wrap it in a module whose forward gives the logits"
    ):
        named_tensors(output)


def test_where_it_is_no_tensor_is_told() -> None:
    with pytest.raises(UnsupportedError, match=r"a value of type int, in a\.b;"):
        named_tensors({"a": {"b": 3}})


@pytest.mark.parametrize(
    ("output", "which"),
    [
        (A, None), ((A,), None), ({"out": A}, None), (Result(A), None), (Result(A, [B]), None),
        ({"aux": B, "logits": A}, None), ({"aux": B, "out": A}, "out"), (Pair(A, B), "scores"),
        ((B, {"heads": [B, A]}), "output_1.heads.1"), (Result(B, A), "hidden"), ((B, A), lambda output: output[1]),
        ((A, 1.5, "text"), None), ({"logits": A, "cache": object()}, None), ({"logits": B, "other": A}, "other"),
    ],
    ids=range(14),
)  # fmt: skip
def test_logits(output: Any, which: Any) -> None:
    assert logits_of(output, which) is A


@pytest.mark.parametrize("output", [3, "text", {"a": {"b": object()}}, None, (), [None], {}], ids=range(7))
def test_an_output_without_logits_is_told(output: Any) -> None:
    with pytest.raises(UnsupportedError, match=r"^The model gives .+ without a tensor in it\. Wrap it"):
        logits_of(output)


def test_logits_that_are_not_there_are_told() -> None:
    said = (
        r"gives 2 tensors \(out \(2, 3\), aux \(2, 5\)\); none is called uot\. Did you mean 'out'\? Known: aux, out\."
    )
    with pytest.raises(DataError, match=said):
        logits_of({"out": A, "aux": B}, "uot")
    with pytest.raises(DataError, match=r"The function logits= gives tuple; expected a tensor \(images, classes\)\."):
        logits_of((A, B), lambda output: output)


def test_several_without_a_name_are_told_with_their_shapes() -> None:
    said = (
        r"gives 2 tensors \(output_0 \(2, 3\), output_1 \(2, 5\)\); none is called logits\. "
        r"Say which they are: logits='output_0', or a function that makes them of the output\."
    )
    with pytest.raises(DataError, match=said):
        logits_of((A, B))
    with pytest.raises(DataError, match="and 4 more"):
        logits_of([A] * 9)


def test_the_primary_output() -> None:
    assert (primary(["a", "logits"]), primary(["a", "b"])) == (1, 0)
