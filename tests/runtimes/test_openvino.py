"""OpenVINO in a process that goes on to do other things."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtimes.conftest import shipped

pytestmark = pytest.mark.runtimes

SCRIPT = """
import os, signal, sys
from pathlib import Path
from qzoo.runtimes import openvino
first, second = (openvino.session(Path(sys.argv[1]), 1, True) for _ in range(2))
del first
del second
seen = []
signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
os.kill(os.getpid(), signal.SIGTERM)
assert seen == [signal.SIGTERM]
"""


def test_a_signal_after_two_sessions_does_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(shipped("resnet8_digits_int8", "openvino")[1])
    done = subprocess.run([sys.executable, "-c", SCRIPT, tmp_path / "a.onnx"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
