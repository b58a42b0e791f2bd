"""LSQ's gradients, against the paper's equations written out in float64."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from qzoo.errors import UnsupportedError
from qzoo.quant import learned_scale, pieces
from qzoo.quant.fake_quant import Grid, fake_quantize, grid, quantization_scale
from qzoo.quant.learned_scale import (
    SMALLEST_LEARNED,
    gradient_scale,
    initial_amax,
    keep_positive,
    learned_fake_quantize,
)
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.quantizer import QuantizerSpec

GRIDS = st.builds(
    lambda bits, kind: grid(bits=bits, unsigned=kind == "unsigned", narrow=kind == "narrow"),
    st.integers(2, 8), st.sampled_from(["signed", "unsigned", "narrow"]),
)  # fmt: skip


def values(seed: int, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    return (2 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).to(dtype)


def reference(x: Tensor, amax: Tensor, on: Grid, count: int, upstream: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients of x and amax by equations 3 and 5, through autograd with rounding that passes gradients."""
    x, step = x.double().requires_grad_(), (amax.double() / on.bound).requires_grad_()
    g = 1 / math.sqrt(count * on.high)
    scaled = step * g + (step - step * g).detach()
    v = (x / scaled).clamp(on.low, on.high)
    y = (v + (v.round() - v).detach()) * scaled
    y.backward(upstream.double())
    assert x.grad is not None
    assert step.grad is not None
    # A step of SGD moves amax by bound times what it moves the step size.
    return x.grad, step.grad * on.bound


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@given(on=GRIDS, seed=st.integers(0, 1000), amax=st.floats(0.05, 8), channels=st.booleans())
def test_values_are_those_of_fake_quantize(
    dtype: torch.dtype, on: Grid, seed: int, amax: float, channels: bool
) -> None:
    x, ranges = values(seed, (3, 5), dtype), torch.tensor([[0.3], [amax], [2.0]] if channels else amax)
    y = learned_fake_quantize(x.requires_grad_(), ranges.clone().requires_grad_(), on, count=5)
    assert y.dtype == dtype
    assert torch.equal(y.detach(), fake_quantize(x.detach(), ranges, on))


@settings(deadline=None)
@given(on=GRIDS, seed=st.integers(0, 1000), channels=st.booleans())
def test_gradients_are_the_papers(on: Grid, seed: int, channels: bool) -> None:
    x, upstream = values(seed, (4, 3, 5)), values(seed + 1, (4, 3, 5))
    amax = torch.tensor([0.4, 1.0, 3.0]).view(1, 3, 1) if channels else torch.tensor(1.3)
    amax, leaf = amax.clone().requires_grad_(), x.clone().requires_grad_()
    learned_fake_quantize(leaf, amax, on, count=20).backward(upstream)
    of_x, of_amax = reference(x, amax.detach(), on, 20, upstream)
    v = x.double() * on.bound / amax.detach().double()
    # Where float32 and float64 round to different steps, or differ in what is inside, there is nothing to compare.
    to_a_tie, to_an_end = ((v - v.floor()) - 0.5).abs(), (v - on.low).abs().minimum((v - on.high).abs())
    assume(float(to_a_tie.minimum(to_an_end).min()) > 1e-4)
    assert leaf.grad is not None
    assert amax.grad is not None
    torch.testing.assert_close(leaf.grad.double(), of_x)
    torch.testing.assert_close(amax.grad.double(), of_amax, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@given(on=GRIDS, seed=st.integers(0, 1000), channels=st.booleans())
def test_half_precision_has_the_gradients_of_its_values(
    dtype: torch.dtype, on: Grid, seed: int, channels: bool
) -> None:
    ranges = torch.tensor([0.4, 1.0, 3.0]).view(3, 1) if channels else torch.tensor(1.3)
    x, upstream = values(seed, (4, 3, 5), dtype), values(seed + 1, (4, 3, 5), dtype)

    def gradients(of: torch.dtype) -> tuple[Tensor, Tensor]:
        leaf, amax = x.detach().clone().to(of).requires_grad_(), ranges.clone().requires_grad_()
        y = learned_fake_quantize(leaf, amax, on, count=20)
        assert torch.equal(y, fake_quantize(x.detach().to(of), ranges, on))
        y.backward(upstream.to(of))
        assert leaf.grad is not None
        assert amax.grad is not None
        return leaf.grad, amax.grad

    (of_x, of_amax), (exact_x, exact_amax) = gradients(dtype), gradients(torch.float32)
    assert (of_x.dtype, of_amax.dtype, of_amax.shape) == (dtype, torch.float32, ranges.shape)
    assert torch.equal(of_x.float(), exact_x)
    torch.testing.assert_close(of_amax, exact_amax, rtol=1e-5, atol=1e-5)


@given(on=GRIDS, seed=st.integers(0, 1000), rate=st.floats(1e-4, 1), channels=st.booleans())
def test_a_step_of_sgd_moves_the_step_size_as_the_paper_does(on: Grid, seed: int, rate: float, channels: bool) -> None:
    x, target = values(seed, (3, 8)), values(seed + 1, (3, 8))
    amax = (torch.tensor([[0.5], [1.1], [4.0]]) if channels else torch.tensor(1.3)).requires_grad_()
    count = x.numel() // amax.numel()
    v = x.double() * on.bound / amax.detach().double()
    to_a_tie, to_an_end = ((v - v.floor()) - 0.5).abs(), (v - on.low).abs().minimum((v - on.high).abs())
    assume(float(to_a_tie.minimum(to_an_end).min()) > 1e-4)
    step = (amax.detach().double() / on.bound).requires_grad_()
    g = 1 / math.sqrt(count * on.high)
    scaled = step * g + (step - step * g).detach()
    clamped = (x.double() / scaled).clamp(on.low, on.high)
    (((clamped + (clamped.round() - clamped).detach()) * scaled - target) ** 2).sum().backward()
    ((learned_fake_quantize(x, amax, on, count) - target) ** 2).sum().backward()
    before = step.detach().clone()
    torch.optim.SGD([amax], lr=rate).step()
    torch.optim.SGD([step], lr=rate).step()
    # Relative to how far it moved, or to what float32 keeps of it.
    torch.testing.assert_close(
        amax.detach().double() / on.bound - before, step.detach() - before, rtol=1e-3, atol=1e-6 * float(before.max())
    )


def test_values_between_the_last_step_and_amax_still_pass() -> None:
    # The lowest value of a signed grid lies beyond -amax: 2 bits reach to -2 steps, amax is one.
    x = torch.tensor([-1.9, -2.1, 0.9, 1.1], requires_grad=True)
    learned_fake_quantize(x, torch.tensor(1.0, requires_grad=True), grid(bits=2), count=4).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 0.0, 1.0, 0.0]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(on=GRIDS, seed=st.integers(0, 1000), range=st.floats(0.05, 8))
