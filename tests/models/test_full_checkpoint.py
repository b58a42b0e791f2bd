from __future__ import annotations

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

import qzoo
from qzoo.errors import NotCalibratedError, WeightsError
from qzoo.models.bases import create_bare, identity
from qzoo.models.full_checkpoint import load_full_checkpoint, save_full_checkpoint
from qzoo.models.quantize import quantize_in_place
from qzoo.weights.artifact import content_digest
from qzoo.weights.model_file import ModelInfo, save_model
from qzoo.zoo.name_lookup import find
from tests.each import for_each

IMAGES = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def logits(model: nn.Module, x: Tensor = IMAGES) -> Tensor:
    with torch.no_grad():
        return model(x)


def bare(variant: str) -> nn.Module:
    resolved = find(f"resnet8_digits_{variant}").resolved
    model = create_bare(resolved.base)
    quantize_in_place(model, resolved)
    return model


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "float"])
@for_each("variant", lambda: find("resnet8_digits").entry.variants)
def test_gives_the_same_logits_in_a_model_that_had_others(variant: str, packed: bool, tmp_path: Path) -> None:
    model = qzoo.create(f"resnet8_digits_{variant}", pretrained=True)
    save_full_checkpoint(model, tmp_path / "model.safetensors", packed=packed)
    other = bare(variant)
    info = load_full_checkpoint(other, tmp_path / "model.safetensors")
    assert torch.equal(logits(other), logits(model))
    assert (info.packed, info.name) == (packed, f"resnet8_digits_{variant}")


def sizes(model: nn.Module, folder: Path) -> float:
    save_full_checkpoint(model, folder / "float", packed=False)
    save_full_checkpoint(model, folder / "packed")
    return (folder / "packed").stat().st_size / (folder / "float").stat().st_size


