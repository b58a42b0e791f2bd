from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.calibration.reference_bins import MOST_REFERENCE_BINS, NumpyBins, ReferenceBins

KINDS = [ReferenceBins, NumpyBins]


def add(bins: ReferenceBins, *values: float) -> ReferenceBins:
    x = torch.tensor(values)
    bins.add(x, float(x.abs().max()), signed=bool((x < 0).any()))
    return bins


@pytest.mark.parametrize("kind", KINDS)
@given(sizes=st.lists(st.integers(1, 200), min_size=1, max_size=4), bins=st.integers(2, 64))
def test_every_value_from_0_to_the_largest_is_counted_once(
    kind: type[ReferenceBins], sizes: list[int], bins: int
) -> None:
    generator, counted = torch.Generator().manual_seed(0), kind(bins)
    for step, size in enumerate(sizes):
        add(counted, 0.0, *((step + 1) * torch.rand(size, generator=generator)).tolist())
    counts, edges, binning = counted.result()
    assert counts.sum() == sum(sizes) + len(sizes)
    assert (len(edges), binning) == (len(counts) + 1, "reference")


@pytest.mark.parametrize("kind", KINDS)
def test_signs_do_not_count(kind: type[ReferenceBins]) -> None:
    assert torch.equal(add(kind(8), 0.0, -1.0, 2.0).counts, add(kind(8), 0.0, 1.0, -2.0).counts)


def test_the_width_stays_and_bins_are_added() -> None:
    bins = add(add(ReferenceBins(4), 1.0, 4.0), 9.5)
    assert bins.counts.tolist() == [0, 1, 0, 1, 0, 0, 0, 0, 0, 1]
    assert bins.edges[:11].tolist() == list(range(11))
    add(bins, 2.5)
    assert len(bins.counts) == 10


def test_numpys_start_at_the_smallest_and_leave_smaller_ones_out() -> None:
    bins = add(add(NumpyBins(2), 1.0, 3.0), 0.5, 2.5)
    assert bins.edges.tolist() == [1, 2, 3]
    assert bins.counts.tolist() == [1, 2]


@pytest.mark.parametrize("kind", KINDS)
def test_a_range_that_outgrows_a_million_bins_is_refused(kind: type[ReferenceBins]) -> None:
    bins = add(kind(), 0.0, 1.0)
    with pytest.raises(CalibrationError, match=r"A batch reaches 1e\+04, .* more than 1,000,000, because its b"):
        add(bins, 1e4)
    assert len(bins.counts) < MOST_REFERENCE_BINS


def test_it_goes_on_from_a_histogram() -> None:
    first = add(ReferenceBins(), 0.3, 1.0)
    counts, edges, binning = first.result()
    again = ReferenceBins()
    assert again.empty
    again.restore(Histogram(counts, edges, 0.3, 1.0, binning))
    assert not again.empty
    np.testing.assert_array_equal(add(again, 0.7).counts, add(first, 0.7).counts)
