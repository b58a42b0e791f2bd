"""Images distilled out of real networks: the loss falls, it goes on bit for bit, and the model stays as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

import qzoo
from qzoo.data_free import distillation
from qzoo.data_free.batch_norms import UntrainedStatisticsWarning
from qzoo.data_free.distill import distilled_images, objective_of
from qzoo.data_free.distillation import normalized
from qzoo.data_free.distillation_state import FILE
from qzoo.data_free.natural_images import natural_images
from qzoo.data_free.patch_diversity import PatchDiversity
from qzoo.data_free.remembered import RememberedStatistics
from qzoo.errors import ArgumentError, CalibrationError, UnsupportedError
from qzoo.models.base_model import InputFormat
from tests.each import for_each

DIGITS = InputFormat(8, (0.3,), (0.4,))
SMALL = InputFormat(32, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return qzoo.create("resnet8_digits", pretrained=True)


def loss(model: nn.Module, images: Tensor, form: InputFormat = DIGITS) -> float:
    model.eval()
    objective = objective_of(model, images[:1], form)
    with torch.no_grad():
        return float(objective.loss(objective.statistics(normalized(images / 255, form))))


class Stopping:
    """A progress that is interrupted after some items, as by Ctrl-C."""

    def __init__(self, items: int) -> None:
        self.items = items

    def __call__(self, items: Iterable[Any], images: int | None, what: Any) -> Iterator[Any]:
        for place, item in enumerate(items):
            if place == self.items:
                raise KeyboardInterrupt
            yield item


def test_statistics_come_nearer_to_those_that_are_remembered(model: nn.Module) -> None:
    start, made = natural_images(32, 8, 1), distilled_images(model, 32, DIGITS)
    assert made.shape == (32, 1, 8, 8)
    assert made.dtype == torch.uint8
    assert loss(model, made) < loss(model, start) / 2


def test_seeds_decide(model: nn.Module) -> None:
    one, same, other = (distilled_images(model, 3, DIGITS, steps=3, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_chunks_hardly_matter(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = distilled_images(model, 32, DIGITS, steps=15)
    monkeypatch.setattr(distillation, "PIXELS_AT_ONCE", 8 * 64)
    parts = distilled_images(model, 32, DIGITS, steps=15)
    assert loss(model, parts) == pytest.approx(loss(model, whole), rel=0.3, abs=0.02)


def test_the_model_stays_as_it_was(model: nn.Module) -> None:
    model.train()
    model.bn1.eval()
    frozen = model.conv1.weight.requires_grad_(False)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    distilled_images(model, 2, DIGITS, steps=2)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(parameter.requires_grad != (parameter is frozen) for parameter in model.parameters())
    frozen.requires_grad_(True)


@for_each("items", [1, 4, 7])
def test_it_goes_on_bit_for_bit(items: int, model: nn.Module, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "PIXELS_AT_ONCE", 3 * 64)
        patch.setattr(distillation, "PAUSE", 0.0)
        folder = tmp_path / str(items)
        whole = distilled_images(model, 6, DIGITS, steps=5)
        with pytest.raises(KeyboardInterrupt):
            distilled_images(model, 6, DIGITS, steps=5, folder=folder, progress=Stopping(items))
        assert (folder / FILE).exists() == (items > 1)
        assert torch.equal(distilled_images(model, 6, DIGITS, steps=5, folder=folder), whole)
        # What is finished is read.
        assert torch.equal(distilled_images(model, 6, DIGITS, steps=5, folder=folder, progress=Stopping(0)), whole)


def test_other_settings_other_weights_and_broken_files_begin_anew(model: nn.Module, tmp_path: Path) -> None:
    expected = distilled_images(model, 2, DIGITS, steps=2)
    distilled_images(model, 2, DIGITS, steps=3, folder=tmp_path)
    assert torch.equal(distilled_images(model, 2, DIGITS, steps=2, folder=tmp_path), expected)
    other = qzoo.create("resnet8_digits", pretrained=True)
    with torch.no_grad():
        other.conv1.weight.mul_(1.01)
    distilled_images(other, 2, DIGITS, steps=2, folder=tmp_path)
    assert torch.equal(distilled_images(model, 2, DIGITS, steps=2, folder=tmp_path), expected)
    whole = (tmp_path / FILE).read_bytes()
    (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    assert torch.equal(distilled_images(model, 2, DIGITS, steps=2, folder=tmp_path), expected)


def test_timms_own_batch_norm_is_seen() -> None:
    made = timm.create_model("tf_efficientnet_lite0", num_classes=3).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
    objective = objective_of(made, natural_images(1, 32), SMALL)
    assert isinstance(objective, RememberedStatistics)
    assert len(objective.norms) == sum(isinstance(module, nn.BatchNorm2d) for module in made.modules())


def test_transformers_take_patch_diversity() -> None:
    torch.manual_seed(0)
    made = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=2).eval()
    assert isinstance(objective_of(made, natural_images(1, 32), SMALL), PatchDiversity)
    images = distilled_images(made, 4, SMALL, steps=8)
    assert loss(made, images, SMALL) < loss(made, natural_images(4, 32), SMALL)


def test_what_has_neither_is_told() -> None:
    with pytest.raises(UnsupportedError, match=r"Conv2d has neither batch norm.*nor attention.*natural_images"):
        distilled_images(nn.Conv2d(1, 2, 3), 2, DIGITS)


def test_statistics_that_were_never_trained_are_told() -> None:
    untrained = qzoo.create("resnet8_digits")
    with (
        pytest.warns(UntrainedStatisticsWarning, match="mean 0 and variance 1"),
        pytest.raises(CalibrationError, match=r"No batch norm of .* remembers anything .* Load trained weights"),
    ):
        distilled_images(untrained, 2, DIGITS)


@for_each("value, what", [(-1.0, "negative"), (float("nan"), "NaN")])
def test_impossible_variances_name_their_module(value: float, what: str) -> None:
    broken = qzoo.create("resnet8_digits", pretrained=True)
    name = [name for name, module in broken.named_modules() if isinstance(module, nn.BatchNorm2d)][2]
    broken.get_submodule(name).running_var[0] = value
    with pytest.raises(CalibrationError, match=rf"{name}.*{what}"):
        distilled_images(broken, 2, DIGITS)


@for_each("name, value", [("steps", -1), ("lr", float("nan")), ("smooth", -0.5)])
def test_settings_that_are_none(name: str, value: float, model: nn.Module) -> None:
    with pytest.raises(ArgumentError, match=f"{name} is {value} for images that are distilled; expected 0 or more"):
        distilled_images(model, 2, DIGITS, **{name: value})
