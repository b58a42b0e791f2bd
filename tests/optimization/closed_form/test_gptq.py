"""GPTQ against the paper's formulas, one row and one column at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qzoo.optimization.closed_form.gptq import WeightGrid, gptq, squared_product
from qzoo.quant.fake_quant import grid
from tests.each import for_each

ON = grid(bits=3)


def naive(row: np.ndarray, hessian: np.ndarray, amax: float, order: np.ndarray) -> np.ndarray:
    """Rounds a row as section 3.1 of arXiv 2210.17323 has it: equation 2, and 3 for what is left of the inverse."""
    weight, inverse, result = row.astype(np.float64), np.linalg.inv(hessian), np.empty(len(row))
    for column in order:
        result[column] = np.clip(np.round(weight[column] * (3 / amax)), -4, 3) / (3 / amax)
        weight = weight - (weight[column] - result[column]) / inverse[column, column] * inverse[:, column]
        inverse = inverse - np.outer(inverse[:, column], inverse[column]) / inverse[column, column]
        inverse[column, column] = 1.0  # it is done: nothing divides by it again
    return result


def a_layer(seed: int, rows: int = 6, columns: int = 20, groups: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(groups, columns, 60, generator=generator)
    x = x + 2 * x[:, :1] * torch.linspace(0.2, 1, columns).view(-1, 1)  # correlated, of different size
    return torch.randn(groups, rows, columns, generator=generator), x @ x.transpose(1, 2) / 60


@for_each("block, order", [(1, "given"), (7, "given"), (128, "given"), (7, "diagonal"), (20, "diagonal")])
def test_each_row_is_rounded_as_the_paper_has_it(block: int, order: str) -> None:
    weight, hessian = a_layer(3, groups=2)
    amax = weight.abs().amax(2, keepdim=True) * 0.7
    rounded = gptq(weight, hessian, WeightGrid(amax, ON), block=block, order=order).values  # type: ignore[arg-type]
    for group in range(2):
        own = hessian[group].double().numpy()
        own = own + 0.01 * own.diagonal().mean() * np.eye(20)
        by = np.argsort(-hessian[group].diagonal().numpy(), kind="stable") if order == "diagonal" else np.arange(20)
        expected = np.stack(
            [naive(row.numpy(), own, float(most), by) for row, most in zip(weight[group], amax[group], strict=True)]
        )
        np.testing.assert_allclose(rounded[group], expected, atol=1e-5)


@settings(max_examples=20)
@given(st.integers(0, 2**31), st.integers(1, 3), st.integers(1, 20))
def test_what_is_rounded_lies_on_the_grid(seed: int, groups: int, columns: int) -> None:
    weight, hessian = a_layer(seed, 3, columns, groups)
    on = WeightGrid(weight.abs().amax(2, keepdim=True), ON)
    rounded = gptq(weight, hessian, on).values
    assert torch.equal(on.rounded(rounded), rounded)


def test_products_change_less_than_of_rounding_to_nearest() -> None:
    weight, hessian = a_layer(0, rows=64, columns=50, groups=4)
    on = WeightGrid(weight.abs().amax(2, keepdim=True), ON)
    own, nearest = (
        squared_product(weight - one, hessian) for one in (gptq(weight, hessian, on).values, on.rounded(weight))
    )
    assert own.sum() < 0.5 * nearest.sum()


def test_inputs_without_correlation_leave_it_nearest() -> None:
    weight, _ = a_layer(1)
    on = WeightGrid(torch.tensor(2.0), ON)
    assert torch.equal(gptq(weight, torch.eye(20).unsqueeze(0), on).values, on.rounded(weight))


def test_a_column_without_inputs_is_rounded_to_nearest_and_moves_no_other() -> None:
    weight, hessian = a_layer(2)
    live = [place for place in range(20) if place not in (4, 11)]
    dead = hessian.clone()
    dead[:, [4, 11]] = 0
    dead[:, :, [4, 11]] = 0
    on = WeightGrid(torch.tensor(2.0), ON)
    rounded = gptq(weight, dead, on, damping=1e-6, order="given").values
    assert torch.equal(rounded[:, :, [4, 11]], on.rounded(weight[:, :, [4, 11]]))
    alone = gptq(weight[:, :, live], hessian[:, live][:, :, live], on, damping=1e-6, order="given").values
    assert torch.equal(rounded[:, :, live], alone)


def test_ranges_of_each_column_go_with_it_into_another_order() -> None:
    weight, hessian = a_layer(5)
    amax = torch.linspace(0.5, 3, 20).expand(1, 6, 20)
    rounded = gptq(weight, hessian, WeightGrid(amax, ON)).values
    assert torch.equal(WeightGrid(amax, ON).rounded(rounded), rounded)


def test_one_input_for_many_columns_is_damped_as_long_as_needed() -> None:
    rounded = gptq(torch.ones(1, 2, 3), torch.ones(1, 3, 3), WeightGrid(torch.tensor(1.0), ON), damping=1e-12)
    assert rounded.damping > 1e-12
    assert rounded.values.isfinite().all()


def test_all_inputs_zero_leave_it_nearest() -> None:
    weight, _ = a_layer(1)
    on = WeightGrid(torch.tensor(2.0), ON)
    assert torch.equal(gptq(weight, torch.zeros(1, 20, 20), on).values, on.rounded(weight))


def test_a_hessian_that_is_not_finite_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN or Inf"):
        gptq(torch.ones(1, 1, 1), torch.full((1, 1, 1), torch.nan), WeightGrid(torch.tensor(1.0), ON))
