"""Optimized models, made by hand: weights rounded at random, channels scaled, a bias moved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import WeightsError
from qzoo.models.bases import base_digest
from qzoo.models.rounding import float_state, note_optimized
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.weights.artifact import write_artifact
from qzoo.weights.kinds import ROUNDING
from qzoo.weights.rounding import load_rounding


def rounded_at_random(weight: Tensor, quantizer: TensorQuantizer, seed: int) -> Tensor:
    """Each value on one of its two sides, by NumPy."""
    scale = np.float32(quantizer.grid.bound) / quantizer.amax.numpy()
    up = np.random.default_rng(seed).integers(0, 2, tuple(weight.shape))
    values = np.clip(np.floor(weight.detach().numpy() * scale) + up, quantizer.grid.low, quantizer.grid.high)
    return torch.from_numpy((values / scale).astype(np.float32))


def optimized(name: str = "resnet8_digits_w4a4") -> nn.Module:
    model = qzoo.create(name, pretrained=True)
    digest, before, factors = base_digest(model), float_state(model), ChannelFactors()
    rows = torch.linspace(0.5, 2.0, len(model.linear.weight))
    factors.multiply("linear.weight", model.linear.weight, rows=rows)
    model.linear.weight_quantizer.set_amax(model.linear.weight_quantizer.amax * rows[:, None])
    with torch.no_grad():
        for seed, layer in enumerate((model.conv1, model.layer1.conv1, model.linear)):
            layer.weight.copy_(rounded_at_random(layer.weight, layer.weight_quantizer, seed))
        model.linear.bias.add_(0.25)
        model.bn1.running_mean.sub_(0.125)
    note_optimized(model, digest, before, factors)
    return model


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return dict(model.state_dict())


@pytest.fixture
def saved(tmp_path: Path) -> tuple[nn.Module, Path]:
    model = optimized()
    return model, qzoo.save(model, tmp_path / "x.rounding.safetensors", images=512)


def test_its_base_and_the_file_make_it_bit_for_bit(saved: tuple[nn.Module, Path]) -> None:
    model, path = saved
    again = qzoo.load(qzoo.create("resnet8_digits_w4a4", pretrained="float"), path)
    assert all(torch.equal(value, state_of(again)[key]) for key, value in state_of(model).items())
    x = torch.rand(8, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(model(x), again(x))


def test_a_weight_that_is_rounded_up_or_down_takes_a_bit(saved: tuple[nn.Module, Path]) -> None:
    tensors, info = load_rounding(saved[1])
    assert (info.weights["conv1.weight"].width, info.weights["layer1.conv1.weight"].width) == (1, 1)
    assert info.weights["layer1.conv2.weight"].width == 0  # nobody moved it from the nearest
    assert len(tensors["codes/conv1.weight"]) == saved[0].conv1.weight.numel() // 8
    assert {key for key in tensors if key.startswith("values/")} == {"values/linear.bias", "values/bn1.running_mean"}


def test_the_whole_model_packed_is_the_same(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    from qzoo.models.full_checkpoint import load_full_checkpoint, save_full_checkpoint

    save_full_checkpoint(saved[0], tmp_path / "whole.safetensors")
    whole = qzoo.create("resnet8_digits_w4a4", pretrained="float")
    load_full_checkpoint(whole, tmp_path / "whole.safetensors")
    assert all(torch.equal(value, state_of(whole)[key]) for key, value in state_of(saved[0]).items())


def test_it_is_of_its_base_as_long_as_nobody_changes_it(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    model, _ = saved
    assert base_digest(model) == base_digest(qzoo.create("resnet8_digits", pretrained=True))
    with torch.no_grad():
        model.conv1.weight.mul_(2)
    with pytest.raises(WeightsError, match=r"were changed since they were optimized.*whole=True"):
        qzoo.save(model, tmp_path / "y.safetensors")
    qzoo.save(model, tmp_path / "y.safetensors", whole=True)


def test_another_base_is_refused(saved: tuple[nn.Module, Path]) -> None:
    other = qzoo.create("resnet8_digits_w4a4", pretrained="float")
    with torch.no_grad():
        other.conv1.weight[0, 0, 0, 0] += 1
    with pytest.raises(WeightsError, match=r"belongs to another base"):
        qzoo.load(other, saved[1])


def test_a_file_of_impossible_content_is_refused(saved: tuple[nn.Module, Path], tmp_path: Path) -> None:
    tensors, info = load_rounding(saved[1])
    faults: dict[str, tuple[dict[str, Tensor], str]] = {
        "lost": ({"codes/conv1.weight": torch.zeros(0)}, r"codes/conv1.weight \(F32 \[0\]\) can't be"),
        "strange": ({"values/nobody": torch.zeros(2)}, r"rounds nobody, which is no quantized weight"),
        "factor": ({"columns/linear.weight": torch.zeros(64)}, r"such a factor is above 0"),
        "infinite": ({"rows/linear.weight": torch.full((10,), torch.inf)}, r"such a factor is a finite number"),
        "range": ({"conv1.input_quantizer.amax": torch.tensor(-1.0)}, r"negative or not finite"),
        "long": ({"rows/linear.weight": torch.ones(7)}, r"7 factors do not fit"),
    }
    for name, (changed, text) in faults.items():
        path = tmp_path / f"{name}.safetensors"
        write_artifact(path, ROUNDING, tensors | changed, info)
        model = qzoo.create("resnet8_digits_w4a4", pretrained="float")
        before = {key: value.clone() for key, value in state_of(model).items() if value.is_floating_point()}
        with pytest.raises(WeightsError, match=text):
            qzoo.load(model, path)
        assert all(torch.equal(value, state_of(model)[key]) or value.isnan().all() for key, value in before.items())
