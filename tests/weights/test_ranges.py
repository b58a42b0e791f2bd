from __future__ import annotations

from pathlib import Path

import pytest
import torch

import qzoo
from qzoo.errors import WeightsError
from qzoo.models.bases import identity
from qzoo.quant.ranges import get_ranges
from qzoo.weights.artifact import content_digest
from qzoo.weights.ranges import RangesInfo, check_base, load_ranges, save_ranges

INFO = RangesInfo(
    name="resnet8_digits_int8", version=1, recipe_sha256="a" * 64, base_sha256="b" * 64, calibration_images=256,
    calibration_sha256="c" * 64, qzoo="0.1.0", torch="2.15.0",
)  # fmt: skip
RANGES = {
    "conv.input_quantizer.amax": torch.tensor(1.5),
    "conv.weight_quantizer.amax": torch.rand(4, 1, 1, 1),
    "conv.input_quantizer.unsigned": torch.tensor(True),
    "conv.weight_quantizer.zero_point": torch.arange(4, dtype=torch.int32).view(4, 1, 1, 1),
}


def test_come_back_as_they_were_and_are_some_kilobytes(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.ranges.safetensors"
    save_ranges(path, RANGES, INFO)
    ranges, info = load_ranges(path)
    assert info == INFO
    assert content_digest(ranges) == content_digest(RANGES)
    assert path.stat().st_size < 2000


@pytest.mark.parametrize(
    ("tensor", "text"),
    [
        ({"conv.weight": torch.zeros(2)}, r"conv\.weight \(F32 \[2\]\) is no range"),
        ({"conv.input_quantizer.amax": torch.zeros(2).double()}, r"amax \(F64 \[2\]\) is no range"),
        ({"conv.input_quantizer.unsigned": torch.tensor([True, False])}, r"unsigned \(BOOL \[2\]\) is no range"),
        ({"conv.input_quantizer.unsigned": torch.zeros(0).bool()}, r"unsigned \(BOOL \[0\]\) is no range"),
        ({"q.amax": torch.ones(2), "q.zero_point": torch.zeros(2)}, r"zero_point \(F32 \[2\]\) is no range"),
        ({"q.zero_point": torch.zeros(2, dtype=torch.int32)}, r"zero_point is there, but no range"),
        ({"q.amax": torch.ones(2), "q.zero_point": torch.zeros(3, dtype=torch.int32)}, r"\[3\], its range \[2\]"),
        (
            {"q.amax": torch.ones(1), "q.zero_point": -torch.ones(1, dtype=torch.int32)},
            r"holds -1 in q\.zero_point, and",
        ),
        ({"../../x": torch.zeros(2)}, r"\.\./\.\./x \(F32 \[2\]\) is no range"),
    ],
)
def test_what_is_no_range_is_refused(tensor: dict[str, torch.Tensor], text: str, tmp_path: Path) -> None:
    save_ranges(tmp_path / "x.ranges.safetensors", tensor, INFO)
    with pytest.raises(WeightsError, match=text):
        load_ranges(tmp_path / "x.ranges.safetensors")


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -1.0])
def test_impossible_values_reach_no_model(value: float, tmp_path: Path) -> None:
    model = qzoo.create("resnet8_digits_int8", pretrained=True)
    before = content_digest(model.state_dict())
    ranges = get_ranges(model)
    ranges["layer1.conv1.input_quantizer.amax"].fill_(value)
    path = tmp_path / "x.ranges.safetensors"
    save_ranges(path, ranges, RangesInfo(calibration_images=1, calibration_sha256="", **identity(model)))
    with pytest.raises(WeightsError, match=r"layer1\.conv1\.input_quantizer\.amax holds .* negative or not finite"):
        qzoo.load(model, path)
    assert content_digest(model.state_dict()) == before


def test_ranges_of_another_base_are_refused() -> None:
    check_base(Path("x"), INFO, INFO.base_sha256)
    with pytest.raises(WeightsError, match=r"another base: .* digest bbbbbbbbbbbb, these have dddddddddddd.*again"):
        check_base(Path("x"), INFO, "d" * 64)
