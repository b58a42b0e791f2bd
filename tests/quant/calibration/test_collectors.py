from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.collectors import HistogramCollector, MaxCollector
from qzoo.quant.calibration.histogram import ALIGNED_BINS, Histogram

LARGEST = float(torch.finfo(torch.float32).max)


def collected(*batches: torch.Tensor, binning: str = "aligned") -> HistogramCollector:
    collector = HistogramCollector(binning)
    for batch in batches:
        collector.collect(batch)
    return collector


def assert_same(one: Histogram, other: Histogram) -> None:
    assert torch.equal(one.counts, other.counts)
    assert torch.equal(one.edges, other.edges)
    assert (one.amin, one.amax) == (other.amin, other.amax)


magnitudes = st.sampled_from([1e-40, 1e-30, 1e-3, 1.0, 3e4, LARGEST])
unit = st.floats(-1, 1, width=32)
values = st.tuples(magnitudes, arrays.arrays(np.float32, st.integers(1, 60), elements=unit)).map(
    lambda pair: (np.float64(pair[1]) * pair[0]).astype(np.float32)
)


@given(st.lists(values, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_any_split_and_order_gives_the_same_histogram(parts: list[np.ndarray], random) -> None:  # type: ignore[no-untyped-def]
    everything = np.concatenate(parts)
    once = collected(torch.from_numpy(everything)).histogram()
    shuffled = torch.from_numpy(np.random.default_rng(random.randrange(2**32)).permutation(everything))
    cuts = sorted(random.randrange(len(everything) + 1) for _ in range(5))
    assert_same(collected(*shuffled.tensor_split(cuts)).histogram(), once)
    random.shuffle(parts)
    assert_same(collected(*map(torch.from_numpy, parts)).histogram(), once)


@given(st.lists(values, min_size=2, max_size=6), st.data())
def test_merging_equals_collecting_all(parts: list[np.ndarray], data: st.DataObject) -> None:
    batches = [torch.from_numpy(part) for part in parts]
    cut = data.draw(st.integers(1, len(batches) - 1))
    merged = collected(*batches[:cut])
    merged.merge(collected(*batches[cut:]))
    assert_same(merged.histogram(), collected(*batches).histogram())


@given(values)
def test_counts_are_those_of_the_edges(x: np.ndarray) -> None:
    histogram = collected(torch.from_numpy(x)).histogram()
    edges = histogram.edges.numpy()
    expected = np.bincount(np.searchsorted(edges, np.abs(np.float64(x)), side="right") - 1, minlength=ALIGNED_BINS)
    np.testing.assert_array_equal(histogram.counts.numpy(), expected)
    assert (histogram.amin, histogram.amax) == (x.min(), x.max())


@given(values.filter(lambda x: np.abs(x).max() > 1e-30))
def test_the_width_is_the_smallest_that_holds_all(x: np.ndarray) -> None:
    histogram = collected(torch.from_numpy(x)).histogram()
    assert histogram.edges[-1] > histogram.magnitude >= histogram.edges[ALIGNED_BINS // 2]


def test_a_range_that_grows_ten_thousand_fold_keeps_the_number_of_bins() -> None:
    first = torch.rand(1000)
    collector = collected(first, *(first * 10.0**power for power in range(1, 5)))
    histogram = collector.histogram()
    assert len(histogram.counts) == ALIGNED_BINS
    assert histogram.total == 5000


def test_zeros_are_counted_before_and_after_anything_else() -> None:
    zeros, some = torch.zeros(7), torch.tensor([-2.0, 3.0])
    assert collected(zeros).histogram().counts[0] == 7
    assert_same(collected(zeros, some).histogram(), collected(some, zeros).histogram())


def test_counts_go_beyond_what_float32_holds() -> None:
    limit = 2**24
    collector = collected(torch.zeros(1).expand(limit), torch.zeros(3), torch.tensor([1.0]))
    assert collector.histogram().counts[0] == limit + 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_counts_as_float32(dtype: torch.dtype) -> None:
    x = torch.randn(5000).to(dtype)
    assert_same(collected(x).histogram(), collected(x.float()).histogram())


@pytest.mark.parametrize("binning", ["aligned", "reference"])
def test_memory_format_does_not_matter(binning: str) -> None:
    x = torch.randn(2, 8, 9, 9)
    last = x.to(memory_format=torch.channels_last)
    assert_same(collected(last, binning=binning).histogram(), collected(x, binning=binning).histogram())


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("make", [MaxCollector, HistogramCollector])
def test_what_is_not_finite_is_noticed_and_stays_noticed(make: type[MaxCollector], bad: float) -> None:
    collector = make()
    for batch in (torch.ones(3), torch.tensor([0.5, bad, 2.0]), torch.ones(3)):
        collector.collect(batch)
    assert collector.nonfinite
    assert not collector.empty
    whole = make()
    whole.merge(collector)
    assert whole.nonfinite


@pytest.mark.parametrize("make", [MaxCollector, HistogramCollector])
def test_empty_until_something_came(make: type[MaxCollector]) -> None:
    collector = make()
    collector.collect(torch.empty(0, 3))
    assert collector.empty
    assert not collector.nonfinite
    collector.collect(torch.zeros(1))
    assert not collector.empty


def test_reference_adds_bins_of_the_first_width() -> None:
    histogram = collected(torch.tensor([2.0]), torch.tensor([3.0]), binning="reference").histogram()
    assert len(histogram.counts) == 3072
    assert histogram.edges[1].item() == pytest.approx(2 / 2048)
    assert histogram.total == 2


def test_reference_refuses_more_than_a_million_bins() -> None:
    collector = collected(torch.tensor([1.0]), binning="reference")
    message = (
        r"A batch reaches 500, 500 times the first one's maximum\. With `binning: reference` that takes 1,024,000 "
        r"bins, more than 1,000,000.* Use `binning: aligned`, or put a typical batch first\."
    )
    with pytest.raises(CalibrationError, match=message):
        collector.collect(torch.tensor([500.0]))


@pytest.mark.parametrize(
    ("one", "other"), [("reference", "reference"), ("reference", "aligned"), ("aligned", "reference")]
)
def test_only_aligned_histograms_merge(one: str, other: str) -> None:
    collector = collected(torch.ones(2), binning=one)
    with pytest.raises(CalibrationError, match=r"Only histograms of aligned binning can be merged\. Collect with"):
        collector.merge(collected(torch.zeros(2), binning=other))
    assert collector.amin == 1, "refused before anything was added"
