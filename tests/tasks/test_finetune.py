"""`qzoo.finetune`: what it does to a model, what it tells, what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import qzoo
from qzoo.data import open_split
from qzoo.errors import DataError, NotCalibratedError, QzooError, TrainingError, WeightsError
from qzoo.quant.ranges import get_ranges
from qzoo.schema.finetune import FinetuneSpec
from qzoo.tasks.training_run import Run


def digits(name: str, images: int = 256) -> tuple[Tensor, Tensor]:
    split = open_split("digits", name)
    return (split.images[torch.arange(images)].float() / 255 - 0.5) / 0.5, split.labels[:images]


@pytest.fixture
def loader() -> Any:
    return DataLoader(TensorDataset(*digits("train")), 64, shuffle=True)


@pytest.fixture
def model() -> nn.Module:
    return qzoo.create("resnet8_digits_w4a4", pretrained=True)


def test_the_model_given_is_the_one_trained(model: nn.Module, loader: Any) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    report = qzoo.finetune(model, loader, epochs=2, lr=0.01, evaluate_on=[digits("test")])
    after = model.state_dict()
    assert not model.training
    assert not torch.equal(after["conv1.weight"], before["conv1.weight"])
    assert all(torch.equal(after[key], before[key]) for key in before if key.endswith("amax"))
    assert report.top1 == qzoo.evaluate(model, [digits("test")]).top1
    assert (report.images, report.steps_per_epoch, report.processes) == (256, 4, 1)
    assert report.finetune == FinetuneSpec(epochs=2, lr=0.01)
    assert [row.epoch for row in report.rows if row.top1 is not None] == [1.0, 2.0]


def test_learned_ranges_end_as_buffers_of_other_values(model: nn.Module, loader: Any) -> None:
    before = get_ranges(model)
    qzoo.finetune(model, loader, epochs=1, lr=0.01, scales="learned")
    after = get_ranges(model)
    assert after.keys() == before.keys()
    assert sum(not torch.equal(after[key], before[key]) for key in before) > len(before) // 2
    assert not any(name.endswith("amax") for name, _ in model.named_parameters())


def test_a_spec_and_its_changes(model: nn.Module, loader: Any) -> None:
    spec = FinetuneSpec(epochs=5, lr=0.01, label_smoothing=0.1)
    report = qzoo.finetune(model, loader, spec, epochs=1)
    assert report.finetune == spec.model_copy(update={"epochs": 1})


def test_a_trained_model_is_saved_whole(model: nn.Module, loader: Any, tmp_path: Path) -> None:
    qzoo.finetune(model, loader, epochs=1, lr=0.01, scales="learned")
    file = qzoo.save(model, tmp_path / "mine.safetensors", whole=True)
    for fresh in (
        qzoo.create("resnet8_digits_w4a4"),
        qzoo.quantize(qzoo.create("resnet8_digits"), "resnet8_digits_w4a4"),
    ):
        again = qzoo.load(fresh, file)
        assert all(torch.equal(value, again.state_dict()[key]) for key, value in model.state_dict().items()
                   if not key.endswith("num_batches_tracked"))  # fmt: skip
        assert torch.equal(again.eval()(digits("test")[0]), model(digits("test")[0]))
    ranges = qzoo.save(model, tmp_path / "ranges.safetensors")
    with pytest.raises(WeightsError, match=r"A trained model is saved by qzoo\.save\(\.\.\., whole=True\)\."):
        qzoo.load(qzoo.create("resnet8_digits_w4a4", pretrained="float"), ranges)
    with pytest.raises(WeightsError, match="does not fit: "):
        qzoo.load(qzoo.create("resnet20_cifar10_w4a4"), file)


def test_without_evaluation_images_there_is_no_accuracy(model: nn.Module, loader: Any) -> None:
    report = qzoo.finetune(model, loader, epochs=1, lr=0.01)
    assert (report.start_top1, report.top1) == (None, None)


def test_the_dice_of_the_caller_stay_as_they_were(model: nn.Module, loader: Any) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    qzoo.finetune(model, loader, epochs=1, lr=0.01)
    assert torch.equal(torch.rand(3), expected)


def test_a_folder_gets_checkpoint_curve_and_picture(model: nn.Module, loader: Any, tmp_path: Path) -> None:
    qzoo.finetune(model, loader, epochs=1, lr=0.01, run=Run(folder=tmp_path / "new" / "run"))
    found = sorted(file.name for file in (tmp_path / "new" / "run").iterdir())
    assert found == ["checkpoint.safetensors", "training.csv", "training.png"]


def test_a_float_model_is_refused(loader: Any) -> None:
    with pytest.raises(QzooError, match="no quantizers"):
        qzoo.finetune(qzoo.create("resnet8_digits", pretrained=True), loader, epochs=1, lr=0.01)


def test_a_model_that_is_not_calibrated_is_refused(loader: Any) -> None:
    with pytest.raises(NotCalibratedError, match=r"Can't finetune: 17 quantizers have no range \(conv1\.input_q"):
        qzoo.finetune(qzoo.create("resnet8_digits_w4a4", pretrained="float"), loader, epochs=1, lr=0.01)


def test_a_teacher_is_asked_for(model: nn.Module, loader: Any) -> None:
    with pytest.raises(TrainingError, match=r"says `distill`, so it needs the float model: teacher="):
        qzoo.finetune(model, loader, epochs=1, lr=0.01, distill={"temperature": 2})


def test_images_without_labels_are_refused(model: nn.Module) -> None:
    with pytest.raises(
        DataError, match=r"^Item 0 of the images, .*, has no labels to train on; expected \(x, y\), or a dict"
    ):
        qzoo.finetune(model, [digits("train")[0]], epochs=1, lr=0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": 0.1}, "finetune(): epochs: this field is missing"),
        (
            {"epochs": 1, "lr": 0.1, "sheduler": "cosine"},
            "finetune() has no argument 'sheduler'. Did you mean 'schedule'",
        ),
        ({"epochs": 1, "lr": -1}, "greater than 0"),
    ],
)
def test_a_wrong_schedule_is_refused(changes: dict[str, Any], message: str, model: nn.Module, loader: Any) -> None:
    with pytest.raises(qzoo.ArgumentError) as caught:
        qzoo.finetune(model, loader, **changes)
    assert message in str(caught.value)


def test_a_refusal_changes_nothing(model: nn.Module, loader: Any) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(QzooError):
        qzoo.finetune(model, loader, epochs=1, lr=0.01, precision="float16")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
