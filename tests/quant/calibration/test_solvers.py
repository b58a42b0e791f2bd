"""Properties that hold for every solver, whatever was collected."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.calibration.solvers import SOLVERS, solve
from qzoo.quant.calibration.solvers.mse import grid_levels
from qzoo.quant.calibration.solvers.stack import Search
from qzoo.schema.quantizer import METHODS, Calibrator, QuantizerSpec
from tests.each import for_each

SPECS = [
    QuantizerSpec(bits=bits, unsigned=unsigned, calibrator=calibrator)
    for bits in (2, 4, 8)
    for unsigned in (False, True)
    for calibrator in (
        Calibrator(method="max"),
        Calibrator(method="percentile", percentile=99.0),
        Calibrator(method="mse"),
        Calibrator(method="entropy"),
    )
] + [
    QuantizerSpec(bits=16, calibrator=Calibrator(method="mse")),
    QuantizerSpec(format="e4m3", calibrator=Calibrator(method="mse")),
]
tensors = arrays.arrays(np.float32, st.integers(1, 300), elements=st.floats(0, 8, width=32))


def histogram(*tensors: torch.Tensor, binning: str = "aligned") -> Histogram:
    collector = HistogramCollector(binning)
    for tensor in tensors:
        collector.collect(tensor)
    return collector.histogram()


def test_every_method_of_the_schema_has_a_solver() -> None:
    assert set(SOLVERS) == set(METHODS)


@given(tensors, st.sampled_from(SPECS))
def test_a_range_is_at_most_the_maximum_and_positive_where_there_is_data(x: np.ndarray, spec: QuantizerSpec) -> None:
    amax = float(solve([histogram(torch.from_numpy(x))], [spec])[0])
    assert 0 <= amax <= x.max()
    # A percentile of mostly zeros may be the first bin's edge; all others have to keep what is there.
    assert (amax > 0) == (x.max() > 0)


@settings(max_examples=20)
@given(st.lists(tensors, min_size=2, max_size=3), st.sampled_from(SPECS))
def test_all_at_once_is_one_by_one(several: list[np.ndarray], spec: QuantizerSpec) -> None:
    histograms = [histogram(torch.from_numpy(x)) for x in several]
    together = solve(histograms, [spec] * len(histograms))
    assert torch.equal(together, torch.cat([solve([one], [spec]) for one in histograms]))


@given(tensors, st.sampled_from(SPECS), st.integers(-90, 90))
def test_scaling_by_a_power_of_two_scales_the_range(x: np.ndarray, spec: QuantizerSpec, exponent: int) -> None:
    x = np.where(x < 1e-3, 0, x).astype(np.float32)
    scaled = torch.from_numpy(x) * 2.0**exponent
    one, other = (solve([histogram(tensor)], [spec])[0] for tensor in (torch.from_numpy(x), scaled))
    torch.testing.assert_close(one * 2.0**exponent, other, rtol=1e-6, atol=0)


@for_each("spec", SPECS, ids=str)
@for_each("value", [1e-38, 1e-6, 1e30])
def test_tiny_and_huge_constants(spec: QuantizerSpec, value: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amax = float(solve([histogram(torch.full((100,), value))], [spec])[0])
    assert amax == pytest.approx(value, rel=1e-3)


@for_each("binning", ["aligned", "reference"])
@for_each("spec", SPECS, ids=str)
def test_only_zeros_give_zero(spec: QuantizerSpec, binning: str) -> None:
    assert solve([histogram(torch.zeros(10), binning=binning)], [spec]).item() == 0


def test_auto_is_unsigned_where_nothing_is_negative() -> None:
    positive, both = histogram(torch.linspace(0, 1, 999)), histogram(torch.linspace(-1, 1, 999))
    auto, signed, unsigned = (
        QuantizerSpec(bits=4, unsigned=sign, calibrator=Calibrator(method="mse")) for sign in ("auto", False, True)
    )
    assert torch.equal(solve([positive, both], [auto, auto]), solve([positive, both], [unsigned, signed]))


@pytest.mark.parametrize("binning", ["aligned", "reference"])
@pytest.mark.parametrize("method", ["mse", "entropy"])
def test_only_ranges_that_the_search_names_are_tried(method: str, binning: str) -> None:
    seen = histogram(torch.randn(5000, generator=torch.Generator().manual_seed(1)), binning=binning)
    spec = QuantizerSpec(calibrator=Calibrator.model_validate(method))
    (amax,) = solve([seen], [spec], Search(first=500, stride=100))
    tried = seen.centres if (method, binning) == ("mse", "reference") else seen.edges
    allowed = torch.cat([tried[500::100], torch.tensor([seen.magnitude], dtype=torch.float64)])
    assert (allowed - amax).abs().min() < 1e-6


def test_nothing_counted_is_refused() -> None:
    with pytest.raises(CalibrationError, match=r"Histogram 1 counted nothing, so it has no range\."):
        solve([histogram(torch.ones(1)), histogram()], [QuantizerSpec()] * 2)


@pytest.mark.parametrize(
    ("spec", "levels"),
    [
        (QuantizerSpec(bits=2), [0, 1]),
        (QuantizerSpec(bits=2, unsigned=True), [0, 1 / 3, 2 / 3, 1]),
        (QuantizerSpec(bits=4), [level / 7 for level in range(8)]),
    ],
)
def test_levels_of_a_grid(spec: QuantizerSpec, levels: list[float]) -> None:
    assert grid_levels(spec).tolist() == pytest.approx(levels)


@pytest.mark.parametrize(("format", "count"), [("e4m3", 127), ("e5m2", 124)])
def test_levels_of_fp8(format: str, count: int) -> None:
    levels = grid_levels(QuantizerSpec(format=format))  # type: ignore[arg-type]
    assert len(levels) == count
    assert levels[0] == 0
    assert levels[-1] == 1
    assert bool((levels.diff() > 0).all())


@pytest.mark.parametrize(("percentile", "rank"), [(99.9, 999), (99.99, 1000), (50.1, 501), (0.1, 1), (99.8, 998)])
def test_a_percentile_of_a_thousand_values(percentile: float, rank: int) -> None:
    seen = histogram(torch.arange(1, 1001, dtype=torch.float32))
    (amax,) = solve([seen], [QuantizerSpec(calibrator=Calibrator(method="percentile", percentile=percentile))])
    width = float(seen.edges[1] - seen.edges[0])
    assert rank <= float(amax) <= rank + width


def _divergence(counts: list[int], keep: int, groups: int) -> float:
    """KL(P || Q) of the first bins, by loops: the outliers belong to the last bin of P, and are no part of Q."""
    counts = [counts[1], *counts[1:]]
    p, q = [*counts[:keep]], [0.0] * keep
    p[-1] += sum(counts[keep:])
    for group in range(groups):
        inside = [i for i in range(keep) if i * groups // keep == group]
        filled = [i for i in inside if counts[i]]
        for i in filled:
            q[i] = sum(counts[j] for j in inside) / len(filled)
    total, kept = sum(p), sum(q)
    if kept == 0 or any(one and not other for one, other in zip(p, q, strict=True)):
        return math.inf
    return sum(one / total * math.log(one / total / (other / kept)) for one, other in zip(p, q, strict=True) if one)


@pytest.mark.parametrize("first", [1, 2, 3, 7])
@pytest.mark.parametrize("bits", [2, 3])
def test_entropy_from_any_first_candidate(first: int, bits: int) -> None:
    counts = torch.tensor([500, 60, 40, 30, 22, 15, 9, 5, 3, 2, 1, 1, 0, 0, 0, 1])
    seen = Histogram(counts.long(), torch.linspace(0, 16, 17, dtype=torch.float64), 0.0, 16.0, "aligned")
    (amax,) = solve([seen], [QuantizerSpec(bits=bits, calibrator=Calibrator(method="entropy"))], Search(first=first))
    beyond = sum(counts.tolist()[1:])
    allowed = [k for k in range(first, 17) if 2 * sum(counts.tolist()[1:k]) >= beyond]
    by_loops = {k: _divergence(counts.tolist(), k, 1 << (bits - 1)) for k in allowed}
    least = min(by_loops.values())
    assert float(amax) == max(k for k, value in by_loops.items() if value <= least + 1e-9)


def test_a_search_that_begins_behind_the_last_bin_keeps_everything() -> None:
    seen = histogram(torch.randn(100, generator=torch.Generator().manual_seed(0)))
    spec = QuantizerSpec(calibrator=Calibrator(method="entropy"))
    assert float(solve([seen], [spec], Search(first=10**6))[0]) == pytest.approx(seen.magnitude)
