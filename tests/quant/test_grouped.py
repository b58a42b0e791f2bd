"""Transposed convolutions with groups: a range for each output channel, in whatever reads ranges."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import WeightsError
from qzoo.models.full_checkpoint import load_full_checkpoint, save_full_checkpoint
from qzoo.quant.calibration.weight_ranges import layer_weight_range
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.layers import channel_shape
from qzoo.quant.learned_scale import learned_fake_quantize
from qzoo.quant.packing import pack, unpack
from qzoo.quant.ranges import get_ranges, set_ranges
from qzoo.schema.finetune import Scales
from qzoo.schema.quantizer import Calibrator, QuantizerSpec
from qzoo.training.scales import learn_scales
from tests.each import for_each

LAYERS = [
    nn.ConvTranspose2d(4, 6, 3, groups=2),
    nn.ConvTranspose2d(4, 4, 3, groups=4),
    nn.ConvTranspose2d(4, 8, 3, groups=4),
    nn.ConvTranspose1d(6, 9, 2, groups=3),
    nn.ConvTranspose3d(4, 2, 2, groups=2),
    nn.ConvTranspose2d(4, 6, 3),
]


def channels(layer: nn.Module, weight: Tensor) -> list[Tensor]:
    """The weights of each output channel, found by running the layer: where its gradient is not zero."""
    found = []
    x = torch.ones(1, layer.in_channels, *(4 for _ in layer.kernel_size))  # type: ignore[attr-defined]
    for channel in range(layer.out_channels):  # type: ignore[call-overload]
        (used,) = torch.autograd.grad(layer(x)[:, channel].sum(), layer.weight)
        found.append(weight.detach()[used != 0])
    return found


def ids(layer: nn.Module) -> str:
    return str(layer)


@for_each("layer", LAYERS, ids=ids)
@for_each("method", ["max", "mse"])
def test_a_channel_s_range_is_that_of_its_weights_alone(layer: nn.Module, method: str) -> None:
    spec = QuantizerSpec(per="channel", calibrator=Calibrator(method=method))  # type: ignore[arg-type]
    amax = layer_weight_range(layer, spec).amax
    assert tuple(amax.shape) == channel_shape(layer)
    quantized = channels(layer, fake_quantize(layer.weight, amax, grid(bits=8)))  # type: ignore[arg-type]
    own = channels(layer, layer.weight)  # type: ignore[arg-type]
    assert len(own) == amax.numel()
    for weights, range_, found in zip(own, amax.flatten(), quantized, strict=True):
        if method == "max":
            assert range_ == weights.abs().max()
        scale = torch.tensor(127.0) / range_
        assert torch.equal(found, (weights * scale).round().clamp(-128, 127) / scale)


@for_each("layer", LAYERS, ids=ids)
@for_each("bits", [2, 4, 8, 12])
def test_packed_weights_come_back(layer: nn.Module, bits: int) -> None:
    weight: Tensor = layer.weight.detach()  # type: ignore[assignment,operator]
    on, amax = grid(bits=bits), layer_weight_range(layer, QuantizerSpec(per="channel", bits=bits)).amax
    assert torch.equal(unpack(pack(weight, amax, on), amax, on, tuple(weight.shape)), fake_quantize(weight, amax, on))


def test_a_learned_range_has_one_gradient_from_all_inputs_of_its_group() -> None:
    weight, on = torch.randn(4, 3, 2, 2), grid(bits=3)
    amax = torch.rand(2, 1, 3, 1, 1).add(0.5).requires_grad_()
    learned_fake_quantize(weight, amax, on, count=8).square().sum().backward()
    assert amax.grad is not None
    for group in range(2):
        for channel in range(3):
            one = amax.detach()[group, 0, channel].clone().requires_grad_()
            own = weight[2 * group : 2 * group + 2, channel]
            learned_fake_quantize(own, one, on, count=8).square().sum().backward()
            assert one.grad is not None
            torch.testing.assert_close(amax.grad[group, 0, channel], one.grad)


def net(groups: int = 2) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=groups), nn.ReLU(), nn.Conv2d(6, 2, 1)).eval()
    return qzoo.calibrate(qzoo.quantize(model, "int8"), [torch.randn(2, 4, 5, 5, generator=torch.Generator())])


def test_lsq_starts_each_channel_from_its_own_weights() -> None:
    model = net()
    learn_scales(model, Scales(learn=True, init="lsq"), torch.randn(2, 4, 5, 5))
    layer = model[0]
    expected = [2 * own.abs().mean() / 127**0.5 * 127 for own in channels(nn.ConvTranspose2d(4, 6, 3, groups=2),
                                                                         layer.weight)]  # fmt: skip
    torch.testing.assert_close(layer.weight_quantizer.amax.detach().flatten(), torch.stack(expected))
    model(torch.randn(2, 4, 5, 5)).sum().backward()
    assert layer.weight_quantizer.amax.grad.shape == (2, 1, 3, 1, 1)


def test_ranges_that_all_groups_shared_are_refused_with_the_reason(tmp_path: Path) -> None:
    model = net()
    old = get_ranges(model) | {"0.weight_quantizer.amax": torch.ones(1, 3, 1, 1)}
    said = r"one for all groups of a transposed convolution, as older versions .* Calibrate again"
    with pytest.raises(WeightsError, match=rf"^The range 0\.weight_quantizer\.amax has shape \(1, 3, 1, 1\).*{said}"):
        set_ranges(model, old)
    with pytest.raises(RuntimeError, match=rf"0\.weight_quantizer\.amax: It is {said}"):
        model.load_state_dict(model.state_dict() | old)
    with pytest.raises(WeightsError) as refused:
        set_ranges(model, get_ranges(model) | {"2.weight_quantizer.amax": torch.ones(1, 3, 1, 1)})
    assert "groups" not in str(refused.value)


def test_a_saved_model_comes_back(tmp_path: Path) -> None:
    model, x = net(), torch.randn(2, 4, 5, 5)
    save_full_checkpoint(model, tmp_path / "model.safetensors")
    other = net()
    with torch.no_grad():
        other[0].weight.zero_()
    load_full_checkpoint(other, tmp_path / "model.safetensors")
    assert torch.equal(other(x), model(x))
