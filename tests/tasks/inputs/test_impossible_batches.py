"""Batches of what no model can be shown: of 300, drawn from a seed, none is taken, none ends in torch's words."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import DataError
from tests.each import for_each
from tests.tasks.inputs.test_batches import TASKS, X, Y

Mutation = Callable[[random.Random], Any]
CLASSES = 10


def images(dice: random.Random) -> Tensor:
    return torch.rand(dice.choice([1, 2, 5, 8]), 1, 8, 8)


def labels(x: Tensor) -> Tensor:
    return torch.randint(0, CLASSES, (len(x),))


def shape(dice: random.Random) -> Any:
    """Any shape but `(N, 1, H, W)`."""
    sizes = [dice.choice([0, 1, 2, 3, 8]) for _ in range(dice.randrange(7))]
    if len(sizes) == 4 and sizes[1] == 1:
        sizes[1] = 3
    x = torch.rand(sizes)
    return x if dice.random() < 0.5 else (x, torch.zeros(sizes[0] if sizes else 1).long())


def dtype(dice: random.Random) -> Any:
    kinds = [torch.uint8, torch.int8, torch.int32, torch.int64, torch.bool, torch.complex64, torch.float64, torch.half]
    x = images(dice)
    return x.to(dice.choice(kinds)), labels(x)


def layout(dice: random.Random) -> Any:
    x = images(dice)
    kinds: list[Callable[[], Tensor]] = [
        x.to_sparse,
        lambda: x.to("meta"),
        lambda: x.view(len(x), 64).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(x, 0.1, 0, torch.quint8),
        lambda: torch.nested.nested_tensor(list(x), layout=torch.jagged),
    ]
    return dice.choice(kinds)(), labels(x)


def other_type(dice: random.Random) -> Any:
    x = images(dice)
    things = [
        None,
        3,
        2.5,
        "a.png",
        b"",
        object(),
        x.tolist(),
        [],
        (),
        {},
        {"x": None},
        [[]],
        set(),
        range(3),
    ]
    return dice.choice([dice.choice(things), (dice.choice(things), labels(x))])


def too_many(dice: random.Random) -> Any:
    x = images(dice)
    return (x, labels(x), *[dice.choice([x, labels(x), None]) for _ in range(dice.randrange(1, 4))])


def single_images(dice: random.Random) -> Any:
    return list(torch.rand(dice.choice([1, 2, 3, 4]), 1, 8, 8))


def not_finite(dice: random.Random) -> Any:
    x = images(dice)
    x.view(-1)[dice.randrange(x.numel())] = dice.choice([float("nan"), float("inf"), float("-inf")])
    return x, labels(x)


def wrong_labels(dice: random.Random) -> Any:
    x = images(dice)
    y = labels(x)
    kinds: list[Callable[[], Any]] = [
        lambda: y - dice.choice([100, 11, 10**12]),
        y.float,
        lambda: y.double().numpy(),
        lambda: y > 4,
        lambda: torch.eye(CLASSES)[y],
        torch.eye(CLASSES)[y].long,
        lambda: y.view(-1, 1),
        lambda: y[:-1],
        lambda: torch.cat([y, y]),
        lambda: y.to("meta"),
        lambda: torch.tensor(3),
        lambda: ["cat"] * len(y),
        lambda: [None] * len(y),
        lambda: {"y": y},
        lambda: np.array(["3"] * len(y)),
        lambda: y.to(torch.complex64),
        lambda: y.view(1, -1).to_sparse(),
        lambda: "0" * len(y),
        lambda: float("nan"),
    ]
    return x, dice.choice(kinds)()


def no_class(dice: random.Random) -> Any:
    x = images(dice)
    y = labels(x)
    y[dice.randrange(len(y))] = dice.choice([CLASSES, CLASSES + 1, 255, 2**31, 2**62])
    return x, y


MUTATIONS: list[Mutation] = [
    shape, dtype, layout, other_type, too_many, single_images, not_finite, wrong_labels, wrong_labels, no_class,
]  # fmt: skip
TRAINED_ON: set[Mutation] = {no_class}  # calibration does not look at labels


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return qzoo.create("resnet8_digits_int8", pretrained=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@for_each("seed", range(300))
def test_none_is_taken(seed: int, model: nn.Module) -> None:
    dice = random.Random(seed)
    torch.manual_seed(seed)
    mutation = dice.choice(MUTATIONS)
    item = mutation(dice)
    task = dice.choice([name for name in TASKS if name != "calibrate" or mutation not in TRAINED_ON])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(DataError, match="Item 1 of the images") as raised:
        TASKS[task](model, [(X, Y), item])
    assert len(str(raised.value)) < 1000
    if task != "finetune":  # whose first step went well and stays
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
