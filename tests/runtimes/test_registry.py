"""A runtime is one record, which is read without torch, and which nobody asks for its name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import qzoo
from qzoo.errors import UnknownNameError
from qzoo.hub.manifest import FILES
from qzoo.runtimes.registry import RUNTIMES, runtime_named, spelled


def test_records_are_read_without_torch_and_without_any_runtime() -> None:
    heavy = ("torch", "numpy", "onnx", "onnx_ir", *(one.package for one in RUNTIMES.values()))
    code = f"import qzoo.runtimes.registry, qzoo.hub.manifest, sys; sys.exit(bool({set(heavy)} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", RUNTIMES)
def test_its_file_can_be_published_and_has_words_for_the_card(name: str) -> None:
    runtime = runtime_named(name)
    assert runtime.title in FILES[runtime.file].purpose


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'openvino'"):
        runtime_named("open-vino")
    assert spelled([RUNTIMES["openvino"]]) == "openvino"


def test_no_other_file_asks_which_runtime_it_is() -> None:
    asked = re.compile(rf"""[!=]= *["']({"|".join(RUNTIMES)})["']""")
    files = Path(qzoo.__file__).parent.rglob("*.py")
    assert [str(file) for file in files if asked.search(file.read_text())] == []
