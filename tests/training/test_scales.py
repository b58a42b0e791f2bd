"""Where learned ranges start, against LSQ's formula written out for every layer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.quant.layers import QuantizedLayer
from qzoo.quant.learned_scale import SMALLEST_LEARNED
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import get_ranges, quantizers
from qzoo.schema.finetune import Scales
from qzoo.training.scales import keep_scales_positive, learn_scales, settle_scales
from tests.training.conftest import digits


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Flatten(), nn.Linear(216, 10)]
    return qzoo.calibrate(qzoo.quantize(nn.Sequential(*layers).eval(), "w4a4"), [digits()[0][:64]])


def start(x: Tensor, quantizer: TensorQuantizer, spanned: tuple[int, ...]) -> Tensor:
    """The range whose step is 2 mean|x| / sqrt(high)."""
    high = quantizer.grid.high
    return quantizer.grid.bound * 2 * x.double().abs().mean(spanned) / math.sqrt(high)


@pytest.mark.parametrize("name", ["resnet8_digits_w4a4", "resnet8_digits_w4a8", "a network of our own"])
def test_every_layer_starts_at_the_formula(name: str) -> None:
    model = network() if "own" in name else qzoo.create(name, pretrained=True)
    learn_scales(model, Scales(init="lsq"), digits()[0][:32])
    seen: dict[str, Tensor] = {}
    # What an activation quantizer gets depends on those before it, which have started already.
    for path, quantizer in quantizers(model).items():
        quantizer.register_forward_pre_hook(lambda _, args, path=path: seen.setdefault(path, args[0].detach()))
    model.eval()(digits()[0][:32])  # with gradients, or weights that are the same would not be quantized again
    assert len(seen) == len(quantizers(model))
    for path, quantizer in quantizers(model).items():
        per_channel = quantizer.amax.dim() > 0
        spanned = tuple(range(1 if per_channel else 0, seen[path].dim()))
        expected = start(seen[path], quantizer, spanned)
        torch.testing.assert_close(quantizer.amax.detach().flatten().double(), expected.flatten(), rtol=1e-5, atol=0)


def test_the_measurement_leaves_the_model_as_it_was() -> None:
    model = network().train()
    model[3].eval()
    before = {key: value.clone() for key, value in model.state_dict().items() if not key.endswith("amax")}
    modes = [module.training for module in model.modules()]
    dice = torch.get_rng_state()
    learn_scales(model, Scales(init="lsq"), digits()[0][:32])
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    assert torch.equal(torch.get_rng_state(), dice)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_an_example_does_not_matter_for_calibrated_ranges() -> None:
    model = network()
    before = get_ranges(model)
    parameters = learn_scales(model, Scales(), 100 * digits()[0][:32])
    assert all(one is quantizer.amax for one, quantizer in zip(parameters, quantizers(model).values(), strict=True))
    settle_scales(model)
    assert all(torch.equal(before[key], value) for key, value in get_ranges(model).items())


def test_what_a_range_spans_depends_on_its_role() -> None:
    model = network()
    learn_scales(model, Scales(), None)
    learned = {path: quantizer.learned for path, quantizer in quantizers(model).items()}
    assert learned == {
        "0.input_quantizer": "activation",
        "0.weight_quantizer": "weight",
        "5.input_quantizer": "activation",
        "5.weight_quantizer": "weight",
    }
    settle_scales(model)
    assert {quantizer.learned for quantizer in quantizers(model).values()} == {None}


def test_one_fp8_quantizer_is_named_and_nothing_is_learned() -> None:
    model = network()
    odd = qzoo.create("resnet8_digits_fp8", pretrained=True).linear.input_quantizer
    assert isinstance(model[5], QuantizedLayer)
    model[5].input_quantizer = odd
    before = get_ranges(model)
    with pytest.raises(UnsupportedError) as caught:
        learn_scales(model, Scales(), None)
    assert str(caught.value) == (
        "5.input_quantizer: The range of this quantizer can't be learned: e4m3 has no steps to learn. "
        "Say `scales: fixed`, or use integers."
    )
    assert {quantizer.learned for quantizer in quantizers(model).values()} == {None}
    assert get_ranges(model).keys() == before.keys()
    assert all(torch.equal(before[key], value) for key, value in get_ranges(model).items())
    assert not any(name.endswith("amax") for name, _ in model.named_parameters())


def test_a_model_without_ranges_is_refused() -> None:
    model = qzoo.quantize(nn.Sequential(nn.Linear(4, 2)).eval(), "w4a4")
    with pytest.raises(UnsupportedError, match=r"^0.input_quantizer: .* it has no range yet\."):
        learn_scales(model, Scales(), None)
    assert not any(name.endswith("amax") for name, _ in model.named_parameters())


@pytest.mark.parametrize("value", [0.0, -1.0, 2.0**-24])
def test_ranges_that_became_too_small_are_put_back(value: Any) -> None:
    model = network()
    parameters = learn_scales(model, Scales(), None)
    before = [parameter.detach().clone() for parameter in parameters]
    with torch.no_grad():
        parameters[0].fill_(value)
    keep_scales_positive(parameters)
    assert bool((parameters[0] == SMALLEST_LEARNED).all())
    assert all(torch.equal(a, b) for a, b in zip(parameters[1:], before[1:], strict=True))


def test_learning_starts_at_the_calibrated_ranges_and_settles_to_them() -> None:
    model = network()
    before = get_ranges(model)
    assert len(learn_scales(model, Scales(), None)) == len(quantizers(model))
    settle_scales(model)
    after = get_ranges(model)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_fixed_ranges_stay_buffers() -> None:
    model = network()
    assert learn_scales(model, Scales(learn=False), None) == []
    assert not any(name.endswith("amax") for name, _ in model.named_parameters())


def test_the_range_of_a_frozen_weight_learns_too() -> None:
    model = network()
    learn_scales(model, Scales(), None)
    model[0].weight.requires_grad_(False)
    for _ in range(2):  # the second time, a cached value would have no gradient
        model.zero_grad()
        model(digits()[0][:4]).square().sum().backward()
        assert model[0].weight_quantizer.amax.grad is not None


def test_a_refusal_leaves_the_calibrated_ranges() -> None:
    model = qzoo.create("resnet8_digits_fp8", pretrained=True)
    before = get_ranges(model)
    with pytest.raises(UnsupportedError, match=r"^conv1.input_quantizer: .*e4m3 has no steps to learn.*scales: fixed"):
        learn_scales(model, Scales(init="lsq"), digits()[0][:32])
    after = get_ranges(model)
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert not any(quantizer._forward_pre_hooks for quantizer in quantizers(model).values())
