"""Scripts that can't be changed: the old name answers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
import pytorch_quantization
import pytorch_quantization.nn as quant_nn
import pytorch_quantization.utils as quant_utils
from pytorch_quantization import calib, quant_modules, tensor_quant
from pytorch_quantization.calib.max import MaxCalibrator
from pytorch_quantization.nn.modules import _utils as quant_nn_utils
from pytorch_quantization.nn.modules.tensor_quantizer import TensorQuantizer
from pytorch_quantization.optim import helper
from pytorch_quantization.tensor_quant import QuantDescriptor
import beside
assert isinstance(quant_nn.QuantLinear(2, 2).input_quantizer, TensorQuantizer)
assert calib.MaxCalibrator is MaxCalibrator
print(__name__, sys.argv[1:], TensorQuantizer(QuantDescriptor(amax=1.0)), pytorch_quantization.__version__)
"""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "qzoo.compat", *arguments], capture_output=True, text=True, check=False
    )


def test_a_script_runs_unchanged(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "beside.py").write_text("")
    result = run(str(tmp_path / "script.py"), "--data", "x")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("__main__ ['--data', 'x'] TensorQuantizer(8bit fake per-tensor amax=1.0000")


def test_so_do_the_processes_that_it_starts(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import torch.multiprocessing as mp\n"
        "from pytorch_quantization import nn as quant_nn\n"
        "def worker(rank): print(rank, quant_nn.QuantLinear.__module__)\n"
        "if __name__ == '__main__': mp.spawn(worker, nprocs=1)\n"
    )
    result = run(str(tmp_path / "script.py"))
    assert result.returncode == 0, result.stderr
    assert result.stdout == "0 qzoo.compat.pytorch_quantization.nn.modules.quant_linear\n"


def test_how_it_is_used() -> None:
    assert "Usage: python -m qzoo.compat SCRIPT" in run("--help").stdout
    nothing = run()
    assert (nothing.returncode, "Usage" in nothing.stdout) == (2, True)
    missing = run("nowhere.py")
    assert missing.returncode == 2
    assert missing.stderr.startswith("No script at nowhere.py.")


@pytest.mark.slow
def test_the_original_is_not_pushed_aside(tmp_path: Path) -> None:
    (tmp_path / "pytorch_quantization.py").write_text("")
    code = "import pytorch_quantization; from qzoo.compat import stand_in; stand_in()"
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "UnsupportedError: pytorch_quantization is imported already, from " in result.stderr
