from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

import qzoo
from qzoo.quant.fake_quant import Grid, dequantize, fake_quantize, grid, quantize
from qzoo.quant.packing import pack, packable, packed_dtype, packed_fault, packed_shape, unpack

INTEGERS = st.builds(
    lambda bits, kind: grid(bits=bits, unsigned=kind == "unsigned", narrow=kind == "narrow"),
    st.integers(2, 16), st.sampled_from(["signed", "unsigned", "narrow"]),
)  # fmt: skip
GRIDS = INTEGERS | st.sampled_from([grid("e4m3"), grid("e5m2")])
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@given(GRIDS, SHAPES, st.booleans(), st.sampled_from([0.0, 2.0**-24, 1e-3, 0.7, 40.0]), st.integers(0, 10))
def test_unpacks_to_the_fake_quantized_weight(
    on: Grid, shape: tuple[int, ...], per_channel: bool, share: float, seed: int
) -> None:
    weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    channel = (shape[0], *(1,) * (len(shape) - 1))
    amax = torch.full(channel if per_channel else (), share)
    expected, packed = fake_quantize(weight, amax, on), pack(weight, amax, on)
    assert packed.dtype == packed_dtype(on)
    assert packed_fault(packed, on, shape) is None
    assert tuple(packed.shape) == packed_shape(shape, on)
    unpacked = unpack(packed, amax, on, shape)
    assert torch.equal(unpacked, expected)
    assert torch.equal(fake_quantize(unpacked, amax, on), expected)


@given(GRIDS, st.integers(0, 10))
def test_fake_quantizing_is_quantizing_and_back(on: Grid, seed: int) -> None:
    x, amax = torch.randn(50, generator=torch.Generator().manual_seed(seed)), torch.tensor(1.3)
    assert torch.equal(dequantize(quantize(x, amax, on), amax, on), fake_quantize(x, amax, on))


@pytest.mark.parametrize(("bits", "share"), [(2, 4), (3, 2), (4, 2), (5, 1), (8, 1), (9, 0.5), (16, 0.5)])
def test_so_many_values_share_a_byte(bits: int, share: float) -> None:
    packed = pack(torch.randn(64), torch.tensor(1.0), grid(bits=bits))
    assert packed.numel() * packed.element_size() == 64 / share


@pytest.mark.parametrize("bits", [2, 4, 8, 12])
def test_is_done_where_the_weight_lies(bits: int) -> None:
    on, shape = grid(bits=bits), (4, 6)
    packed = pack(torch.empty(shape, device="meta"), torch.empty((), device="meta"), on)
    assert packed.device.type == unpack(packed, torch.empty((), device="meta"), on, shape).device.type == "meta"


def test_shared_and_parametrized_weights_are_not_packed() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two, self.own = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.normed = weight_norm(nn.Linear(4, 4))
            self.two.weight = self.one.weight

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.own(self.normed(self.two(self.one(x))))

    model = qzoo.quantize(Tied(), "int8")
    qzoo.calibrate(model, torch.randn(8, 4))
    assert list(packable(model)) == ["own.weight"]


@pytest.mark.parametrize(
    ("on", "packed", "fault"),
    [
        (grid(bits=8), torch.tensor([-128, 127], dtype=torch.int8), None),
        (grid(bits=8, narrow=True), torch.tensor([1, -128], dtype=torch.int8), "holds -128, its grid -127 to 127"),
        (grid(bits=6), torch.tensor([1, 40], dtype=torch.int8), "holds 40, its grid -32 to 31"),
        (grid(bits=10), torch.tensor([1, 513], dtype=torch.int16), "holds 513, its grid -512 to 511"),
        (grid(bits=4), torch.tensor([0xFF], dtype=torch.uint8), None),
        (grid(bits=4, narrow=True), torch.tensor([0xF0], dtype=torch.uint8), "holds 15, its grid 0 to 14"),
        (grid(bits=3), torch.tensor([0x08], dtype=torch.uint8), "holds 8, its grid 0 to 7"),
        (grid("e4m3"), torch.tensor([0, 0x7F], dtype=torch.uint8).view(torch.float8_e4m3fn), "holds nan, its grid"),
    ],
)
def test_what_no_weight_of_a_grid_packs_to_is_told(on: Grid, packed: torch.Tensor, fault: str | None) -> None:
    found = packed_fault(packed, on, (2,))
    assert found is None if fault is None else str(found).startswith(fault)


def test_bits_behind_the_last_value_are_told() -> None:
    weight, on = torch.tensor([0.5, -1.0, 1.0]), grid(bits=4)
    packed = pack(weight, torch.tensor(1.0), on)
    assert packed_fault(packed, on, (3,)) is None
    packed[-1] |= 0x10
    assert packed_fault(packed, on, (3,)) == "has bits set behind its last value"
