"""Bias correction, by hand on small layers."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qzoo.optimization.closed_form.correct_bias import correct_bias
from qzoo.optimization.closed_form.rounding import round_weights
from qzoo.quant.ranges import quantizers
from qzoo.schema.optimize import Round
from tests.optimization.closed_form.attention import SelfAttention


def images(count: int = 60) -> Tensor:
    return torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(0)) + torch.tensor([0.0, 1.0, 3.0]).view(
        3, 1, 1
    )


def two(bias: bool = False) -> nn.Module:
    torch.manual_seed(0)
    first, second = (nn.BatchNorm2d(size, eps=0) for size in (4, 5))
    for norm in (first, second):
        nn.init.uniform_(norm.weight, 0.5, 2)
        nn.init.normal_(norm.bias)
        nn.init.normal_(norm.running_mean)
        nn.init.uniform_(norm.running_var, 0.5, 2)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=bias), first, nn.ReLU(), nn.Conv2d(4, 5, 3, bias=bias), second).eval()


def test_the_bias_of_a_layer_takes_the_mean_error_of_its_output(calibrated: Any) -> None:
    x = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)) + 2
    model = nn.Sequential(nn.Linear(6, 3))
    quantized = calibrated(copy.deepcopy(model), x, "w4a4")
    bias = quantized[0].bias.detach().clone()
    shift = (model(x) - quantized(x)).detach().mean(0)
    (change,) = correct_bias(quantized, "empirical", [x], model)
    torch.testing.assert_close(quantized[0].bias.detach(), bias + shift)
    assert change.before == pytest.approx(
        float(shift.square().sum() / model(x).detach().mean(0).square().sum()), rel=1e-4
    )


@pytest.mark.parametrize("bias", [False, True])
def test_layers_in_a_row_all_have_the_mean_of_the_float_model(calibrated: Any, bias: bool) -> None:
    x, model = images(), two(bias)
    quantized = calibrated(copy.deepcopy(model), x, "w4a4")
    weights = [quantized[place].weight.detach().clone() for place in (0, 3)]
    assert not any(one.note for one in correct_bias(quantized, True, [x], model))
    for end in (2, 5):
        wanted, given = (one[:end](x).detach().mean((0, 2, 3)) for one in (model, quantized))
        torch.testing.assert_close(given, wanted, atol=1e-4, rtol=1e-4)
    assert all(torch.equal(quantized[place].weight, one) for place, one in zip((0, 3), weights, strict=True))


def test_a_layer_without_bias_shifts_the_running_mean_of_its_norm(calibrated: Any) -> None:
    x, model = images(), two()
    quantized = calibrated(copy.deepcopy(model), x, "w4a4")
    shift = (model[0](x) - quantized[0](x)).detach().mean((0, 2, 3))
    correct_bias(quantized, True, [x], model)
    torch.testing.assert_close(quantized[1].running_mean, model[1].running_mean - shift, atol=1e-5, rtol=1e-5)


def test_batches_give_nearly_what_all_images_at_once_give(calibrated: Any) -> None:
    x, model = images(), two()
    at_once, in_batches = (calibrated(copy.deepcopy(model), x, "w4a4") for _ in range(2))
    correct_bias(at_once, True, [x], model)
    correct_bias(in_batches, True, x.split(10), model)
    torch.testing.assert_close(in_batches[1].running_mean, at_once[1].running_mean, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(in_batches[4].running_mean, at_once[4].running_mean, atol=5e-2, rtol=0)


class Branching(nn.Module):
    """Whose convolution is read by its norm and by another."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return self.norm(y) + y


@pytest.mark.parametrize("make", [Branching, lambda: nn.Conv2d(3, 4, 1, bias=False)])
@pytest.mark.parametrize("how", ["empirical", "analytic"])
def test_without_a_place_nothing_is_corrected_and_that_is_told(calibrated: Any, make: Any, how: Any) -> None:
    x, model = images(), nn.Sequential(make()).eval()
    quantized = calibrated(copy.deepcopy(model), x)
    before = {key: one.clone() for key, one in quantized.state_dict().items()}
    (change,) = correct_bias(quantized, how, [x], model)
    assert change.note == "no bias, and no batch norm that alone reads it: not corrected"
    assert all(torch.equal(one, before[key]) for key, one in quantized.state_dict().items())


def test_attention_of_torch_is_corrected_in_its_own_bias(calibrated: Any) -> None:
    x, model = torch.randn(20, 5, 8) + 1, SelfAttention().eval()
    quantized = calibrated(copy.deepcopy(model), x, "w4a4")
    assert not any(one.note for one in correct_bias(quantized, True, [x], model))
    torch.testing.assert_close(quantized(x).detach().mean((0, 1)), model(x).detach().mean((0, 1)), atol=1e-5, rtol=1e-5)
    assert not torch.equal(quantized.attention.in_proj_bias, model.attention.in_proj_bias)


def test_the_analytic_shift_is_that_of_weights_times_mean_inputs(calibrated: Any) -> None:
    x, model = images(), two()
    quantized = calibrated(copy.deepcopy(model), x)
    round_weights(quantized, Round())
    first, second = correct_bias(quantized, "analytic", [x], model)
    assert first.note == "no batch norm tells what its inputs are: not corrected"
    assert not second.note
    draws = model[1].bias + model[1].weight * torch.randn(400_000, 4, generator=torch.Generator().manual_seed(0))
    mean = draws.detach().relu().mean(0)
    shift = ((model[3].weight - quantized[3].weight).detach().sum((2, 3)) * mean).sum(1)
    torch.testing.assert_close(quantized[4].running_mean, model[4].running_mean - shift, atol=2e-3, rtol=0)
    assert torch.equal(quantized[1].running_mean, model[1].running_mean)


def test_images_that_are_not_finite_leave_biases_as_they_are(calibrated: Any) -> None:
    x, model = images(), two(bias=True)
    quantized = calibrated(copy.deepcopy(model), x)
    bad = x.clone()
    bad[0] = torch.nan
    changes = correct_bias(quantized, True, [bad], model)
    assert {one.note for one in changes} == {"what it gives holds NaN or Inf: not corrected"}
    assert torch.equal(quantized[0].bias, model[0].bias)
    assert all(one.calibrated for one in quantizers(quantized).values())


@pytest.mark.parametrize("part", ["weight", "bias"])
@pytest.mark.parametrize("how", ["empirical", "analytic"])
def test_what_several_layers_have_is_not_corrected_and_told(calibrated: Any, part: str, how: Any) -> None:
    model = nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    setattr(model[3], part, getattr(model[1], part))
    x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0)) + 2
    quantized = calibrated(copy.deepcopy(model), x, "w4a4")
    before = quantized[1].bias.detach().clone()
    changes = correct_bias(quantized, how, [x], model.eval())
    assert [("several layers have" in one.note) for one in changes] == [True, True, False]
    assert torch.equal(quantized[1].bias, before)
