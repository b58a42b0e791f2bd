"""Weights that are nearest to the float model's products, against NumPy's least squares; which sums a block ends in."""

from __future__ import annotations

import math

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from qzoo.models.architectures.resnet_cifar import BasicBlock
from qzoo.models.tracing import trace
from qzoo.optimization.closed_form.float_targets import STRENGTHS, best_strength, move, skip_shares
from qzoo.optimization.closed_form.least_squares import Fit
from qzoo.optimization.closed_form.moments import Products


def draws(places: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A weight `(3, 4)`, inputs `(4, places)` whose mean is not 0, and what its products are to be, `(3, places)`."""
    random = np.random.default_rng(seed)
    exact = random.normal(size=(4, 4)) @ random.normal(size=(4, places)) + random.normal(size=(4, 1))
    x = exact + 0.3 * np.abs(exact) + 0.2 * random.normal(size=exact.shape)
    weight = random.normal(size=(3, 4))
    return weight, x, weight @ exact + 0.1 * random.normal(size=(3, places)) + 0.5


def products(weight: np.ndarray, x: np.ndarray, wanted: np.ndarray) -> Products:
    found = Products(torch.tensor(weight[None]).float())
    for piece in np.array_split(np.arange(x.shape[1]), 3):
        found.add_products(*(torch.tensor(one[None, :, piece]).float() for one in (x, wanted)))
    return found


def centred(values: np.ndarray, about_mean: bool) -> np.ndarray:
    return values - values.mean(1, keepdims=True) if about_mean else values


@pytest.mark.parametrize("about_mean", [False, True])
def test_without_a_ridge_it_is_least_squares(about_mean: bool) -> None:
    weight, x, wanted = draws()
    found = weight + move(products(weight, x, wanted).fit(about_mean=about_mean), 1e-7)[0].numpy()
    left, right = centred(x, about_mean).T, centred(wanted, about_mean).T
    np.testing.assert_allclose(found, np.linalg.lstsq(left, right, rcond=None)[0].T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("about_mean", [False, True])
def test_the_error_of_any_weight_is_that_of_its_products(about_mean: bool) -> None:
    weight, x, wanted = draws()
    fit = products(weight, x, wanted).fit(about_mean=about_mean)
    given, right = centred(x, about_mean), centred(wanted, about_mean)
    for other in (weight, weight + 0.1):
        found = fit.of_move(torch.tensor((other - weight)[None]).float())[0]
        np.testing.assert_allclose(found.numpy(), np.square(other @ given - right).mean(1), rtol=1e-4)
    np.testing.assert_allclose(fit.product[0].numpy(), np.square(right).mean(1), rtol=1e-4)


def test_the_strength_is_the_best_for_the_other_half() -> None:
    weight, x, wanted = draws(places=14)  # few: it overfits

    def error(strength: float) -> float:
        given, off = x[:, :7], weight @ x[:, :7] - wanted[:, :7]
        ridge = min(strength, 1e30) * np.diagonal(given @ given.T / 7).mean() * np.eye(4)
        step = -(off @ given.T / 7) @ np.linalg.inv(given @ given.T / 7 + ridge)
        return float(np.square((weight + step) @ x[:, 7:] - wanted[:, 7:]).mean(1).sum())

    first, second = (products(weight, x[:, half], wanted[:, half]).fit() for half in (slice(7), slice(7, 14)))
    assert best_strength((first, second)) == min((*STRENGTHS, math.inf), key=error)


def test_inputs_that_say_nothing_move_nothing() -> None:
    zero = torch.zeros(1, 3, 3)
    for strength in (0.003, math.inf):
        assert torch.equal(move(Fit(zero, zero[:, :2], zero[:, :2, 0], zero[:, :2, 0]), strength), zero[:, :2])


def test_two_halves_together_are_all() -> None:
    weight, x, wanted = draws(30)
    both = products(weight, x[:, :10], wanted[:, :10])
    both.join(products(weight, x[:, 10:], wanted[:, 10:]))
    assert both.places == 30
    for one, whole in zip(both.fit(about_mean=True), products(weight, x, wanted).fit(about_mean=True), strict=True):
        torch.testing.assert_close(one, whole)


def shares(net: nn.Module, blocks: list[str], x: Tensor) -> dict[str, Tensor]:
    return skip_shares(net.eval(), trace(net.eval(), x), blocks)


def test_a_block_that_adds_its_input_makes_up_for_it_behind_its_norm() -> None:
    block = BasicBlock(3, 3, 1)
    nn.init.uniform_(block.bn2.weight, 0.5, 2)
    nn.init.uniform_(block.bn2.running_var, 0.5, 2)
    found = shares(nn.Sequential(nn.Conv2d(3, 3, 1), block), ["1"], torch.randn(1, 3, 8, 8))
    factor = block.bn2.weight.detach().numpy() / np.sqrt(block.bn2.running_var.numpy() + block.bn2.eps)
    assert list(found) == ["1.conv2.weight"]
    np.testing.assert_allclose(found["1.conv2.weight"].numpy(), 1 / factor, rtol=1e-6)


def test_a_channel_that_a_norm_takes_away_makes_up_for_nothing() -> None:
    block = BasicBlock(3, 3, 1)
    with torch.no_grad():
        block.bn2.weight[1] = 0
    assert shares(block, [""], torch.randn(1, 3, 8, 8))["conv2.weight"].tolist()[1] == 0


def test_which_products_end_in_a_sum_with_the_input_of_their_block() -> None:
    x = torch.randn(1, 3, 64, 64)
    mobile = torchvision.models.mobilenet_v2(width_mult=0.25)
    blocks = [f"features.{number}" for number in range(1, 18)]
    last = {name: len(mobile.get_submodule(name).conv) - 2 for name in blocks}  # before its norm
    with_skip = [name for name in blocks if mobile.get_submodule(name).use_res_connect]
    assert list(shares(mobile, blocks, x)) == [f"{name}.conv.{last[name]}.weight" for name in with_skip]
    # Downsampled, the skip is no input of its block.
    net = torchvision.models.resnet18()
    names = [f"layer{stage}.{block}" for stage in range(1, 5) for block in range(2)]
    assert list(shares(net, names, x)) == [
        f"{name}.conv2.weight" for name in names if name not in ("layer2.0", "layer3.0", "layer4.0")
    ]


def test_of_a_transformer_block_it_is_attention_that_adds_to_the_input() -> None:
    net = timm.create_model("vit_tiny_patch16_224", depth=2, img_size=32)
    found = shares(net, ["blocks.0", "blocks.1"], torch.randn(1, 3, 32, 32))
    assert {name: share.tolist() for name, share in found.items()} == {
        "blocks.0.attn.proj.weight": [1.0], "blocks.1.attn.proj.weight": [1.0]
    }  # fmt: skip
