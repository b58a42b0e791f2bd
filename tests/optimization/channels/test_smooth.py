"""Smoothing: factors of the closed form, the function stays, a search finds what quantizes best."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import qzoo
from qzoo.errors import DataError
from qzoo.optimization.channels.norm_outputs import equalize_norm_outputs
from qzoo.optimization.channels.smooth import smooth, smoothing_factors
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Smooth
from tests.each import for_each
from tests.optimization.channels.networks import (
    CHANNELS,
    assert_made_of,
    assert_same_function,
    chain,
    images,
    quantized,
)

pytestmark = pytest.mark.filterwarnings("ignore::qzoo.quant.quantizer.UncalibratedWarning")
WIDTH = 6
Array = np.ndarray[Any, Any]


class Tokens(nn.Module):
    """Layer norm with two outlier channels, three layers that read it, and an activation before a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.up, self.act, self.down = nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return self.down(self.act(self.up(self.q(y) + self.k(y) * self.v(y))))


def tokens() -> tuple[Tokens, Tensor]:
    torch.manual_seed(0)
    model = Tokens().eval()
    with torch.no_grad():
        model.norm.weight.copy_(torch.tensor([1.0, 60.0, 0.5, 1.0, 20.0, 1.0]))
        model.norm.bias.normal_()
    return model, torch.randn(5, 4, WIDTH)


def smoothed(model: nn.Module, x: Tensor, alpha: float | str | None) -> tuple[nn.Module, ChannelFactors, list[Change]]:
    """Returns a model that was smoothed; with alpha None its norm outputs got one range."""
    made, record = quantized(model, x), ChannelFactors()
    batches = [x[:2], x[2:]]
    if alpha is None:
        return made, record, equalize_norm_outputs(made, batches, record)
    return made, record, smooth(made, Smooth(alpha=alpha), batches, record)  # type: ignore[arg-type]


def test_a_norm_and_all_its_readers_get_the_factors_of_the_closed_form() -> None:
    model, x = tokens()
    made, record, changes = smoothed(model, x, 0.7)
    with torch.no_grad():
        reach = model.norm(x).abs().amax((0, 1)).numpy()
    weights = np.max([layer.weight.detach().abs().numpy().max(0) for layer in (model.q, model.k, model.v)], 0)
    s = reach**0.7 / weights**0.3
    for layer in ("q", "k", "v"):
        np.testing.assert_allclose(record.weights[f"{layer}.weight"].columns.numpy(), s, rtol=1e-5)
    np.testing.assert_allclose(made.norm.weight.detach().numpy(), model.norm.weight.detach().numpy() / s, rtol=1e-5)
    np.testing.assert_allclose(made.norm.bias.detach().numpy(), model.norm.bias.detach().numpy() / s, rtol=1e-5)
    assert [one.path for one in changes] == ["norm -> q, k, v", "up -> down"]
    assert changes[0].before > changes[0].after


def test_norm_outputs_get_one_range_and_activations_are_left_alone() -> None:
    model, x = tokens()
    made, record, [change] = smoothed(model, x, None)
    with torch.no_grad():
        before, after = (net.norm(x).abs().amax((0, 1)) for net in (model, made))
    torch.testing.assert_close(after, before.mean().expand(WIDTH))
    assert set(record.weights) == {"q.weight", "k.weight", "v.weight"}
    assert change.after == pytest.approx(1)


def vit() -> nn.Module:
    made = torchvision.models.VisionTransformer(16, 8, 1, 2, 8, 16, num_classes=3)
    nn.init.normal_(made.heads.head.weight)
    return made


NETWORKS = {
    "tokens": lambda: tokens()[0],
    "torchvision vit": vit,
    "timm vit": lambda: timm.create_model(
        "vit_tiny_patch16_224", img_size=32, depth=1, embed_dim=12, num_heads=2, num_classes=3
    ),
    "relu and batch norm": lambda: chain(nn.ReLU(), nn.MaxPool2d(2)),
    "relu6": lambda: chain(nn.ReLU6()),
}


@for_each("name, alpha", [(name, alpha) for name in NETWORKS for alpha in (0.5, None)])
def test_the_function_stays(name: str, alpha: float | None) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    with torch.no_grad():
        for path, parameter in model.named_parameters():
            if "norm" in path or ".ln" in path:
                parameter.normal_()
    sizes = {"tokens": (4, WIDTH), "timm vit": (3, 32, 32), "torchvision vit": (3, 16, 16)}
    x = torch.randn(3, *sizes.get(name, (3, 8, 8)))
    made, record, changes = smoothed(model, x, alpha)
    assert bool(changes) is (alpha is not None or "relu" not in name)
    assert_same_function(model, made, x)
    assert_made_of(model, made, record)


def test_a_search_finds_less_error_in_what_readers_give() -> None:
    model, x = tokens()
    made, _, changes = smoothed(model, x, "search")
    assert changes[0].note.startswith("alpha ")

    def error(net: nn.Module) -> float:
        wanted = model.q(model.norm(x))
        return float((net.q(net.norm(x)) - wanted).norm() / wanted.norm())

    with torch.no_grad():
        plain, better = (error(qzoo.calibrate(one, [x])) for one in (quantized(model, x), made))
    assert better < 0.8 * plain


