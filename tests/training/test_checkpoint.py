"""Checkpoints as files: whole at any moment, and refused where they belong to another run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import TrainingError, WeightsError
from qzoo.results.training import LogRow
from qzoo.schema.finetune import FinetuneSpec
from qzoo.training.checkpoint import CHECKPOINT, CheckpointInfo, load_checkpoint, save_checkpoint
from qzoo.training.trainer import Trainer, restore_rng
from qzoo.weights import artifact
from qzoo.weights.artifact import versions
from tests.each import for_each
from tests.training.conftest import digits, with_dropout

SPEC = FinetuneSpec.model_validate(
    {"epochs": 2, "lr": 0.02, "optimizer": "adamw", "ema": 0.9, "scales": "learned", "schedule": "cosine"}
)
FIELDS = {
    "epochs": 3, "optimizer": "sgd", "lr": 0.1, "schedule": "constant", "floor": 0.01, "warmup_epochs": 1.0,
    "batch_size": 8, "momentum": 0.5, "weight_decay": 0.5, "label_smoothing": 0.1, "transform": "eval",
    "freeze_bn_epoch": 1, "ema": None, "clip_gradient": 1.0, "scales": "fixed", "distill": {}, "precision": "bfloat16",
    "seed": 1,
}  # fmt: skip


def info(finetune: FinetuneSpec = SPEC, **changes: Any) -> CheckpointInfo:
    fields: dict[str, Any] = {
        "name": "net_w4a4", "version": 1, "recipe_sha256": "a" * 64, "base_sha256": "b" * 64, "finetune": finetune,
        "steps_per_epoch": 2, "step": 3, "start_top1": 80.0, "seconds": 1.5, "resumed": 1,
        "pending": (0.1 + 0.2, 64, 9), "rows": [LogRow(step=2, epoch=1.0, lr=0.1, loss=1 / 3, train_top1=50.0)],
        **versions(),
    }  # fmt: skip
    return CheckpointInfo.model_validate(fields | changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "run" / "checkpoint.safetensors"
    save_checkpoint(path, {"model/a": torch.tensor([1.0, 2.0])}, info())
    return path


def test_what_was_saved_comes_back(path: Path) -> None:
    tensors, found = load_checkpoint(path, info(step=0, rows=[], pending=(0.0, 0, 0), resumed=0, seconds=0.0))
    assert torch.equal(tensors["model/a"], torch.tensor([1.0, 2.0]))
    assert found == info()


def test_tensors_that_share_memory_and_any_dtype_are_kept(path: Path) -> None:
    shared = torch.arange(6.0).view(2, 3)
    given = {"a": shared, "b": shared.t(), "c": torch.tensor(True), "d": torch.tensor(3), "e": torch.get_rng_state(),
             "f": torch.tensor(0.1, dtype=torch.float64), "g": shared.requires_grad_()}  # fmt: skip
    save_checkpoint(path, given, info())
    found, _ = load_checkpoint(path, info())
    assert found.keys() == given.keys()
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in given.items())
    assert not any(value.requires_grad for value in found.values())


@for_each(("field", "value"), [*FIELDS.items()])
def test_every_field_of_the_schedule_has_to_be_the_same(path: Path, field: str, value: Any) -> None:
    other = FinetuneSpec.model_validate(SPEC.model_dump() | {field: value})
    with pytest.raises(TrainingError) as caught:
        load_checkpoint(path, info(other))
    assert str(caught.value) == (
        f"{path} is a checkpoint of another run: finetune.{field} differ. "
        "Give the options of that run, another folder with -o, or leave out --resume to start anew."
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "net_w8a8"}, "name"),
        ({"recipe_sha256": "c" * 64}, "recipe_sha256"),
        ({"base_sha256": "c" * 64}, "base_sha256"),
        ({"steps_per_epoch": 3}, "steps_per_epoch"),
        ({"name": "", "recipe_sha256": "", "steps_per_epoch": 9}, "name, recipe_sha256, steps_per_epoch"),
        (
            {"finetune": SPEC.model_copy(update={"lr": 1.0, "seed": 5}), "base_sha256": ""},
            "finetune.lr, finetune.seed, base_sha256",
        ),
    ],
)
def test_all_that_differs_is_named(path: Path, changes: dict[str, Any], named: str) -> None:
    with pytest.raises(TrainingError, match=f"is a checkpoint of another run: {named} differ"):
        load_checkpoint(path, info(**changes))


def test_where_the_run_was_may_differ(path: Path) -> None:
    load_checkpoint(path, info(step=0, resumed=0, seconds=0.0, start_top1=None, rows=[], version=2, qzoo="9.9"))


def test_a_file_that_is_missing_or_of_another_kind_is_refused(path: Path) -> None:
    with pytest.raises(WeightsError, match=r"No checkpoint file at .* Start the training anew, without --resume\."):
        load_checkpoint(path.with_name("none.safetensors"), info())
    other = artifact.Kind("ranges", largest=1000, remedy="")
    artifact.write_artifact(path, other, {}, info())
    with pytest.raises(WeightsError, match="is no checkpoint file: its format is 'qzoo-ranges/1'"):
        load_checkpoint(path, info())


@pytest.mark.parametrize("at", [0, 9, 60, -1, -5])
def test_a_flipped_bit_is_noticed(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"Start the training anew, without --resume\."):
        load_checkpoint(path, info())


@pytest.mark.parametrize("size", [0, 7, 200, -1])
def test_half_a_file_is_refused(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(WeightsError, match="can't be read as safetensors"):
        load_checkpoint(path, info())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_the_one_before_stays_where_writing_fails(
    path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = path.read_bytes()

    def half(tensors: dict[str, Tensor], file: Path, metadata: dict[str, str]) -> None:
        file.write_bytes(before[:50])
        raise error

    monkeypatch.setattr(artifact, "save_file", half)
    with pytest.raises(type(error)):
        save_checkpoint(path, {"model/a": torch.zeros(2)}, info(step=4))
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]
    assert load_checkpoint(path, info())[1].step == 3


def test_saving_leaves_the_tensors_alone(path: Path) -> None:
    weight = nn.Parameter(torch.ones(2, 3, 4, 5).contiguous(memory_format=torch.channels_last))
    stride, version = weight.stride(), weight._version
    save_checkpoint(path, {"a": weight}, info())
    assert (weight.stride(), weight._version, weight.requires_grad) == (stride, version, True)


@pytest.mark.parametrize("make", [with_dropout, lambda: qzoo.create("resnet8_digits_w4a4", pretrained=True)])
def test_a_trainer_goes_on_bit_for_bit(make: Any, path: Path) -> None:
    x, y = digits()

    def steps(trainer: Trainer, count: int) -> None:
        for _ in range(count):
            start = 32 * trainer.step_number
            trainer.step(x[start : start + 32], y[start : start + 32])

    one, other = Trainer(make(), SPEC, 3), Trainer(make(), SPEC, 3)
    torch.manual_seed(3)
    steps(one, 2)
    save_checkpoint(path, one.tensors(), info(step=one.step_number))
    steps(one, 2)
    tensors, found = load_checkpoint(path, info())
    torch.manual_seed(99)
    other.restore(tensors, found.step)
    restore_rng(tensors)
    steps(other, 2)
    assert (one.step_number, one.epoch) == (other.step_number, other.epoch) == (4, 1)
    mine, yours = one.tensors(), other.tensors()
    assert mine.keys() == yours.keys()
    assert [key for key in mine if not torch.equal(mine[key], yours[key])] == []
    one_model, other_model = copy.deepcopy(one.finish()), other.finish()
    assert torch.equal(one_model(x[:8]), other_model(x[:8]))


def test_the_kind_names_the_file() -> None:
    assert CHECKPOINT.format == "qzoo-checkpoint/1"


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


@for_each(
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
