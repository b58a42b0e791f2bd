"""High biases move to the next layer: as much as images or batch norm justify, and not where a layer pads."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qzoo.optimization.channels.equalize import equalize
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.schema.optimize import Equalize
from tests.each import for_each
from tests.optimization.channels.networks import CHANNELS, assert_same_function, chain, images, norm, quantized

pytestmark = pytest.mark.filterwarnings("ignore::qzoo.quant.quantizer.UncalibratedWarning")


def high(*middle: nn.Module) -> nn.Sequential:
    """A chain whose channels are all positive, by some more than three deviations."""
    model = chain(*middle)
    with torch.no_grad():
        model(images())
        y = model[0](images())
        model[1].running_mean.copy_(y.mean((0, 2, 3)))
        model[1].running_var.copy_(y.var((0, 2, 3)))
        model[1].weight.fill_(0.2)
        model[1].bias.copy_(torch.linspace(0, 4, CHANNELS))
    return model


def absorbed(model: nn.Module, *, seen: bool) -> tuple[nn.Module, nn.Module, str]:
    """Returns a model that was equalized, the same with its biases absorbed, and what was said of it."""
    x, made = images(), []
    for absorb in (False, True):
        one = quantized(model, x)
        [change, *_] = equalize(one, Equalize(absorb_bias=absorb), ChannelFactors(), [x] if seen else None, example=x)
        made.append(one)
    return made[0], made[1], change.note


def test_with_images_the_smallest_value_moves_and_the_function_stays() -> None:
    model = high(nn.ReLU())
    plain, made, note = absorbed(model, seen=True)
    with torch.no_grad():
        smallest = plain[:2](images()).amin((0, 2, 3)).clamp(min=0)
    assert 0 < int((smallest > 0).sum()) < CHANNELS
    torch.testing.assert_close(made[1].bias, plain[1].bias - smallest)
    moved = plain[3].weight.detach().numpy()[:, :, 0, 0] @ smallest.numpy()
    np.testing.assert_allclose(made[3].bias.detach().numpy(), plain[3].bias.detach().numpy() + moved, rtol=1e-5)
    assert note == f"the biases of {int((smallest > 0).sum())} channels are absorbed"
    assert_same_function(model, made, images())


def test_without_images_it_is_three_deviations_below_the_mean() -> None:
    model = high(nn.ReLU())
    plain, made, note = absorbed(model, seen=False)
    mean, gamma = plain[1].bias.detach(), plain[1].weight.detach().abs()
    variance = plain[1].running_var
    deviation = gamma * (variance / (variance + plain[1].eps)).sqrt()
    torch.testing.assert_close(made[1].bias, plain[1].bias - (mean - 3 * deviation).clamp(min=0))
    assert note.endswith("absorbed, as far as batch norm tells")
    assert_same_function(model, made, images(), tolerance=0.02)


def test_the_range_of_a_channel_shrinks() -> None:
    plain, made, _ = absorbed(high(nn.ReLU()), seen=True)
    with torch.no_grad():
        before, after = (net[:3](images())[:, -1].max() for net in (plain, made))
    assert float(after) < 0.5 * float(before)


def test_a_batch_norm_after_the_reader_takes_it() -> None:
    model = high(nn.ReLU())
    model = nn.Sequential(*model[:3], nn.Conv2d(CHANNELS, 4, 3, bias=False), norm(4)).eval()
    plain, made, note = absorbed(model, seen=True)
    assert "absorbed" in note
    assert not torch.equal(made[4].running_mean, plain[4].running_mean)
    assert_same_function(model, made, images())


@for_each("way", ["padding", "pool", "no bias", "transposed"])
def test_where_it_would_not_hold_nothing_is_absorbed(way: str) -> None:
    model = high(nn.ReLU())
    readers: dict[str, list[nn.Module]] = {
        "padding": [nn.Conv2d(CHANNELS, 4, 3, padding=1)], "no bias": [nn.Conv2d(CHANNELS, 4, 3, bias=False)],
        "pool": [nn.AvgPool2d(2, padding=1), nn.Conv2d(CHANNELS, 4, 1)],
        "transposed": [nn.ConvTranspose2d(CHANNELS, 4, 3)],
    }  # fmt: skip
    model = nn.Sequential(*model[:3], *readers[way]).eval()
    _, made, note = absorbed(model, seen=True)
    assert "absorbed" not in note
    assert_same_function(model, made, images())


def test_what_relu6_clips_is_not_absorbed() -> None:
    model = high(nn.ReLU6())
    model[1].bias.data[-1] = 6.0
    _, made, _ = absorbed(model, seen=True)
    assert made[1].bias[-1] > 5.9
    assert_same_function(model, made, images())


def test_places_of_a_flattened_image_take_the_constant_of_their_channel() -> None:
    model = nn.Sequential(*high(nn.ReLU())[:3], nn.Flatten(), nn.Linear(CHANNELS * 36, 4)).eval()
    _, made, note = absorbed(model, seen=True)
    assert "absorbed" in note
    assert_same_function(model, made, images())
