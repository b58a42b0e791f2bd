"""Equalization: closed forms by hand, the function stays, and what is clipped or dead stays as it is."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qzoo.optimization.channels.equalize import equalize
from qzoo.optimization.channels.fold import fold_batch_norm
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Equalize
from tests.each import for_each
from tests.optimization.channels.networks import (
    CHANNELS,
    assert_made_of,
    assert_same_function,
    chain,
    everything,
    images,
    quantized,
)

pytestmark = pytest.mark.filterwarnings("ignore::qzoo.quant.quantizer.UncalibratedWarning")
PLAIN = Equalize(absorb_bias=False, iterations=200)


def equalized(
    model: nn.Module, x: Tensor, spec: Equalize = PLAIN, *, fold: bool = False, seen: bool = False
) -> tuple[nn.Module, ChannelFactors, list[Change]]:
    made, record = quantized(model, x), ChannelFactors()
    if fold:
        fold_batch_norm(made, record, [x])
    return made, record, equalize(made, spec, record, [x[:2], x[2:]] if seen else None, example=x)


def magnitudes(layer: nn.Module) -> np.ndarray:
    return layer.weight.detach().flatten(2).abs().amax(2).numpy() if layer.weight.dim() > 2 else (
        layer.weight.detach().abs().numpy()
    )  # fmt: skip


def uneven_linear() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval()
    model[0].weight.data.mul_(torch.logspace(-2, 2, 6).view(-1, 1))
    return model


def test_a_pair_gets_the_factors_of_the_closed_form() -> None:
    model = uneven_linear()
    made, record, _ = equalized(model, torch.randn(5, 4))
    first, second = magnitudes(model[0]).max(1), magnitudes(model[2]).max(0)
    s = np.sqrt(first * second) / second
    np.testing.assert_allclose(record.weights["2.weight"].columns.numpy(), s, rtol=1e-6)
    np.testing.assert_allclose(
        made[0].weight.detach().numpy(), model[0].weight.detach().numpy() / s[:, None], rtol=1e-6
    )
    np.testing.assert_allclose(made[0].bias.detach().numpy(), model[0].bias.detach().numpy() / s, rtol=1e-6)
    np.testing.assert_allclose(made[2].weight.detach().numpy(), model[2].weight.detach().numpy() * s, rtol=1e-6)


def test_three_layers_with_a_depthwise_one_meet_at_the_cube_root() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1))
    model = nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]).eval()
    model[0].weight.data.mul_(torch.logspace(-2, 2, 6).view(-1, 1, 1, 1))
    product = magnitudes(layers[0]).max(1) * magnitudes(layers[1]).max(1) * magnitudes(layers[2]).max(0)
    made, _, _ = equalized(model, images())
    for found in (magnitudes(made[0]).max(1), magnitudes(made[2]).max(1), magnitudes(made[4]).max(0)):
        np.testing.assert_allclose(found, np.cbrt(product), rtol=5e-3)


@for_each("fold, seen, absorb", [(True, True, True), (False, True, True), (True, True, False), (True, False, False)])
def test_the_function_stays_through_every_kind_of_layer(fold: bool, seen: bool, absorb: bool) -> None:
    model, x = everything(), images()
    made, record, changes = equalized(model, x, Equalize(absorb_bias=absorb), fold=fold, seen=seen)
    assert_same_function(model, made, x)
    assert_made_of(model, made, record)
    assert [one.path for one in changes][:5] == ["0 -> 3", "3 -> 6", "6 -> 10", "10 -> 16", "16 -> 19"]
    assert changes[5].note == "no pair: the model gives it"


def test_batch_norm_between_keeps_what_it_multiplies_by_and_what_it_knows() -> None:
    model, x = chain(nn.ReLU()), images()
    made, record, _ = equalized(model, x)
    s = record.weights["3.weight"].columns
    for old, new, factor in (("running_mean", "running_mean", 1 / s), ("running_var", "running_var", s**-2)):
        torch.testing.assert_close(getattr(made[1], new), getattr(model[1], old) * factor)
    torch.testing.assert_close(made[1].bias, model[1].bias / s)
    multiplies_by = [one.weight / (one.running_var + one.eps).sqrt() for one in (made[1], model[1])]
    torch.testing.assert_close(*multiplies_by)


def test_channels_that_relu6_clips_stay_and_no_other_reaches_it() -> None:
    model, x = chain(nn.ReLU6()), images()
    model[1].bias.data[:2] = 5.0
    made, record, [change, _] = equalized(model, x, fold=True, seen=True)
    before, after = (net[:2](x).amax((0, 2, 3)).detach() for net in (model, made))
    clipped = before > 6
    assert 0 < int(clipped.sum()) < CHANNELS
    assert torch.equal(record.weights["3.weight"].columns[clipped], torch.ones(int(clipped.sum())))
    assert float(after[~clipped].max()) <= 6 * (1 + 1e-6)
    assert change.note == f"{int(clipped.sum())} of {CHANNELS} channels are clipped at 6 and stay"
    assert_same_function(model, made, x)


def test_beside_channels_that_stay_the_others_get_the_same_share_of_both_ranges() -> None:
    model, x = chain(nn.ReLU6()), images()
    model[1].bias.data[:2] = 5.0
    model[3].weight.data.mul_(1e-3)
    made, record, _ = equalized(model, x, seen=True)
    first, second = magnitudes(made[0]).max(1), magnitudes(made[3]).max(0)
    with torch.no_grad():
        reach = made[:2](x).amax((0, 2, 3)).numpy()
    stays = record.weights["3.weight"].columns.numpy() == 1
    assert (reach[stays] > 6).all()
    free = ~stays & (reach < 5.99) & (reach > 0)
    assert free.any()
    share = (first / first[stays].max()) / (second / second[stays].max())
    np.testing.assert_allclose(share[free], 1, rtol=5e-3)


def test_without_images_batch_norm_tells_what_relu6_clips() -> None:
    model, x = chain(nn.ReLU6()), images()
    model[1].bias.data.copy_(torch.linspace(-3, 9, CHANNELS))
    model[1].weight.data.fill_(0.5)
    _, record, _ = equalized(model, x, fold=True)
    reach = model[1].bias + 4 * 0.5
    stays = record.weights["3.weight"].columns == 1
    assert torch.equal(stays, reach > 6)


def test_a_layer_that_is_clipped_and_nothing_tells_where_is_no_pair() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 2, 1)).eval()
    _, record, changes = equalized(model, images())
    assert changes[0].note == "no pair: it is clipped, and neither images nor batch norm tell which channels are"
    assert not record.weights
    _, record, _ = equalized(model, images(), seen=True)
    assert set(record.weights) == {"0.weight", "2.weight"}


def test_no_channel_grows_past_the_largest_of_its_activation() -> None:
    model, x = chain(nn.ReLU()), images()
    model[0].weight.data[3] *= 1e-6
    model[1].running_var[3] = 1e-12
    made, _, _ = equalized(model, x, fold=True, seen=True)
    before, after = (net[:3](x).amax().detach() for net in (model, made))
    assert float(after) <= float(before) * (1 + 1e-5)


@for_each("layer", [0, 2])
def test_a_dead_channel_stays(layer: int) -> None:
    model = uneven_linear()
    (model[0].weight.data[1] if layer == 0 else model[2].weight.data[:, 1]).zero_()
    made, record, _ = equalized(model, torch.randn(5, 4))
    assert record.weights["0.weight"].rows[1] == 1
    assert_same_function(model, made, torch.randn(5, 4))


def test_a_weight_with_one_range_is_quantized_with_less_error() -> None:
    model, x = uneven_linear(), torch.randn(64, 4)
    model[2].weight.data.mul_(torch.logspace(2, -2, 6))
    made, _, [change, _] = equalized(model, x)

    def error(net: nn.Module) -> float:
        weights = {}
        for key in ("0.weight", "2.weight"):
            weight = net.state_dict()[key]
            step = weight.abs().max() / 127
            weights[key] = (weight / step).round() * step
        with torch.no_grad():
            wanted = net(x)
            return float((torch.func.functional_call(net, weights, (x,)) - wanted).norm() / wanted.norm())

    assert error(made) < error(model) / 3
    assert change.before > 5 > change.after


def test_readers_share_factors_by_their_largest_weights() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2), nn.Linear(4, 5)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x).relu()
            return torch.cat([self.a(y), self.b(y)], 1)

    torch.manual_seed(0)
    model, x = Two().eval(), torch.randn(6, 3)
    made, record, _ = equalized(model, x)
    second = np.maximum(magnitudes(model.a).max(0), magnitudes(model.b).max(0))
    s = np.sqrt(magnitudes(model.first).max(1) / second)
    for reader in ("a.weight", "b.weight"):
        np.testing.assert_allclose(record.weights[reader].columns.numpy(), s, rtol=1e-6)
    assert_same_function(model, made, x)
