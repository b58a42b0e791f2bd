"""Two processes give what one gives, bit for bit, and fail together. Real processes, started by torchrun."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.data import ArraySplit
from qzoo.distributed import failing_together, gathered_rows, meet, rank, reduced, world_size
from qzoo.tasks.inputs.images import Images

pytestmark = pytest.mark.usefixtures("one_thread")

SCRIPT = Path(__file__).with_name("in_two_processes.py")


@pytest.fixture(scope="module")
def one() -> ModuleType:
    """The script of the processes, to run a scenario in one."""
    spec = importlib.util.spec_from_file_location(SCRIPT.stem, SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes got of each scenario."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SCRIPT, folder]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{number}.json").read_text()) for number in (0, 1)]


def json_of(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("variant", ["int8", "int8_max", "int8_mse", "int8_entropy"])
def test_shares_give_the_ranges_of_all_images(variant: str, one: ModuleType, two: list[dict[str, Any]]) -> None:
    assert two[0][f"ranges {variant}"] == two[1][f"ranges {variant}"] == json_of(one.ranges(variant, one.BATCHES))


def test_a_process_without_images_gets_the_ranges_too(one: ModuleType, two: list[dict[str, Any]]) -> None:
    assert two[0]["ranges idle"] == two[1]["ranges idle"] == json_of(one.ranges("int8", one.BATCHES))


@pytest.mark.parametrize("binning", ["aligned", "reference"])
def test_images_of_a_recipe(binning: str, one: ModuleType, two: list[dict[str, Any]]) -> None:
    assert two[0][f"recipe {binning}"] == two[1][f"recipe {binning}"] == json_of(one.recipe_ranges(binning))


def test_merging_is_exact_for_any_magnitudes_and_shares(two: list[dict[str, Any]]) -> None:
    assert two[0]["merging"] == two[1]["merging"] == [True] * 60


def test_accuracy_is_that_of_all_images_once(one: ModuleType, two: list[dict[str, Any]]) -> None:
    top1, top5, images, predictions = one.accuracy([(one.LOGITS, one.LABELS)])
    batches = torch.tensor(predictions).split(7)
    rank_by_rank = torch.cat([*batches[0::2], *batches[1::2]]).tolist()
    assert two[0]["accuracy"] == two[1]["accuracy"] == [top1, top5, images, rank_by_rank]
    assert two[0]["accuracy idle"] == two[1]["accuracy idle"] == [top1, top5, images, predictions]


@pytest.mark.parametrize(
    ("scenario", "changes"), [("named", {"batch_size": 97}), ("named fewer batches", {"eval_images": 50})]
)
def test_predictions_stand_in_the_order_of_the_images(
    scenario: str, changes: dict[str, int], one: ModuleType, two: list[dict[str, Any]]
) -> None:
    assert two[0][scenario] == two[1][scenario] == json_of(one.named(**changes))


@pytest.mark.parametrize(
    ("scenario", "error", "text"),
    [
        ("no images", "CalibrationError", "Nothing reached conv1.input_quantizer"),
        (
            "reference",
            "CalibrationError",
            "`binning: reference` depends on the order of all batches, which 2",
        ),
        ("different models", "CalibrationError", "The processes calibrate different models: process"),
        ("labels here only", "DataError", "Only 30 of 60 images have labels"),
        ("nothing to evaluate", "DataError", "There are no images to evaluate on"),
        ("failing both", "DataError", "Item 0 of the images is int"),
        (
            "one GPU for all",
            "UnsupportedError",
            "Device 'cuda:1' is one GPU, but there are 2 processes. Say --dev",
        ),
        (
            "no GPU left",
            "UnsupportedError",
            "but this machine has 0. Start one process a GPU: torchrun",
        ),
    ],
)
def test_what_all_get_wrong_is_told_to_all(scenario: str, error: str, text: str, two: list[dict[str, Any]]) -> None:
    for got in (two[0][scenario], two[1][scenario]):
        assert got["error"] == error
        assert text in got["text"]


@pytest.mark.parametrize(
    ("scenario", "error", "text", "known"),
    [
        ("bad item", "DataError", "Item 0 of the images is str", True),
        ("NaN", "DataError", "Item 0 of the images, float32 (2, 1, 8, 8), holds NaN or Inf", True),
        ("bad item in evaluate", "OSError", "disk gone", True),
        ("bug", "ZeroDivisionError", "a slip", False),
    ],
)
def test_the_others_end_with_the_one_that_fails(
    scenario: str, error: str, text: str, known: bool, two: list[dict[str, Any]]
) -> None:
    assert two[1][scenario]["error"] == error
    told = two[0][scenario]
    assert (told["error"], told["known"]) == ("PeerError", known)
    assert told["text"].startswith("The process of rank 1 failed: ")
    assert text in told["text"]
    assert ("Traceback" in told["text"]) is not known


@given(st.integers(0, 60), st.integers(1, 9), st.integers(1, 5))
def test_shards_deal_whole_batches(images: int, batch_size: int, world: int) -> None:
    split = ArraySplit("made", "up", torch.arange(images).view(-1, 1, 1, 1), torch.zeros(images))
    every = Images(split, [7 * place for place in range(images)], None, batch_size)
    batches = [every.indices[first : first + batch_size] for first in range(0, images, batch_size)]
    for number in range(world):
        dealt = every.shard(number, world).indices
        share = [dealt[first : first + batch_size] for first in range(0, len(dealt), batch_size)]
        assert share == batches[number::world]
        assert dealt == [every.indices[place] for place in every.places(number, world)]


def test_alone_nothing_is_exchanged() -> None:
    rows = torch.arange(6).view(3, 2)
    assert (world_size(), rank()) == (1, 0)
    assert torch.equal(gathered_rows(rows), rows)
    assert torch.equal(reduced(rows, "sum"), rows)
    meet()
    with pytest.raises(ZeroDivisionError), failing_together():
        raise ZeroDivisionError


@pytest.mark.slow
def test_cifar10_is_as_in_one_process(
    data_root: Path, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    reports = []
    for start in (["qzoo"], ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "qzoo"]):
        target = tmp_path / f"{len(start)}.json"
        only = "int8,int8_max,int8_p999,int8_mse,int8_entropy,w8a4,w4a8,w4a4,fp8"
        command = ["reproduce", "resnet20_cifar10", "--only", only, "--eval-images", "2999", "--json", str(target)]
        folders = {"QZOO_DATA": str(data_root), "QZOO_WEIGHTS_DIR": str(weights_dir)}
        done = subprocess.run(
            [sys.executable, "-m", *start, *command], env=os.environ | folders, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        rows = json.loads(target.read_text())["rows"]
        reports.append([{**row, "seconds": 0} for row in rows])
    assert reports[0] == reports[1]
    assert len(reports[0]) == 10
