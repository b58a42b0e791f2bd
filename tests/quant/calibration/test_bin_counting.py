from __future__ import annotations

import numpy as np
import pytest
import torch

from qzoo.quant.calibration.bin_counting import count_aligned
from qzoo.quant.calibration.collecting import bin_counting
from qzoo.quant.calibration.histogram import ALIGNED_BINS

PIECE = 1000


@pytest.fixture(autouse=True)
def _small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bin_counting, "PIECE", PIECE)
    monkeypatch.setattr(bin_counting, "_SCRATCH", bin_counting._Scratch())


def by_definition(x: torch.Tensor, exponent: int) -> np.ndarray:
    bins = np.floor(np.abs(x.double().numpy()) / 2.0**exponent).astype(np.int64)
    return np.bincount(bins.reshape(-1), minlength=ALIGNED_BINS)


@pytest.mark.parametrize("count", [1, 3, PIECE - 1, PIECE, PIECE + 1, 5 * PIECE + 7])
@pytest.mark.parametrize("exponent", [-126, -11, -9, 0, 116])
def test_equals_the_definition(count: int, exponent: int) -> None:
    x = (torch.rand(count) * 2 - 1) * (4095.9 * 2.0**exponent)
    np.testing.assert_array_equal(count_aligned(x, exponent, signed=True).numpy(), by_definition(x, exponent))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_float_dtype(dtype: torch.dtype) -> None:
    x = torch.randn(3 * PIECE).to(dtype)
    np.testing.assert_array_equal(count_aligned(x, -9, signed=True).numpy(), by_definition(x.float(), -9))


def test_bins_are_half_open() -> None:
    edges = torch.arange(ALIGNED_BINS, dtype=torch.float32) * 2.0**-5
    below = torch.nextafter(edges[1:], torch.tensor(0.0))
    assert count_aligned(edges, -5, signed=False).tolist() == [1] * ALIGNED_BINS
    assert count_aligned(below, -5, signed=False).tolist() == [1] * (ALIGNED_BINS - 1) + [0]


@pytest.mark.parametrize("change", [
    lambda x: x.to(memory_format=torch.channels_last), lambda x: x.transpose(1, 3), lambda x: x[:, ::2], lambda x: x[0],
    lambda x: x[:1].expand(3, -1, -1, -1),
])  # fmt: skip
def test_every_memory_layout(change) -> None:  # type: ignore[no-untyped-def]
    x = change(torch.randn(4, 6, 20, 20))
    np.testing.assert_array_equal(count_aligned(x, -9, signed=True).numpy(), by_definition(x, -9))


def test_buffers_made_in_inference_mode_serve_outside() -> None:
    x = torch.rand(10)
    with torch.inference_mode():
        inside = count_aligned(x, -9, signed=False)
    assert torch.equal(count_aligned(x, -9, signed=False), inside)


def test_leaves_the_tensor_and_the_thread_count_alone() -> None:
    x, threads = torch.randn(5 * PIECE), torch.get_num_threads()
    before = x.clone()
    count_aligned(x, -9, signed=True)
    assert torch.equal(x, before)
    assert torch.get_num_threads() == threads
