"""Artifacts whose digest is right and whose content no model, calibration or evaluation leaves behind are refused.

Whoever publishes a file signs it: the digest says that nothing was damaged, not that it makes sense.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from qzoo.errors import WeightsError
from qzoo.weights.artifact import ArtifactInfo, read_artifact, write_artifact
from qzoo.weights.histograms import HistogramsInfo
from qzoo.weights.kinds import HISTOGRAMS, MODEL, RANGES, RECEIPT, Kind
from qzoo.weights.model_file import ModelInfo
from qzoo.weights.ranges import RangesInfo
from qzoo.weights.receipt import ReceiptInfo
from tests.weights.artifact_kinds import READERS, make

Tensors = dict[str, Tensor]
Mutation = Callable[[Tensors, dict[str, Any], random.Random], None]
NO_FINITE = (torch.nan, torch.inf, -torch.inf)
KINDS: dict[str, tuple[Kind, type[ArtifactInfo]]] = {
    "ranges.safetensors": (RANGES, RangesInfo),
    "histograms.safetensors": (HISTOGRAMS, HistogramsInfo),
    "reference.histograms.safetensors": (HISTOGRAMS, HistogramsInfo),
    "receipt.safetensors": (RECEIPT, ReceiptInfo),
    "model.safetensors": (MODEL, ModelInfo),
    "float/model.safetensors": (MODEL, ModelInfo),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    make(folder)
    return folder


def signed_anew(source: Path, target: Path, mutate: Mutation, dice: random.Random) -> None:
    """Writes an artifact with other content, and the digest of that content."""
    kind, info_type = KINDS[target.name if target.parent.name != "float" else f"float/{target.name}"]
    tensors, info = read_artifact(source, kind, info_type)
    said = info.model_dump()
    mutate(tensors, said, dice)
    # Not the class itself, which would warn of what it is made to say.
    write_artifact(target, kind, tensors, cast("ArtifactInfo", SimpleNamespace(model_dump=lambda mode: said)))


def set_one(tensor: Tensor, value: float, dice: random.Random) -> None:
    tensor.view(-1)[dice.randrange(tensor.numel())] = value


def fill(name: str, *values: float) -> Mutation:
    """One value of one tensor, whose name ends so, becomes one of these."""

    def mutate(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
        key = dice.choice([key for key in tensors if key.endswith(name)])
        set_one(tensors[key], dice.choice(values), dice)

    return mutate


def say(field: str, *values: Any) -> Mutation:
    """A field of the header becomes one of these."""

    def mutate(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
        said[field] = dice.choice(values)

    return mutate


def drop(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    del tensors[dice.choice([key for key in tensors if not key.endswith("amax")] or list(tensors))]


def no_truth_value(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    byte = torch.tensor(dice.randrange(2, 256), dtype=torch.uint8)
    tensors[f"{next(key for key in tensors if key.endswith('amax')).removesuffix('amax')}unsigned"] = byte.view(
        torch.bool
    )


def joined(part: str, *values: float) -> Mutation:
    """One value of a vector of batch norm, which a packed file stores with its neighbours."""

    def mutate(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
        key = dice.choice([key for key in tensors if part in key])
        stored = tensors[key]
        if "+" in key:
            stored = stored[key.split(".")[-1].split("+").index(part)]
        set_one(stored, dice.choice(values), dice)

    return mutate


def shift_exponent(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    tensors[dice.choice([key for key in tensors if key.endswith("exponent")])] += dice.choice([-5, -2, 1, 4, 40])


def grow_bounds(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    tensors[dice.choice([key for key in tensors if key.endswith("bounds")])].mul_(dice.choice([0.25, 2.5, 1e6, 1e-6]))


def swap_bounds(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    bounds = tensors[dice.choice([key for key in tensors if key.endswith("bounds")])]
    bounds.copy_(torch.tensor([float(bounds.abs().max()), -1.0]))


def count_nothing(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    tensors[dice.choice([key for key in tensors if key.endswith("counts")])].zero_()


def count_beyond(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    counts = tensors[dice.choice([key for key in tensors if key.endswith("counts")])]
    last = int(counts.nonzero()[-1])
    if last + 1 < len(counts):
        counts[dice.randrange(last + 1, len(counts))] = 1
    else:
        counts[last // 2 :] = 0


def count_past_float64(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    key = dice.choice([key for key in tensors if key.endswith("counts")])
    tensors[key] = tensors[key].long()
    tensors[key][:3] = 2**62


def bend_edges(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    edges = tensors[dice.choice([key for key in tensors if key.endswith("edges")])]
    place = dice.randrange(1, len(edges) - 1)
    edges[place] = edges[place - 1] + 0.1 * (edges[place] - edges[place - 1])


def shift_edges(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    edges = tensors[dice.choice([key for key in tensors if key.endswith("edges")])]
    edges.add_(edges[-1]) if dice.random() < 0.5 else edges.mul_(dice.choice([1e-3, 3.0, 1e50]))


def same_class_twice(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    top = tensors[dice.choice(["float.top", "quantized.top"])]
    row = dice.randrange(len(top))
    top[row, 3] = top[row, 1]


def same_row_twice(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    tensors["exact.rows"][0] = tensors["exact.rows"][-1]


def no_images(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    for key, value in tensors.items():
        tensors[key] = value[:0].clone()
    said["top1"], said["top5"] = {}, {}


def no_exact(tensors: Tensors, said: dict[str, Any], dice: random.Random) -> None:
    tensors.update({key: value[:0].clone() for key, value in tensors.items() if key.startswith("exact")})


OF_ALL: list[Mutation] = [
    say("version", -1, 10**30, 1.5, None), say("recipe_sha256", "x", "A" * 64, "a" * 63), say("base_sha256", "0" * 65),
    say("name", "../up", "a\x00b", "x" * 300), drop,
]  # fmt: skip
OF_HISTOGRAMS: list[Mutation] = [
    fill("counts", -1, -(2**31)), fill("bounds", *NO_FINITE), grow_bounds, swap_bounds, count_nothing,
    count_past_float64, say("calibration_images", -1, 10**30, True), say("binning", "none"), *OF_ALL,
]  # fmt: skip
OF_MODELS: list[Mutation] = [
    fill("amax", *NO_FINITE, -1e-30, -1.0), joined("running_var", *NO_FINITE, -1.0, -1e-30),
    joined("running_mean", *NO_FINITE), fill("linear.bias", *NO_FINITE), say("packed", 1, None), *OF_ALL,
]  # fmt: skip
MUTATIONS: dict[str, list[Mutation]] = {
    "ranges.safetensors": [
        fill("amax", *NO_FINITE, -1e-30, -1.0), no_truth_value, say("calibration_images", -1, 10**30, True),
        lambda tensors, *_: tensors.clear(), *OF_ALL[:-1],
    ],
    "histograms.safetensors": [
        fill("exponent", -(10**15), 10**15, -127, 117, -(2**63), 2**63 - 1), shift_exponent, count_beyond,
        *OF_HISTOGRAMS,
    ],
    "reference.histograms.safetensors": [fill("edges", *NO_FINITE, -1.0), bend_edges, shift_edges, *OF_HISTOGRAMS],
    "receipt.safetensors": [
        fill("top", -1, 10, 32_767), fill("labels", -2, 10, 32_767), fill("margins", *NO_FINITE, -1.0),
        fill("exact.float", *NO_FINITE, -1.0), fill("exact.quantized", *NO_FINITE, -1.0), fill("rows", -1, 10**6),
        same_class_twice, same_row_twice, no_images, no_exact, say("classes", 0, -1, 3, 2**31),
        say("top1", {}, {"float": 100.1, "quantized": 1.0}, dict.fromkeys(("float", "quantized"), torch.nan)),
        say("top1", {"int8": 1.0}),
        say("top5", {"float": -1.0}, {"quantized": 1e9}), *OF_ALL,
    ],
    # The classifier's weights are on a grid of 8 bits without its lowest value.
    "model.safetensors": OF_MODELS,
    "float/model.safetensors": [fill("weight", *NO_FINITE), *OF_MODELS],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTATIONS)
def test_of_three_hundred_files_signed_anew_none_is_read(name: str, good: Path, tmp_path: Path) -> None:
    dice, path = random.Random(name), tmp_path / name
    READERS[name](good / name)
    for turn in range(50):
        mutate = MUTATIONS[name][turn % len(MUTATIONS[name])]
        signed_anew(good / name, path, mutate, dice)
        with pytest.raises(WeightsError, match=path.name) as caught:
            pytest.fail(f"turn {turn} was read: {READERS[name](path)}")
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("name", "mutate", "said"),
    [
        ("ranges.safetensors", fill("conv1.input_quantizer.amax", -1.0), r"amax holds -1, which is negative or not"),
        ("ranges.safetensors", no_truth_value, r"unsigned holds bytes that are no truth values"),
        ("histograms.safetensors", fill("exponent", -(10**15)), r"wide, expected an exponent of -126 to 116"),
        (
            "histograms.safetensors",
            grow_bounds,
            r"is no histogram: its bins are 2\*\*-?\d+ wide, which is not",
        ),
        ("histograms.safetensors", count_nothing, r"is no histogram: it counted 0 values in all"),
        ("reference.histograms.safetensors", bend_edges, r"is no histogram: its bins are not of one width"),
        ("reference.histograms.safetensors", grow_bounds, r"its bins end at .*, and its largest magnitude is"),
        ("receipt.safetensors", same_class_twice, r"\.top names a class twice for one image"),
        ("receipt.safetensors", fill("labels", 10), r"labels are from 0 to 10, -1 where unknown"),
        ("receipt.safetensors", same_row_twice, r"exact\.rows are not rows of its \d+ images, each at most once"),
        ("receipt.safetensors", no_images, r"it holds the predictions of no image"),
        ("receipt.safetensors", say("top1", {}), r"states figures that are not those of its predictions"),
        ("model.safetensors", joined("running_var", -1.0), r"holds -1 in .*running_var, and a variance is at least 0"),
        ("model.safetensors", joined("running_mean", torch.inf), r"holds NaN or Inf in .*running_mean"),
        ("float/model.safetensors", fill("amax", -1.0), r"amax holds -1, which is negative or not finite"),
    ],
)
def test_says_what_is_impossible_and_where(name: str, mutate: Mutation, said: str, good: Path, tmp_path: Path) -> None:
    path = tmp_path / name
    signed_anew(good / name, path, mutate, random.Random(0))
    with pytest.raises(WeightsError, match=said) as caught:
        READERS[name](path)
    assert str(path) in str(caught.value)


def test_the_content_as_it_was_is_read_after_signing_it_anew(good: Path, tmp_path: Path) -> None:
    for name in KINDS:
        signed_anew(good / name, tmp_path / name, lambda *_: None, random.Random(0))
        READERS[name](tmp_path / name)
        assert load_file(tmp_path / name).keys() == load_file(good / name).keys()
