"""Learned zero points, against LSQ+ written out in NumPy."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

import qzoo
from qzoo.quant import learned_scale
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.learned_scale import learned_fake_quantize
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers
from qzoo.schema.finetune import Scales
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.training.scales import keep_on_grid, learn_scales, learned_zero_points, settle_scales


def lsq_plus(x: np.ndarray, grad: np.ndarray, step: float, offset: float, bits: int) -> tuple[np.ndarray, float, float]:
    """The gradients of x, step and offset by the paper's equations 3 to 6, of `y = s * clamp(round((x - b) / s)) + b`.

    There the step's derivative is taken with the offset held, `v_bar - v`, with `v = (x - b) / s`; the zero point is
    what is held here, so that `b = -s * z` moves along: `dy/ds = v_bar - v * inside - z * outside`.
    """
    high = 2**bits - 1
    v, zero = (x - offset) / step, -offset / step
    inside = (v >= 0) & (v <= high)
    of_step = np.where(inside, np.rint(v) - v, np.clip(v, 0, high) - zero)
    return grad * inside, float((grad * of_step).sum()), float((grad * ~inside).sum())


@given(seed=st.integers(0, 1000), bits=st.sampled_from([2, 3, 4, 8]), share=st.floats(-0.2, 1.2), dtype=st.booleans())
def test_the_gradients_are_those_of_lsq_plus(seed: int, bits: int, share: float, dtype: bool) -> None:
    generator = np.random.default_rng(seed)
    x, grad = generator.normal(size=(2, 5, 8)).astype(np.float32)
    on, amax = grid(bits=bits, unsigned=True), float(np.float32(generator.uniform(0.5, 4)))
    zero_point = share * on.bound
    rounded = float(np.clip(np.rint(np.float32(zero_point)), 0, on.bound))
    step = amax / on.bound
    v = x.astype(np.float64) / step + rounded
    assume(np.abs(v - np.floor(v) - 0.5).min() > 1e-4)
    assume(np.minimum(np.abs(v), np.abs(v - on.bound)).min() > 1e-4)
    leaves = [torch.tensor(value, requires_grad=True) for value in (x, np.float32(amax), np.float32(zero_point))]
    y = learned_fake_quantize(leaves[0], leaves[1], on, 40, leaves[2])
    assert torch.equal(y, fake_quantize(leaves[0].detach(), torch.tensor(amax), on, torch.tensor(rounded)))
    y.backward(torch.from_numpy(grad))
    of_x, of_step, of_offset = lsq_plus(x.astype(np.float64), grad, step, -rounded * step, bits)
    g = 1 / math.sqrt(40 * on.high)
    found = [leaf.grad.numpy() for leaf in leaves]  # type: ignore[union-attr]
    np.testing.assert_array_equal(found[0], of_x.astype(np.float32))
    np.testing.assert_allclose(found[1], of_step * g * on.bound, rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(found[2], -of_offset * g / step, rtol=1e-4, atol=1e-3)


def test_channels_learn_zero_points_of_their_own() -> None:
    on, x = grid(bits=3, unsigned=True), torch.randn(3, 20, generator=torch.Generator().manual_seed(0))
    amax, zero_point = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.2], [3.0], [6.4]])
    leaves = [value.clone().requires_grad_() for value in (amax, zero_point)]
    learned_fake_quantize(x, leaves[0], on, 20, leaves[1]).square().sum().backward()
    for n in range(3):
        alone = [value[n, 0].clone().requires_grad_() for value in (amax, zero_point)]
        learned_fake_quantize(x[n], alone[0], on, 20, alone[1]).square().sum().backward()
        for one, other in zip(leaves, alone, strict=True):
            torch.testing.assert_close(one.grad[n, 0], other.grad)  # type: ignore[index]


def test_pieces_give_the_gradients_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    on, x = grid(bits=4, unsigned=True), torch.randn(7, 50, generator=torch.Generator().manual_seed(0))

    def gradients() -> list[torch.Tensor]:
        leaves = [value.clone().requires_grad_() for value in (x, torch.tensor(2.5), torch.tensor(6.3))]
        learned_fake_quantize(leaves[0], leaves[1], on, 350, leaves[2], kept=True).square().sum().backward()
        return [leaf.grad for leaf in leaves]  # type: ignore[misc]

    whole = gradients()
    monkeypatch.setattr(learned_scale, "WORTH_PIECES", 1)
    torch.testing.assert_close(gradients(), whole)


def learning() -> TensorQuantizer:
    quantizer = TensorQuantizer(QuantizerSpec(bits=4, symmetric=False))
    quantizer.set_amax(torch.tensor(1.5), zero_point=torch.tensor(5))
    quantizer.learn("activation")
    return quantizer


def test_a_learned_zero_point_settles_to_an_integer_of_the_grid() -> None:
    for learned, settled in ((5.4, 5), (7.6, 8), (-3.0, 0), (99.0, 15)):
        quantizer, x = learning(), torch.linspace(-1, 2, 31)
        quantizer.zero_point.data.fill_(learned)  # type: ignore[union-attr]
        y = quantizer(x).detach()
        with torch.no_grad():
            assert torch.equal(quantizer(x), y), "without gradients it is rounded too"
        quantizer.settle()
        assert quantizer.zero_point.dtype == torch.int32  # type: ignore[union-attr]
        assert int(quantizer.zero_point) == settled  # type: ignore[arg-type]
        assert torch.equal(quantizer(x), y)


def test_what_is_learned_can_be_copied_loaded_and_changed_in_dtype() -> None:
    quantizer = learning()
    quantizer.zero_point.data.fill_(7.6)  # type: ignore[union-attr]
    copied = copy.deepcopy(quantizer).bfloat16()
    assert copied.zero_point.dtype == torch.float32  # type: ignore[union-attr]
    assert torch.equal(copied.zero_point, quantizer.zero_point)  # type: ignore[arg-type]
    settled = TensorQuantizer(quantizer.spec)
    settled.load_state_dict(quantizer.state_dict())
    assert int(settled.zero_point) == 8  # type: ignore[arg-type]


def test_quantizers_of_one_tensor_share_a_learned_zero_point() -> None:
    quantizer, other = learning(), TensorQuantizer(QuantizerSpec(bits=4, symmetric=False))
    other.set_amax(torch.tensor(1.5), zero_point=torch.tensor(5))
    other.learn("activation", quantizer)
    assert other.amax is quantizer.amax
    assert other.zero_point is quantizer.zero_point


def test_training_moves_the_zero_points_and_keeps_them_on_their_grid() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(144, 3)).eval()
    fields = {"symmetric": False, "bits": 3}
    model = qzoo.quantize(net, "int8", rules=[{"match": {"type": "weighted"}, "input": fields, "weight": fields}])
    x = torch.randn(16, 1, 8, 8)
    qzoo.calibrate(model, x)
    before = {path: one.zero_point.clone() for path, one in quantizers(model).items()}  # type: ignore[union-attr]
    learn_scales(model, Scales(learn=True, init="lsq"), x)
    points = learned_zero_points(model)
    assert len(points) == 4
    assert all(int(one.zero_point.round().max()) == int(before[path].max()) for path, one in quantizers(model).items())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        (model(x) - 5).square().mean().backward()
        optimizer.step()
        keep_on_grid(points)
    assert all(bool(((point >= 0) & (point <= on.bound)).all()) for point, on in points)
    settle_scales(model)
    after = {path: one.zero_point for path, one in quantizers(model).items()}
    assert any(not torch.equal(before[path], after[path]) for path in before)  # type: ignore[arg-type]
    assert all(one.dtype == torch.int32 for one in after.values())  # type: ignore[union-attr]
