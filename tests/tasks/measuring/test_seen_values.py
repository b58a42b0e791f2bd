"""Histograms with a few bins hold what the many did."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.tasks.measuring.seen_values import MOST_BINS, of_histogram, of_tensor, share_beyond


def counted(values: list[float]) -> HistogramCollector:
    collector = HistogramCollector(two_sided=True)
    collector.collect(torch.tensor(values))
    return collector


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=50))
def test_each_value_lies_in_its_bin(values: list[float]) -> None:
    seen = of_histogram(counted(values).histogram())
    assert sum(seen.counts) == len(values)
    assert len(seen.counts) + 1 == len(seen.edges) <= MOST_BINS + 3
    assert (seen.low, seen.high) == (min(values), max(values))
    width = seen.edges[1] - seen.edges[0]
    for low, count in zip(seen.edges, seen.counts, strict=False):
        inside = sum(low <= value < low + width for value in values if value >= 0)
        # Negative values are counted by their magnitude, so an edge belongs to the bin below it.
        inside += sum(low < value <= low + width for value in values if value < 0)
        assert inside == count


def test_without_signs_all_is_above_zero() -> None:
    collector = HistogramCollector(binning="reference")
    collector.collect(torch.tensor([-3.0, 1.0, 2.0]))
    seen = of_histogram(collector.histogram())
    assert seen.edges[0] == 0
    assert sum(seen.counts) == 3


def test_weights_and_what_is_constant() -> None:
    assert sum(of_tensor(torch.linspace(-1, 1, 1000)).counts) == 1000
    assert sum(of_tensor(torch.full((8,), 2.0)).counts) == 8


def test_share_beyond_counts_both_ends() -> None:
    histogram = counted([-4.0, -1.0, 0.0, 1.0, 2.0, 8.0, 8.0, 8.0]).histogram()
    assert share_beyond(histogram, -2.0, 4.0) == 4 / 8
    assert share_beyond(histogram, 0.0, 100.0) == 2 / 8
    assert share_beyond(histogram, -100.0, 100.0) == 0
