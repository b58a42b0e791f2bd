"""Memory is written over only when nobody can see it; gradients are the same either way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qzoo.quant import backward, fake_quant, learned_scale, tracing
from qzoo.quant.backward import is_last_use
from qzoo.quant.layers import quantize_layer
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.quantizer import QuantizerSpec

Layer = nn.Conv2d


def layer(learn: bool, frozen: bool = False) -> Layer:
    made = nn.Conv2d(3, 4, 3, padding=1)
    quantizer = TensorQuantizer(QuantizerSpec(bits=4))
    quantize_layer(made, {"input": quantizer})
    quantizer.set_amax(torch.tensor(1.5))
    if learn:
        quantizer.learn("activation")
    return made.requires_grad_(not frozen)


@pytest.fixture(params=[False, True], ids=["fixed", "learned"])
def learn(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """What every backward pass was told."""
    told: list[bool] = []

    def ask(saved: Tensor) -> bool:
        told.append(is_last_use(saved))
        return told[-1]

    monkeypatch.setattr(fake_quant, "is_last_use", ask)
    monkeypatch.setattr(learned_scale, "is_last_use", ask)
    monkeypatch.setattr(learned_scale, "WORTH_PIECES", 1)
    return told


@pytest.mark.parametrize("frozen", [False, True])
def test_of_a_plain_step_it_is_the_last_use(learn: bool, frozen: bool, answers: list[bool]) -> None:
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    layer(learn, frozen)(x).sum().backward()
    assert answers == [True]


def hold_the_output(made: Layer, held: list[Tensor]) -> Any:
    return made.input_quantizer.register_forward_hook(lambda module, args, y: held.append(y))


def hold_a_view(made: Layer, held: list[Tensor]) -> Any:
    return made.input_quantizer.register_forward_hook(lambda module, args, y: held.append(y.detach()[0]))


@pytest.mark.parametrize("hold", [hold_the_output, hold_a_view])
def test_what_a_hook_put_aside_stays(learn: bool, hold: Callable[..., Any], answers: list[bool]) -> None:
    made, held = layer(learn), list[Tensor]()
    hold(made, held)
    made(torch.randn(2, 3, 8, 8, requires_grad=True)).sum().backward()
    assert answers == [False]
    steps = held[0].detach() / 1.5 * 7
    torch.testing.assert_close(steps, steps.round())
    assert steps.abs().max() > 2


@pytest.mark.parametrize("frozen", [False, True])
def test_a_graph_that_is_kept_gives_the_same_gradient_twice(learn: bool, frozen: bool, answers: list[bool]) -> None:
    made, x = layer(learn, frozen), torch.randn(2, 3, 8, 8, requires_grad=True)
    loss = made(x).square().sum()
    first = torch.autograd.grad(loss, [x], retain_graph=True)[0]
    second = torch.autograd.grad(loss, [x])[0]
    assert torch.equal(first, second)
    assert answers == [False, True]


def test_gradients_of_gradients_can_be_had(learn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learned_scale, "WORTH_PIECES", 1)
    made, x = layer(learn), torch.randn(2, 3, 8, 8, requires_grad=True)
    (of_x,) = torch.autograd.grad(made(x).square().sum(), [x], create_graph=True)
    passes = (of_x != 0).detach()
    (second,) = torch.autograd.grad(of_x.sum(), [x])
    assert passes.any()
    assert second.isfinite().all()
    assert (second[passes] != 0).any()


@pytest.mark.parametrize("private", [
    (backward, "_HOLDERS", None), (backward, "_KEEPS_GRAPH", None),
    (tracing, "_TRANSFORMS_ARE_ACTIVE", lambda: False), (tracing, "_IS_BATCHED", lambda tensor: False),
], ids=lambda private: private[1])  # fmt: skip
def test_without_a_private_name_of_torch_gradients_are_the_same(
    private: tuple[Any, str, Any], learn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned_scale, "WORTH_PIECES", 1)
    made, x = layer(learn), torch.randn(2, 3, 8, 8, requires_grad=True)

    def gradients() -> list[Tensor]:
        return list(torch.autograd.grad(made(x).square().sum(), [x, *made.parameters()]))

    shared = gradients()
    monkeypatch.setattr(*private)
    assert all(torch.equal(one, other) for one, other in zip(shared, gradients(), strict=True))
