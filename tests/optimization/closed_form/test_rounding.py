"""Rounding the weights of models, and the second moments that it is computed from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qzoo
from qzoo.errors import DataError, NotCalibratedError
from qzoo.optimization.closed_form import layer_inputs
from qzoo.optimization.closed_form.layer_inputs import gather, in_passes, reads_of
from qzoo.optimization.closed_form.rounding import round_weights
from qzoo.quant.derived import copy_model
from qzoo.quant.weights import quantized_weights
from qzoo.schema.optimize import Round
from tests.each import for_each
from tests.optimization.closed_form.attention import SelfAttention

GPTQ = Round(method="gptq")


def images(count: int = 40, channels: int = 4, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shared = torch.randn(count, 1, size, size, generator=generator)
    return shared + torch.randn(count, channels, size, size, generator=generator) * torch.linspace(
        0.1, 1, channels
    ).view(-1, 1, 1)


def tokens(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(*shape, generator=generator) + 2 * torch.randn(*shape[:-1], 1, generator=generator)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8, stride=2, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(8, 6, 2, groups=2), nn.ReLU(), nn.Flatten(1), nn.Linear(6 * 16, 5),
    )  # fmt: skip


class Functional(nn.Module):
    """One that multiplies by parameters itself, one of them in parts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.qkv = nn.Parameter(torch.randn(12, 4))
        self.own = nn.Parameter(torch.randn(4, 3))

    def forward(self, x: Tensor) -> Tensor:
        first, second = self.qkv.chunk(2)
        return (F.linear(x, first) * F.linear(x.relu(), second)).sum(-1, keepdim=True) + x @ self.own


def on_grid(model: nn.Module) -> bool:
    found = [one for one in quantized_weights(model).values() if one.key is not None]
    return all(torch.equal(one.quantizer(one.values), one.values) for one in found)


def error(model: nn.Module, rounded: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        return float((model(x) - rounded(x)).square().mean())


def hessian_of(model: nn.Module, x: Tensor) -> Tensor:
    weights = quantized_weights(model)
    (read,) = reads_of(model, weights, x)
    return gather(model, weights, [read], [x[:25], x[25:]])[read].hessian()


def test_nearest_writes_what_the_quantizer_gives_and_changes_no_output(calibrated: Any) -> None:
    x = images()
    model = calibrated(net(), x)
    before = model(x)
    changes = round_weights(model, Round())
    assert on_grid(model)
    assert [one.path for one in changes] == [*quantized_weights(model)]
    assert torch.equal(model(x), before)


@for_each("make", [net, Functional])
def test_gptq_rounds_every_weight_to_its_grid_with_less_error(make: Any) -> None:
    model, x = make().eval(), images(120) if make is net else tokens(300, 4)
    quantized = qzoo.calibrate(qzoo.quantize(model, "w4a8", example=x), [x])
    nearest = copy_model(quantized)
    changes = round_weights(quantized, GPTQ, [x[:50], x[50:]])
    assert on_grid(quantized)
    assert all(one.after <= one.before and not one.note for one in changes)  # type: ignore[operator]
    assert len(changes) == len(quantized_weights(quantized))
    assert error(model, quantized, x) < 0.8 * error(model, nearest, x)


def test_the_error_that_is_told_is_that_of_the_products(calibrated: Any) -> None:
    x = torch.randn(50, 6) @ torch.randn(6, 6)
    layer = nn.Sequential(nn.Linear(6, 3, bias=False))
    model = calibrated(layer, x)
    inputs, weight = model[0].input_quantizer(x), model[0].weight.detach().clone()
    nearest = model[0].weight_quantizer(weight)
    (change,) = round_weights(model, GPTQ, [x])
    product = (inputs @ weight.T).square().sum()
    for told, made in [(change.before, nearest), (change.after, model[0].weight.detach())]:
        assert told == pytest.approx(float((inputs @ (weight - made).T).square().sum() / product), rel=1e-4)


@for_each("mode", ["zeros", "circular", "reflect", "replicate"])
def test_the_hessian_is_that_of_what_is_multiplied(mode: str) -> None:
    x = images(30, 2, 5)
    layer = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1, padding_mode=mode)).eval()
    model = qzoo.calibrate(qzoo.quantize(layer, "w4a8"), [x])
    padded = np.pad(
        model[0].input_quantizer(x).numpy(),
        [(0, 0), (0, 0), (1, 1), (1, 1)],
        mode={"zeros": "constant", "circular": "wrap", "reflect": "reflect", "replicate": "edge"}[mode],
    )
    columns = np.stack(
        [padded[n, :, i : i + 3, j : j + 3].ravel() for n in range(30) for i in range(5) for j in range(5)], 1
    )
    np.testing.assert_allclose(hessian_of(model, x)[0], columns @ columns.T / 750, rtol=1e-4, atol=1e-5)


