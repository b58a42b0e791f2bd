from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from qzoo.errors import WeightsError
from qzoo.weights import ranges as module
from qzoo.weights.content import content_digest
from qzoo.weights.ranges import FORMAT, RangesInfo, check_base, load_ranges, save_ranges

INFO = RangesInfo(
    name="resnet8_digits_int8", version=1, recipe_sha256="a" * 64, base_sha256="b" * 64, calibration_images=256,
    calibration_sha256="c" * 64, qzoo="0.1.0", torch="2.15.0",
)  # fmt: skip
RANGES = {
    "conv.input_quantizer.amax": torch.tensor(1.5),
    "conv.weight_quantizer.amax": torch.rand(4, 1, 1, 1),
    "conv.input_quantizer.unsigned": torch.tensor(True),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("ranges") / "good.ranges.safetensors"
    save_ranges(path, RANGES, INFO)
    return path.read_bytes()


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranges") / "damaged.ranges.safetensors"


def test_come_back_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.ranges.safetensors"
    save_ranges(path, RANGES, INFO)
    ranges, info = load_ranges(path)
    assert info == INFO
    assert content_digest(ranges) == content_digest(RANGES)


def test_are_some_kilobytes(written: bytes) -> None:
    assert len(written) < 2000


def test_replace_an_older_file_and_leave_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "x.ranges.safetensors"
    path.write_bytes(b"old")
    save_ranges(path, RANGES, INFO)
    assert load_ranges(path)[1] == INFO
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_older_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(tensors: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    path = tmp_path / "x.ranges.safetensors"
    save_ranges(path, RANGES, INFO)
    monkeypatch.setattr(module, "save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_ranges(path, {}, INFO)
    assert load_ranges(path)[1] == INFO
    assert list(tmp_path.iterdir()) == [path]


@given(st.data())
def test_one_flipped_bit_anywhere_is_noticed(written: bytes, damaged: Path, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, 8 * len(written) - 1))
    content = bytearray(written)
    content[position // 8] ^= 1 << position % 8
    damaged.write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.ranges\.safetensors"):
        load_ranges(damaged)


@given(st.data())
def test_a_truncated_file_is_refused(written: bytes, damaged: Path, data: st.DataObject) -> None:
    damaged.write_bytes(written[: data.draw(st.integers(0, len(written) - 1))])
    with pytest.raises(WeightsError, match=r"can't be read as safetensors .* Calibrate again or copy it again"):
        load_ranges(damaged)


@pytest.mark.parametrize("field", [f.name for f in dataclasses.fields(RangesInfo)])
def test_changed_words_about_the_ranges_are_noticed(field: str, tmp_path: Path) -> None:
    path = tmp_path / "x.ranges.safetensors"
    save_ranges(path, RANGES, INFO)
    digest = module._digest(RANGES, json.dumps(dataclasses.asdict(INFO), sort_keys=True))
    changed = dataclasses.asdict(INFO) | {field: "other"}
    save_file(RANGES, path, {"format": FORMAT, "info": json.dumps(changed, sort_keys=True), "digest": digest})
    with pytest.raises(WeightsError, match="is corrupt: its digest does not fit"):
        load_ranges(path)


def test_other_safetensors_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file(RANGES, path, {"format": "pt"})
    with pytest.raises(WeightsError, match=r"its format is 'pt', expected 'qzoo-ranges/1'\. Give a file that `qzoo"):
        load_ranges(path)


def test_fields_of_another_version_are_named(tmp_path: Path) -> None:
    path, info = tmp_path / "x.ranges.safetensors", dataclasses.asdict(INFO) | {"gpu": "none", "qzoo": "9.0"}
    del info["version"]
    text = json.dumps(info)
    save_file(RANGES, path, {"format": FORMAT, "info": text, "digest": module._digest(RANGES, text)})
    with pytest.raises(WeightsError, match=r"another version of qzoo \(9\.0\): the fields gpu, version differ\. Use"):
        load_ranges(path)


def test_a_missing_file_is_answered_with_the_command(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"No ranges file at .*nothing.*`qzoo calibrate NAME -o FILE` writes one"):
        load_ranges(tmp_path / "nothing")


def test_ranges_of_another_base_are_refused() -> None:
    check_base(Path("x"), INFO, INFO.base_sha256)
    with pytest.raises(WeightsError, match=r"another base: .* digest bbbbbbbbbbbb, these have dddddddddddd.*again"):
        check_base(Path("x"), INFO, "d" * 64)