@pytest.mark.parametrize(("variant", "most"), [("int8", 0.27), ("fp8", 0.27), ("w4a8", 0.15), ("w4a4", 0.15)])
def test_packed_files_are_small(
    variant: str, most: float, weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    assert sizes(qzoo.create(f"resnet20_cifar10_{variant}", pretrained=True), tmp_path) <= most


@pytest.mark.parametrize(("variant", "most"), [("int8", 0.27), ("fp8", 0.27), ("w4a8", 0.15)])
def test_even_those_of_a_tiny_model(variant: str, most: float, tmp_path: Path) -> None:
    assert sizes(qzoo.create(f"resnet8_digits_{variant}", pretrained=True), tmp_path) <= most


def test_a_file_of_another_variant_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    save_full_checkpoint(qzoo.create("resnet8_digits_int8", pretrained=True), tmp_path / "model.safetensors")
    other = bare("int8_max")
    before = content_digest(other.state_dict())
    with pytest.raises(WeightsError, match=r"holds resnet8_digits_int8 \(\w+\); this model is resnet8_digits_int8_max"):
        load_full_checkpoint(other, tmp_path / "model.safetensors")
    assert content_digest(other.state_dict()) == before


def test_other_tensors_than_the_model_s_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_full_checkpoint(qzoo.create("resnet8_digits_int8", pretrained=True), path)
    with pytest.raises(WeightsError, match=r"model\.safetensors does not fit: (\d+ tensors|conv1\.weight is I8)"):
        load_full_checkpoint(bare("w4a4"), path)
    with pytest.raises(WeightsError, match=r"conv1\.weight is I8 \[16, 1, 3, 3\], expected U8 \[72\]"):
        load_full_checkpoint(bare("w4a8"), path)


@pytest.mark.parametrize("key", ["bn1.bias", "bn1.running_var"])
def test_broken_values_are_refused_and_change_nothing(key: str, tmp_path: Path) -> None:
    model, path = qzoo.create("resnet8_digits_int8", pretrained=True), tmp_path / "model.safetensors"
    save_full_checkpoint(model, path, packed=False)
    state = {k: v.clone() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    state[key][0] = torch.nan
    save_model(path, state, ModelInfo(packed=False, **identity(model)))
    other = bare("int8")
    before = content_digest(other.state_dict())
    with pytest.raises(WeightsError, match=rf"holds NaN or Inf in {re.escape(key)}\. Fetch it again"):
        load_full_checkpoint(other, path)
    assert content_digest(other.state_dict()) == before


def test_an_uncalibrated_model_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(NotCalibratedError, match="Can't save the model: 17 quantizers have no range"):
        save_full_checkpoint(qzoo.create("resnet8_digits_int8"), tmp_path / "model.safetensors")


@pytest.mark.parametrize("scheme", ["int8", "w4a8", "fp8"])
def test_a_model_of_timm(scheme: str, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    import timm

    x = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = qzoo.quantize(timm.create_model("resnet10t").eval(), scheme)
    qzoo.calibrate(model, x)
    other = qzoo.quantize(timm.create_model("resnet10t").eval(), scheme)
    qzoo.calibrate(other, x * 2)
    for packed in (True, False):
        save_full_checkpoint(model, tmp_path / "model.safetensors", packed=packed)
        load_full_checkpoint(other, tmp_path / "model.safetensors")
        assert torch.equal(logits(other, x), logits(model, x))


def asymmetric(x: Tensor) -> nn.Module:
    fields = {"symmetric": False, "bits": 4}
    rules = [{"match": {"type": "weighted"}, "weight": fields, "input": fields}]
    net = nn.Sequential(
        nn.Conv2d(1, 6, 3), nn.SiLU(), nn.ConvTranspose2d(6, 4, 3, groups=2), nn.Flatten(), nn.Linear(256, 3)
    )
    return qzoo.calibrate(qzoo.quantize(net.eval(), "int8", rules=rules), x)


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "float"])
def test_zero_points_come_back(packed: bool, tmp_path: Path) -> None:
    model, other = asymmetric(IMAGES), asymmetric(2 * IMAGES)
    save_full_checkpoint(model, tmp_path / "model.safetensors", packed=packed)
    load_full_checkpoint(other, tmp_path / "model.safetensors")
    assert torch.equal(logits(other), logits(model))
    assert int(model[0].weight_quantizer.zero_point.max()) > 0


def test_a_zero_point_beside_the_grid_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    model, other = asymmetric(IMAGES), asymmetric(2 * IMAGES)
    model[0].weight_quantizer.zero_point.fill_(16)
    save_full_checkpoint(model, tmp_path / "model.safetensors", packed=False)
    before = content_digest(other.state_dict())
    with pytest.raises(WeightsError, match=r"0\.weight_quantizer\.zero_point holds 16, its grid 0 to 15"):
        load_full_checkpoint(other, tmp_path / "model.safetensors")
    assert content_digest(other.state_dict()) == before


def test_any_model_with_grouped_transposed_tied_and_normed_layers(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(4, 8, 3, groups=2)
            self.up = nn.ConvTranspose2d(8, 4, 2, groups=2)
            self.normed = weight_norm(nn.Conv2d(4, 4, 1))
            self.one, self.two = nn.Linear(4, 4), nn.Linear(4, 4)
            self.two.weight = self.one.weight
            self.again = self.conv  # the same layer under two names
            self.register_buffer("table", torch.arange(3))
            self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))

        def forward(self, x: Tensor) -> Tensor:
            return self.two(self.one(self.normed(self.up(self.conv(x))).mean((2, 3))))

    x = torch.randn(8, 4, 8, 8)
    model = qzoo.quantize(Odd().eval(), "w4a8")
    qzoo.calibrate(model, x)
    for packed in (True, False):
        save_full_checkpoint(model, tmp_path / "model.safetensors", packed=packed)
        other = copy.deepcopy(model)
        with torch.no_grad():
            for tensor in other.parameters():
                tensor.add_(1)
        load_full_checkpoint(other, tmp_path / "model.safetensors")
        assert torch.equal(logits(other, x), logits(model, x))
