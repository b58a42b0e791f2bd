from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.errors import CalibrationError
from qzoo.quant.calibration import bins
from qzoo.quant.calibration.bins import MOST_REFERENCE_BINS, NumpyBins, ReferenceBins, count_aligned
from qzoo.quant.calibration.histogram import ALIGNED_BINS, Histogram
from tests.each import for_each

PIECE = 1000


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bins, "PIECE", PIECE)
    monkeypatch.setattr(bins, "_SCRATCH", bins._Scratch())


def by_definition(x: torch.Tensor, exponent: int) -> np.ndarray:
    bins = np.floor(np.abs(x.double().numpy()) / 2.0**exponent).astype(np.int64)
    return np.bincount(bins.reshape(-1), minlength=ALIGNED_BINS)


@for_each("count", [1, 3, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7])
@for_each("exponent", [-126, -11, -9, 0, 116])
def test_equals_the_definition(count: int, exponent: int) -> None:
    x = (torch.rand(count) * 2 - 1) * (4095.9 * 2.0**exponent)
    np.testing.assert_array_equal(count_aligned(x, exponent, signs="both").numpy(), by_definition(x, exponent))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(3 * PIECE).to(dtype)
    np.testing.assert_array_equal(count_aligned(x, -9, signs="both").numpy(), by_definition(x.float(), -9))


def test_bins_are_half_open() -> None:
    edges = torch.arange(ALIGNED_BINS, dtype=torch.float32) * 2.0**-5
    below = torch.nextafter(edges[1:], torch.tensor(0.0))
    assert count_aligned(edges, -5, signs="none").tolist() == [1] * ALIGNED_BINS
    assert count_aligned(below, -5, signs="none").tolist() == [1] * (ALIGNED_BINS - 1) + [0]


@pytest.mark.parametrize("change", [
    lambda x: x.to(memory_format=torch.channels_last), lambda x: x.transpose(1, 3), lambda x: x[:, ::2], lambda x: x[0],
    lambda x: x[:1].expand(3, -1, -1, -1),
])  # fmt: skip
def test_every_memory_layout(change) -> None:  # type: ignore[no-untyped-def]
    x = change(torch.randn(4, 6, 20, 20))
    np.testing.assert_array_equal(count_aligned(x, -9, signs="both").numpy(), by_definition(x, -9))


def test_buffers_made_in_inference_mode_serve_outside() -> None:
    x = torch.rand(10)
    with torch.inference_mode():
        inside = count_aligned(x, -9, signs="none")
    assert torch.equal(count_aligned(x, -9, signs="none"), inside)


def test_leaves_the_tensor_and_the_thread_count_alone() -> None:
    x, threads = torch.randn(5 * PIECE), torch.get_num_threads()
    before = x.clone()
    count_aligned(x, -9, signs="both")
    assert torch.equal(x, before)
    assert torch.get_num_threads() == threads


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