def test_piece_by_piece_is_the_same(
    on: Grid, seed: int, range: float, layout: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, upstream = (values(one, (2, 6, 5, 7)).contiguous(memory_format=layout) for one in (seed, seed + 1))
    # What lies just at the ends of the grid counts on the same side.
    ends = torch.tensor([on.low, on.high]) / quantization_scale(torch.tensor(range), on)
    x[0, :, 0, 0] = torch.cat([ends, torch.nextafter(ends, ends + 1), torch.nextafter(ends, ends - 1)])

    def gradients(kept: bool) -> tuple[Tensor, Tensor]:
        leaf, amax = x.clone().requires_grad_(), torch.tensor(range, requires_grad=True)
        learned_fake_quantize(leaf, amax, on, count=210, kept=kept).backward(upstream)
        assert leaf.grad is not None
        assert amax.grad is not None
        return leaf.grad, amax.grad

    monkeypatch.setattr(learned_scale, "WORTH_PIECES", 1)
    monkeypatch.setattr(pieces, "PIECE", 77)
    monkeypatch.setattr(learned_scale, "PIECE", 77)
    whole, parts = gradients(kept=False), gradients(kept=True)
    assert torch.equal(parts[0], whole[0])
    assert parts[0].stride() == whole[0].stride()
    torch.testing.assert_close(parts[1], whole[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("learn", [True, False])
def test_what_was_quantized_may_be_written_to_afterwards(learn: bool) -> None:
    x, amax, on = values(0, (50,)).requires_grad_(), torch.tensor(1.0, requires_grad=True), grid(bits=4)

    def run(write: bool) -> Tensor:
        x.grad = None
        middle = x * 1
        y = learned_fake_quantize(middle, amax, on, 50) if learn else fake_quantize(middle, amax.detach(), on)
        if write:
            middle.zero_()
        y.sum().backward()
        assert x.grad is not None
        return x.grad

    assert torch.equal(run(write=True), run(write=False))


def test_gradient_scale_is_a_step_on_the_step_size() -> None:
    on, rate = grid(bits=4), 0.1
    assert gradient_scale(on, 28) == on.bound / math.sqrt(28 * on.high)
    x, upstream = values(3, (28,)), values(4, (28,))
    amax = torch.tensor(1.4, requires_grad=True)
    learned_fake_quantize(x, amax, on, 28).backward(upstream)
    assert amax.grad is not None
    moved = float(amax.detach() - rate * amax.grad) / on.bound
    step = 1.4 / on.bound
    inside = (x / step >= on.low) & (x / step <= on.high)
    of_step = torch.where(inside, (x / step).round() - x / step, (x / step).clamp(on.low, on.high))
    expected = step - rate * float((upstream * of_step).sum()) / math.sqrt(28 * on.high)
    assert moved == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("dims", [(0, 1, 2, 3), (1, 2, 3)])
def test_the_start_is_the_papers(dims: tuple[int, ...]) -> None:
    weight, on = values(0, (4, 3, 2, 2)), grid(bits=3)
    start = initial_amax(weight, on, dims)
    assert start.shape == (() if len(dims) == 4 else (4, 1, 1, 1))
    expected = 2 * weight.abs().mean(dims, keepdim=len(dims) < 4) / math.sqrt(3) * 3
    torch.testing.assert_close(start, expected)
    assert float(initial_amax(torch.zeros(3), on, (0,))) == SMALLEST_LEARNED


def test_who_promises_not_to_write_is_told_when_he_does() -> None:
    x = values(0, (8,)).requires_grad_() * 1
    y = learned_fake_quantize(x, torch.tensor(1.0, requires_grad=True), grid(bits=4), 8, kept=True)
    x.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("start", [1.0, 0.0, -3.0, 2.0**-24])
def test_a_range_stays_positive(start: float) -> None:
    parameter = torch.nn.Parameter(torch.tensor([start, 0.5]))
    keep_positive(parameter)
    assert parameter.tolist() == [max(start, SMALLEST_LEARNED), 0.5]
    assert parameter.requires_grad
    # The smallest range still has a step.
    assert float(fake_quantize(torch.tensor(1.0), torch.tensor(SMALLEST_LEARNED), grid())) == SMALLEST_LEARNED


def quantizer(**spec: Any) -> TensorQuantizer:
    made = TensorQuantizer(QuantizerSpec(**spec))
    made.set_amax(torch.tensor(1.27))
    return made


def test_learning_changes_neither_values_nor_names() -> None:
    one = quantizer()
    x, before = values(0, (9,)), one.state_dict()
    y = one(x)
    parameter = one.learn("activation")
    assert [*dict(one.named_parameters())] == ["amax"]
    assert one.state_dict().keys() == before.keys()
    assert torch.equal(one(x).detach(), y)
    other = copy.deepcopy(one)
    other.load_state_dict({"amax": torch.tensor(2.0)})
    assert (float(other.amax.detach()), float(parameter.detach())) == (2.0, pytest.approx(1.27))
    other.settle()
    assert [*dict(other.named_buffers())] == ["amax"]
    assert other.learned is None
    assert not other.amax.requires_grad


def test_a_range_that_is_learned_keeps_its_precision() -> None:
    one = quantizer()
    one.learn("weight")
    one.to(torch.bfloat16)
    assert one.amax.dtype == torch.float32
    assert float(one.amax.detach()) == float(torch.tensor(1.27))
    assert isinstance(one.amax, torch.nn.Parameter)


@pytest.mark.parametrize(("of", "shape", "count"), [("weight", (6, 5), 30), ("activation", (6, 5), 5)])
def test_of_activations_the_values_of_one_image_count(of: Any, shape: tuple[int, ...], count: int) -> None:
    one, x = quantizer(), values(0, shape)
    parameter = one.learn(of)
    one(x).sum().backward()
    expected = torch.tensor(1.27, requires_grad=True)
    learned_fake_quantize(x, expected, one.grid, count).sum().backward()
    assert parameter.grad is not None
    assert expected.grad is not None
    assert float(parameter.grad) == float(expected.grad)


def test_what_can_not_be_learned_is_refused() -> None:
    with pytest.raises(UnsupportedError, match="it has no range yet"):
        TensorQuantizer(QuantizerSpec()).learn("weight")
    with pytest.raises(UnsupportedError, match="e4m3 has no steps to learn"):
        quantizer(format="e4m3").learn("weight")


def test_an_empty_range_can_grow() -> None:
    one = TensorQuantizer(QuantizerSpec(bits=4))
    one.set_amax(torch.tensor(0.0))
    parameter = one.learn("activation")
    assert float(parameter.detach()) == SMALLEST_LEARNED
    (one(torch.ones(1, 8)) - 1).square().sum().backward()
    assert parameter.grad is not None
    assert float(parameter.grad) < 0
