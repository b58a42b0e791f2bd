from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from qzoo.quant.bit_packing import pack_bits, packed_length, unpack_bits
from tests.each import for_each


@given(st.sampled_from([1, 2, 4, 8]), st.data())
def test_what_was_packed_comes_back(width: int, data: st.DataObject) -> None:
    codes = torch.tensor(data.draw(st.lists(st.integers(0, 2**width - 1), max_size=40)), dtype=torch.int64)
    packed = pack_bits(codes, width)
    assert len(packed) == packed_length(len(codes), width)
    assert torch.equal(unpack_bits(packed, width, len(codes)).long(), codes)


def test_one_bit_each_is_what_numpy_packs() -> None:
    bits = np.random.default_rng(0).integers(0, 2, 1001)
    assert np.array_equal(pack_bits(torch.from_numpy(bits), 1).numpy(), np.packbits(bits, bitorder="little"))


@for_each("shape", [(), (0,), (3, 0, 2), (2, 3)])
def test_of_no_bits_there_is_nothing(shape: tuple[int, ...]) -> None:
    packed = pack_bits(torch.zeros(shape, dtype=torch.int64), 0)
    assert packed.shape == (0,)
    assert not unpack_bits(packed, 0, 6).any()
