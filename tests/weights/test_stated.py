from __future__ import annotations

from pathlib import Path

import pytest

from qzoo import environment
from qzoo.weights.kinds import RANGES, RECEIPT
from qzoo.weights.receipt import ReceiptInfo, load_receipt
from qzoo.weights.stated import stated

FILE = "digits/artifacts/resnet8_digits_w4a4.receipt.safetensors"


def test_it_is_what_reading_the_whole_file_gives() -> None:
    path = environment.packaged(FILE)
    receipt = load_receipt(path)
    found = stated(path, RECEIPT)
    assert found.pop("images") == len(receipt)
    assert ReceiptInfo.model_validate(found) == receipt.info


def test_of_another_kind_it_states_nothing() -> None:
    assert stated(environment.packaged(FILE), RANGES) == {}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 8,
        b"\x02" + b"\0" * 7 + b"{}",
        b"\x02" + b"\0" * 7 + b"[]",
        b"\x08" + b"\0" * 7 + b"not JSON",
        b"\x16" + b"\0" * 7 + b'{"__metadata__": null}',
    ],
)
def test_what_is_no_artifact_states_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(content)
    assert stated(tmp_path / "a.safetensors", RECEIPT) == {}
    assert stated(tmp_path / "none.safetensors", RECEIPT) == {}
    assert stated(tmp_path, RECEIPT) == {}
