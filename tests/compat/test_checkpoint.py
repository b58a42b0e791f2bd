from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from qzoo.compat.checkpoint import PLACES, read_state_dict
from qzoo.errors import WeightsError

STATE = {"fc.weight": torch.ones(2, 2), "fc._input_quantizer._amax": torch.tensor(3.0)}


def written(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


@pytest.mark.parametrize("place", [None, *PLACES])
def test_the_state_dict_is_found_whatever_it_is_wrapped_in(tmp_path: Path, place: str | None) -> None:
    content = STATE if place is None else {"epoch": 3, "best_acc1": torch.tensor(97.1), place: STATE}
    found = read_state_dict(written(tmp_path / "a.pth", content))
    assert found.keys() == STATE.keys()
    assert torch.equal(found["fc.weight"], STATE["fc.weight"])


def test_older_files_and_safetensors(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "a.safetensors")
    for name in ("old.pt", "a.safetensors"):
        assert read_state_dict(tmp_path / name).keys() == STATE.keys()


def test_a_file_can_run_no_code(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {"state_dict": STATE, "args": argparse.Namespace(lr=0.1)})
    with pytest.raises(WeightsError, match=r"it asks for argparse.Namespace, and code from .*\(model.state_dict"):
        read_state_dict(path)
    path = written(tmp_path / "b.pth", torch.nn.Linear(2, 2))
    with pytest.raises(WeightsError, match=r"it asks for torch.nn.modules.linear.Linear, and code"):
        read_state_dict(path)


def test_a_damaged_tensor_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pth", {"w": torch.arange(10_000.0)})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"a.pth is damaged: the checksum of .* does not fit its content. Copy it"):
        read_state_dict(path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"is a folder. Give the file that `torch.save"):
        read_state_dict(tmp_path)
    with pytest.raises(WeightsError, match=r"No checkpoint at .*nowhere.pth. Give the file that `torch.save"):
        read_state_dict(tmp_path / "nowhere.pth")
    for name, text in (("text.pth", b"hello"), ("empty.pth", b""), ("text.safetensors", b"hello")):
        (tmp_path / name).write_bytes(text)
        with pytest.raises(WeightsError, match=rf"{name} is damaged or no weights file \((?!.*weights_only)"):
            read_state_dict(tmp_path / name)
    broken = written(tmp_path / "broken.pth", STATE)
    broken.write_bytes(broken.read_bytes()[:-300])
    with pytest.raises(WeightsError, match=r"broken.pth is damaged or no weights file .*torch.save"):
        read_state_dict(broken)


@pytest.mark.parametrize("content", [{"epoch": 3, "lr": 0.1}, {}, [1, 2], torch.ones(2)])
def test_what_holds_no_state_dict(tmp_path: Path, content: Any) -> None:
    with pytest.raises(WeightsError, match=r"a.pth holds no state dict, but a .*\. In the script that made the model"):
        read_state_dict(written(tmp_path / "a.pth", content))
