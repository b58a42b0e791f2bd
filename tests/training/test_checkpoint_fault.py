"""A checkpoint whose digest is right, and which no run has written, ends with one message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from qzoo.errors import WeightsError
from qzoo.training.checkpoint import load_checkpoint, save_checkpoint
from tests.training.test_checkpoint import info

Change = Callable[[dict[str, Tensor]], object]


def own() -> dict[str, Tensor]:
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    state = {f"model/{key}": value for key, value in model.state_dict().items()}
    return {**state, "model/0.input_quantizer.amax": torch.tensor(1.0), "dice/cpu": torch.get_rng_state()}


def remembered() -> dict[str, Tensor]:
    """What the run writes after some steps: the optimizer remembers something by then."""
    weight = "optimizer/0.weight"
    return {
        **own(), f"{weight}/exp_avg": torch.zeros(3, 2), f"{weight}/exp_avg_sq": torch.ones(3, 2),
        f"{weight}/step": torch.tensor(3.0),
    }  # fmt: skip


def put(key: str, value: Tensor) -> Change:
    return lambda tensors: tensors.update({key: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("model/0.weight"), r"1 tensors of the model are missing \(model/0\.weight\)"),
        (lambda tensors: tensors.pop("dice/cpu"), r"1 tensors of the model are missing \(dice/cpu\)"),
        (put("model/9.weight", torch.ones(1)), r"1 unknown \(model/9\.weight\)"),
        (put("model/0.weight", torch.ones(2, 3)), r"model/0\.weight is F32 \[2, 3\], expected F32 \[3, 2\]"),
        (put("optimizer/9.weight/exp_avg", torch.ones(1)), r"exp_avg is nothing that the optimizer remembers"),
        (put("optimizer/0.weight/exp_avg", torch.ones(2, 3)), r"exp_avg is nothing that the optimizer remembers"),
        (put("optimizer/0.weight/more", torch.ones(3, 2)), r"more is nothing that the optimizer remembers"),
        (put("optimizer/0.weight/exp_avg", torch.full((3, 2), torch.nan)), r"holds NaN, or less than 0, in optimizer"),
        (put("optimizer/0.weight/exp_avg_sq", -torch.ones(3, 2)), r"holds NaN, or less than 0, in optimizer"),
        (put("model/0.weight", torch.full((3, 2), torch.inf)), r"holds NaN or Inf in model/0\.weight"),
        (put("model/1.running_var", -torch.ones(3)), r"holds -1 in model/1\.running_var, and a variance"),
        (
            put("model/1.num_batches_tracked", torch.tensor(-3)),
            r"holds -3 in .*num_batches_tracked, and a count",
        ),
        (put("model/0.input_quantizer.amax", torch.tensor(-1.0)), r"holds a negative range in model/0\.input"),
        (put("dice/cpu", torch.full_like(torch.get_rng_state(), 255)), r"holds a state of the random numbers that is"),
    ],
)
def test_is_refused_by_name_and_value(change: Change, said: str, tmp_path: Path) -> None:
    path, tensors = tmp_path / "checkpoint.safetensors", remembered()
    save_checkpoint(path, tensors, info())
    load_checkpoint(path, info(), own())
    change(tensors)
    save_checkpoint(path, tensors, info())
    with pytest.raises(WeightsError, match=rf"{said}.*Start the training anew, without --resume"):
        load_checkpoint(path, info(), own())


def test_a_step_beyond_the_end_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "x", own(), info(step=5))  # two epochs of two steps
    with pytest.raises(WeightsError, match=r"is at step 5, beyond the end of its run"):
        load_checkpoint(tmp_path / "x", info(), own())
