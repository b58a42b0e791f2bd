"""Two processes train as one does. Real processes, started by torchrun, with Gloo."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import torch

from qzoo.tasks.evaluate import evaluate_images
from qzoo.tasks.inputs.images import evaluation_images
from tests.training import in_two_processes as script


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("two")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        script.__file__,
        folder,
    ]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False, timeout=110
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_gradients_of_a_step_are_those_of_one_process(two: list[dict[str, Any]]) -> None:
    alone = script.one_step() | script.several_inputs()
    assert any(name.endswith("amax") for name in alone)
    for name, gradient in alone.items():
        for process in two:
            scale = max(1.0, float(gradient.abs().max()))
            assert float((process["gradients"][name] - gradient).abs().max()) <= 1e-6 * scale, name


def test_weights_ranges_and_statistics_agree(two: list[dict[str, Any]]) -> None:
    first, second = (process["state"] for process in two)
    differing = [key for key in first if not torch.equal(first[key], second[key])]
    assert differing == []
    assert any(key.endswith("running_mean") for key in first)


def test_each_image_counts_once(two: list[dict[str, Any]]) -> None:
    model = script.fresh()
    model.load_state_dict(two[0]["state"])
    judged = evaluation_images(script.BASE, "digits", images=100, batch_size=30)
    top1 = evaluate_images(model, judged).top1
    assert [float(process["top1"]) for process in two] == [top1, top1]


def test_a_batch_that_can_not_be_shared_is_refused(two: list[dict[str, Any]]) -> None:
    for process in two:
        assert process["uneven"] == (
            "2 processes can't share a batch of 63 images evenly. Say --batch-size 62: it is of all together."
        )


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        ("not finite", "Item 0 of the images, float32 (32, 1, 8, 8), holds NaN or Inf"),
        ("no label", "Item 0 of the images has the label -100"),
        ("no class", "Item 0 of the images: its labels are"),
        ("other shape", "Item 0 of the images, float32 (32, 3, 8, 8): DigitsResNet does not run on it"),
        ("loss", "Training stopped at step 0 of epoch 1: the output of linear holds NaN or Inf"),
    ],
)
def test_a_process_that_fails_stops_all(failure: str, text: str, two: list[dict[str, Any]]) -> None:
    assert two[1][failure].startswith(text)
    assert two[0][failure].startswith(f"The process of rank 1 failed: {text}")