def error_of_rounding(inputs: Array, weight: Array, parts: int, *, zero_point: bool) -> float:
    """|Q(X) Q(W) - X W|^2 / |X W|^2, the mean over parts: inputs of 5 bits, by the extremes of all, weights of 8."""
    low, high = min(inputs.min(), 0.0), max(inputs.max(), 0.0)
    step, lowest = (high - low) / 31, np.rint(31 * low / (high - low))
    if not zero_point:
        step, lowest = np.abs(inputs).max() / 15, -16
    rounded = np.clip(np.rint(inputs / step), lowest, lowest + 31) * step
    steps = np.abs(weight).max(1, keepdims=True) / 127
    made, right = rounded @ (np.rint(weight / steps) * steps).T, inputs @ weight.T
    pairs = zip(np.split((made - right) ** 2, parts), np.split(right**2, parts), strict=True)
    return float(np.mean([error.sum() / signal.sum() for error, signal in pairs]))


@pytest.mark.parametrize("zero_point", [True, False])
def test_a_search_scores_with_the_range_that_inputs_get(zero_point: bool) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(16), nn.Linear(16, 8, bias=False)).eval()
    model[0].weight.data, model[0].bias.data[:] = torch.rand(16) + 0.1, 1.2
    # The first batch is normalized to 1 and -1, so that nothing negative is in it.
    batches = [torch.randn(64, 16).argsort(1).sub(7.5).sign(), torch.randn(64, 16)]
    kind = {"symmetric": False} if zero_point else {"symmetric": True, "unsigned": "auto"}
    rules = [{"match": {"type": "weighted"}, "input": {"bits": 5, **kind}}]
    made = qzoo.quantize(model, "int8_asym", rules=rules, example=batches[0])
    [change] = smooth(made, Smooth(alpha="search"), batches, ChannelFactors())
    expected = []
    for net in (model, made):
        with torch.no_grad():
            inputs, weight = net[0](torch.cat(batches)).double().numpy(), net[1].weight.double().numpy()
        assert inputs[:64].min() > 0 > inputs.min()
        expected.append(error_of_rounding(inputs, weight, 2, zero_point=zero_point))
    [said] = re.findall(r"error (\S+) to (\S+)", change.note)
    assert [float(text) for text in said] == pytest.approx(expected, rel=0.01)


def test_a_search_leaves_alone_what_it_can_not_better() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 1)).eval()
    x = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    model[1].weight.data.fill_(1.0)
    _, _, [change] = smoothed(model, x.repeat(2, 1), "search")
    assert change.note.startswith("left alone: no alpha has less error than")


def test_layers_in_float_are_left_alone() -> None:
    model, x = tokens()
    made, record = qzoo.quantize(model, "int8", skip=["q", "k", "v"], example=x), ChannelFactors()
    assert [one.path for one in smooth(made, Smooth(), [x], record)] == ["up -> down"]


def test_a_channel_that_is_always_zero_stays() -> None:
    model, x = tokens()
    with torch.no_grad():
        model.norm.weight[2] = model.norm.bias[2] = 0
    for alpha in (0.5, None):
        made, record, _ = smoothed(model, x, alpha)
        assert record.weights["q.weight"].columns[2] == 1
        assert_same_function(model, made, x)


def test_channels_that_relu6_clips_stay() -> None:
    model, x = chain(nn.ReLU6()), images()
    model[1].bias.data[:2] = 5.0
    made, record, _ = smoothed(model, x, 0.5)
    with torch.no_grad():
        clipped = model[:2](x).amax((0, 2, 3)) > 6
    assert 0 < int(clipped.sum()) < CHANNELS
    assert torch.equal(record.weights["3.weight"].columns[clipped], torch.ones(int(clipped.sum())))
    assert_same_function(model, made, x)


@given(st.lists(st.tuples(st.floats(0, 1e4), st.floats(0, 1e4)), min_size=1, max_size=8), st.floats(0, 1))
def test_factors_are_those_of_numpy_and_one_where_nothing_is(pairs: list[tuple[float, float]], alpha: float) -> None:
    x, w = np.array(pairs, np.float32).T
    found = smoothing_factors(torch.from_numpy(x.copy()), torch.from_numpy(w.copy()), alpha).numpy()
    alive = (x > 0) & (w > 0)
    assert (found[~alive] == 1).all()
    wanted = x[alive].astype(np.float64) ** alpha / w[alive].astype(np.float64) ** (1 - alpha)
    np.testing.assert_allclose(found[alive], wanted, rtol=1e-4)


def test_no_images_are_told_of() -> None:
    model, x = tokens()
    with pytest.raises(DataError, match="There are no images to optimize with: the batches are empty"):
        smooth(quantized(model, x), Smooth(), [], ChannelFactors())