def test_attention_of_torch_is_rounded_too(calibrated: Any) -> None:
    x = tokens(20, 10, 8)
    model = calibrated(SelfAttention(), x)
    changes = round_weights(model, GPTQ, [x])
    assert [one.path for one in changes] == [*quantized_weights(model)]
    assert all(one.after < one.before for one in changes)  # type: ignore[operator]
    assert on_grid(model)


class Standardized(nn.Linear):
    """Whose forward computes what it multiplies by."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight - self.weight.mean())


def test_a_weight_that_nothing_multiplies_by_is_rounded_to_nearest_and_told(calibrated: Any) -> None:
    x = torch.randn(20, 4)
    model = calibrated(nn.Sequential(Standardized(4, 3, bias=False)), x)
    (change,) = round_weights(model, GPTQ, [x])
    assert (
        "no linear layer, convolution or matrix product was seen to multiply by it: rounded to nearest" in change.note
    )
    assert on_grid(model)


def test_inputs_that_are_not_finite_leave_that_layer_nearest(calibrated: Any) -> None:
    x = images()
    model, other = calibrated(net(), x), calibrated(net(), x)
    bad = x.clone()
    bad[3, 0, 0, 0] = torch.nan
    changes = round_weights(model, GPTQ, [bad])
    assert "its inputs hold NaN or Inf: rounded to nearest" in changes[0].note
    assert torch.equal(model[0].weight, other[0].weight_quantizer(other[0].weight))


def test_fewer_inputs_than_columns_are_told(calibrated: Any) -> None:
    x = torch.randn(5, 8)
    model = calibrated(nn.Sequential(nn.Linear(8, 3)), x)
    (change,) = round_weights(model, GPTQ, [x])
    assert change.note == "only 5 inputs for 8 columns: more images would tell more"
    assert on_grid(model)


def test_thinned_inputs_are_as_many_as_asked_for_and_round_as_well(calibrated: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(layer_inputs, "PLACES_A_COLUMN", 8)
    x = images(32, 4, 16)
    model = calibrated(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1)), x)
    weights = quantized_weights(model)
    (read,) = reads_of(model, weights, x)
    moments = gather(model, weights, [read], [x], images=32)[read]
    assert 8 * 36 <= moments.places < 16 * 36
    (change,) = round_weights(model, GPTQ, [x], images=32)
    assert change.after < 0.8 * change.before  # type: ignore[operator]


def test_moments_that_memory_does_not_hold_take_several_passes(calibrated: Any, monkeypatch: Any) -> None:
    x, shown = images(), []

    def progress(batches: Any, count: int | None, what: str) -> Iterator[Any]:
        shown.append((count, what))
        return iter(batches)

    model = calibrated(net(), x)
    monkeypatch.setattr(layer_inputs, "MEMORY", 4 * (36**2 + 8 * 9**2))
    changes = round_weights(model, GPTQ, [x], images=40, progress=progress)
    assert shown == [(40, "rounding weights")] * 3
    assert [one.path for one in changes] == [*quantized_weights(model)]


def test_the_parts_of_one_weight_are_in_one_pass(monkeypatch: Any) -> None:
    monkeypatch.setattr(layer_inputs, "MEMORY", 1)
    x = torch.randn(30, 4)
    model = qzoo.calibrate(qzoo.quantize(Functional().eval(), "w4a8", example=x), [x])
    groups = [*in_passes(reads_of(model, quantized_weights(model), x))]
    assert [len(group) for group in groups] == [2, 1]


def test_the_same_images_give_the_same_bits(calibrated: Any) -> None:
    x = images()
    models = [calibrated(net(), x) for _ in range(2)]
    for model in models:
        round_weights(model, GPTQ, [x])
    assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in models), strict=True))


def test_without_ranges_it_is_refused() -> None:
    with pytest.raises(NotCalibratedError, match="Can't round its weights"):
        round_weights(qzoo.quantize(net(), "w4a8"), GPTQ, [images()])


def test_without_images_it_is_refused(calibrated: Any) -> None:
    with pytest.raises(DataError, match="There are no images to optimize with"):
        round_weights(calibrated(net(), images()), GPTQ, [])


def test_parameters_stay_the_same_objects(calibrated: Any) -> None:
    model = calibrated(net(), images())
    before = dict(model.named_parameters())
    round_weights(model, GPTQ, [images()])
    assert all(one is before[name] and one.requires_grad for name, one in model.named_parameters())


def test_weights_of_half_precision_are_rounded(calibrated: Any) -> None:
    x = tokens(100, 8)
    model = calibrated(nn.Sequential(nn.Linear(8, 4)), x).bfloat16()
    (change,) = round_weights(model, GPTQ, [x.bfloat16()])
    assert change.after <= change.before  # type: ignore[operator]
    assert on_grid(model)
