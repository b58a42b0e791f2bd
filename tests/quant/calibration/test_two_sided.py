"""Ranges with two ends, against brute force in NumPy."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.choosing import ranges_of_histograms
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.calibration.solvers import solve, solve_ends
from qzoo.quant.calibration.weight_ranges import weight_range
from qzoo.quant.fake_quant import fake_quantize, grid, represented
from qzoo.quant.zero_point import asymmetric_range
from qzoo.schema.quantizer import QuantizerSpec
from tests.each import for_each

METHODS: list[Any] = ["max", "mse", "entropy", {"percentile": 99.0}]
tensors = arrays.arrays(np.float32, st.integers(2, 300), elements=st.floats(-8, 8, width=32))


def spec(calibrator: Any = "max", bits: int = 8, symmetric: Any = False, **fields: Any) -> QuantizerSpec:
    said = {"calibrator": calibrator, "bits": bits, "symmetric": symmetric, **fields}
    return QuantizerSpec.model_validate(said)


def histogram(*batches: torch.Tensor) -> Histogram:
    collector = HistogramCollector(two_sided=True)
    for x in batches:
        collector.collect(x)
    return collector.histogram()


def ends(x: torch.Tensor, of: QuantizerSpec) -> tuple[float, float]:
    low, high = solve_ends([histogram(x)], [of])
    return float(low), float(high)


def swish(count: int = 20_000, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.silu(2 * torch.randn(count, generator=torch.Generator().manual_seed(seed)))


@settings(max_examples=40)
@given(tensors, st.sampled_from(METHODS), st.sampled_from([2, 4, 8, 16]))
def test_a_range_holds_zero_and_lies_within_what_was_seen(x: np.ndarray, method: Any, bits: int) -> None:
    low, high = ends(torch.from_numpy(x), spec(method, bits))
    assert min(0, x.min()) <= low <= 0 <= high <= max(0, x.max())


@given(tensors)
def test_max_is_min_max(x: np.ndarray) -> None:
    assert ends(torch.from_numpy(x), spec()) == (min(0, x.min()), max(0, x.max()))


@settings(max_examples=10)
@given(tensors, st.sampled_from(METHODS), st.sampled_from([2, 4, 8]))
def test_of_one_sign_it_is_the_range_of_magnitudes(x: np.ndarray, method: Any, bits: int) -> None:
    magnitudes = torch.from_numpy(np.abs(x))
    (reach,) = solve([histogram(magnitudes)], [spec(method, bits, symmetric=True, unsigned=True)]).tolist()
    assert ends(magnitudes, spec(method, bits)) == (0, reach)
    assert ends(-magnitudes, spec(method, bits)) == (-reach, 0)


def clipped_by_percentile(x: np.ndarray, percentile: Fraction) -> tuple[float, float]:
    """The exact ends: of what may lie outside, half on each side, and what one side has not, on the other."""
    ordered = np.sort(x)
    below, above = int((x < 0).sum()), int((x >= 0).sum())
    outside = len(x) - max(1, -(-(percentile * len(x)) // 100))
    low = min(outside // 2, below)
    high = min(outside - low, above)
    low = outside - high
    kept = ordered[low : len(x) - high]
    return min(0, kept.min()), max(0, kept.max())


@given(tensors, st.sampled_from([50, 90, 99, 100]))
def test_percentile_leaves_out_half_of_its_share_on_each_side(x: np.ndarray, percentile: int) -> None:
    low, high = ends(torch.from_numpy(x), spec({"percentile": percentile}))
    exact = clipped_by_percentile(x, Fraction(percentile))
    width = 2 * np.abs(x).max() / 4096
    assert 0 <= exact[0] - low <= width * 1.01
    assert 0 <= high - exact[1] <= width * 1.01


@given(tensors, st.sampled_from([50, 90, 99, 100]))
def test_percentile_of_a_weight_is_exact(x: np.ndarray, percentile: int) -> None:
    amax, _, zero_point = weight_range(torch.from_numpy(x), spec({"percentile": percentile}, bits=16), None)
    low, high = clipped_by_percentile(x, Fraction(percentile))
    assert float(amax) == pytest.approx(float(np.float32(high) - np.float32(low)))
    assert zero_point is not None


def squared_error(x: np.ndarray, low: float, high: float, bits: int) -> float:
    """The definition, in float64 NumPy."""
    step = (high - low) / (2**bits - 1)
    if step == 0:
        return float((x.astype(np.float64) ** 2).sum())
    zero_point = np.rint(-low / step)
    y = (np.clip(np.rint(x / step) + zero_point, 0, 2**bits - 1) - zero_point) * step
    return float(((y - x) ** 2).sum())


SAMPLES = {
    "swish": swish().numpy(),
    "laplace": np.random.default_rng(0).laplace(0.3, 1, 20_000),
    "a few far out": np.append(np.random.default_rng(1).normal(-1, 1, 20_000), [40.0, -25.0]),
    "hardly negative": np.append(np.abs(np.random.default_rng(2).normal(0, 1, 20_000)), [-1e-3, -3.0]),
}


@pytest.mark.parametrize("bits", [2, 4, 8])
@for_each("x", SAMPLES.values(), ids=list(SAMPLES))
def test_mse_comes_close_to_the_best_of_all_pairs(x: np.ndarray, bits: int) -> None:
    x = x.astype(np.float32)
    found = squared_error(x, *ends(torch.from_numpy(x), spec("mse", bits)), bits)
    some = x[:: len(x) // 1000]  # the best pair of a part is tried on all
    fractions = np.concatenate([[0], np.geomspace(0.02, 1, 40)])
    pairs = list(itertools.product(x.min() * fractions, x.max() * fractions))
    ranked = sorted(pairs, key=lambda pair: squared_error(some, *pair, bits))[:20]
    assert found <= 1.02 * min(squared_error(x, *pair, bits) for pair in ranked)


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mse_of_weights_comes_close_to_that_of_histograms(bits: int) -> None:
    rows = torch.stack([torch.from_numpy(x[:20_000]).float() for x in SAMPLES.values()])
    amax, _, zero_point = weight_range(rows, spec("mse", bits, per="channel"), 0)
    errors = (fake_quantize(rows, amax, grid(bits=bits, unsigned=True), zero_point) - rows).square().sum(1)
    for row, error in zip(rows, errors.tolist(), strict=True):
        assert error <= 1.05 * squared_error(row.numpy(), *ends(row, spec("mse", bits)), bits)


def test_entropy_clips_both_sides_at_the_magnitude_that_it_finds() -> None:
    x = torch.randn(50_000, generator=torch.Generator().manual_seed(0)) ** 3
    (reach,) = solve([histogram(x)], [spec("entropy", symmetric=True)]).tolist()
    assert reach < float(x.abs().max())
    assert ends(x, spec("entropy")) == (-min(reach, -float(x.min())), min(reach, float(x.max())))


@given(st.lists(arrays.arrays(np.float32, 5, elements=st.floats(-4, 4, width=32)), min_size=2, max_size=5))
def test_neither_order_nor_merging_changes_what_was_counted(batches: list[np.ndarray]) -> None:
    seen = [torch.from_numpy(batch) for batch in batches]
    parts = [HistogramCollector(two_sided=True) for _ in range(2)]
    for n, batch in enumerate(seen):
        parts[n % 2].collect(batch)
    parts[0].merge(parts[1])
    for other in (histogram(*reversed(seen)), histogram(torch.cat(seen)), parts[0].histogram()):
        one = histogram(*seen)
        assert torch.equal(one.counts, other.counts)
        assert torch.equal(one.negatives, other.negatives)  # type: ignore[arg-type]
    x = np.concatenate(batches)
    width = float(one.edges[1])
    expected = np.bincount((np.abs(x[x < 0]) / np.float64(width)).astype(int), minlength=4096)
    np.testing.assert_array_equal(one.negatives.numpy(), expected)  # type: ignore[union-attr]


def test_two_sides_do_not_change_the_counts_of_magnitudes() -> None:
    x = torch.randn(7000, generator=torch.Generator().manual_seed(0))
    one_sided = HistogramCollector()
    one_sided.collect(x)
    assert torch.equal(one_sided.histogram().counts, histogram(x).counts)
    with pytest.raises(CalibrationError, match="two-sided histogram can't be merged with a one-sided"):
        one_sided.merge(HistogramCollector(two_sided=True))


@for_each("method", ["mse", {"percentile": 99.0}])
def test_magnitudes_alone_tell_no_range_with_two_ends(method: Any) -> None:
    collector = HistogramCollector()
    collector.collect(torch.tensor([-1.0, 2.0]))
    with pytest.raises(CalibrationError, match=r"count magnitudes alone, .* Calibrate again on images"):
        solve_ends([collector.histogram()], [spec(method)])


def test_reference_binning_has_no_two_sides() -> None:
    with pytest.raises(CalibrationError, match=r"`binning: reference` counts magnitudes alone"):
        HistogramCollector("reference", two_sided=True)


@for_each(
    ("x", "expected"),
    [
        (torch.tensor([-1.0, 1.0]), (-1.0, 1.0)),  # the middle
        (torch.tensor([-0.9, 1.0]), (-1.0, 1.0)),  # a step smaller by a twentieth
        (torch.tensor([-0.2, 1.0]), (-0.2, 1.0)),
        (torch.tensor([0.0, 1.0]), (0.0, 1.0)),
        (torch.tensor([-1.0, 0.0]), (-1.0, 0.0)),
    ],
)
def test_auto_takes_a_zero_point_where_it_pays(x: torch.Tensor, expected: tuple[float, float]) -> None:
    of = spec(symmetric="auto")
    on = grid(bits=8, unsigned=True)
    for amax, _, zero_point in (ranges_of_histograms([histogram(x)], [of])[0], weight_range(x, of, None)):
        assert tuple(map(float, represented(amax, on, zero_point))) == pytest.approx(expected, abs=0.008)


def test_the_sides_of_swish_are_used() -> None:
    x = swish()
    errors = {}
    for symmetric in (True, False):
        (amax, _, zero_point) = ranges_of_histograms([histogram(x)], [spec(symmetric=symmetric)])[0]
        errors[symmetric] = float((fake_quantize(x, amax, grid(unsigned=not symmetric), zero_point) - x).square().sum())
    assert 10 * np.log10(errors[True] / errors[False]) > 5  # a step of almost half the size


def test_a_range_with_two_ends_is_wide_enough_for_float32() -> None:
    most = torch.tensor(3.4e38)
    amax, _, zero_point = asymmetric_range(-most, most, grid(unsigned=True))
    assert bool(amax.isfinite())
    assert int(zero_point) in (127, 128)  # type: ignore[arg-type]
