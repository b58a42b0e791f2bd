from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from qzoo.report.sensitivity import noise_percent, sensitivity_chart
from qzoo.results.sensitivity import SensitivityReport

Make = Callable[..., SensitivityReport]


@pytest.mark.parametrize("layers", [1, 8, 60])
@pytest.mark.parametrize("labelled", [True, False])
def test_the_picture_grows_with_the_layers(example: Make, layers: int, labelled: bool, tmp_path: Path) -> None:
    sensitivity_chart(example(layers, labelled), tmp_path / "all.png")
    sensitivity_chart(example(layers, labelled), tmp_path / "one.png", top=1)
    with Image.open(tmp_path / "all.png") as every, Image.open(tmp_path / "one.png") as one:
        assert every.width == one.width
        # A row of a fixed height keeps the names legible, however many there are.
        assert every.height - one.height == pytest.approx(36 * (layers - 1), abs=1)


def test_names_and_figures_are_in_it(example: Make, tmp_path: Path) -> None:
    sensitivity_chart(example(3), tmp_path / "chart.svg")
    text = (tmp_path / "chart.svg").read_text()
    # Matplotlib notes each text that it draws beside its outlines.
    assert all(f"<!-- {words} -->" in text for words in ("block.0.conv", "block.2.conv", "10.0 dB", "exact"))
    assert "top-1 76.00 to 70.00, SQNR 9.0 dB" in text


def test_noise_in_percent() -> None:
    assert [noise_percent(value) for value in (None, 20.0, 0.0, -10.0)] == [0.0, 1.0, 100.0, pytest.approx(1000.0)]


def test_matplotlib_is_imported_only_for_a_chart(tmp_path: Path) -> None:
    code = "import qzoo.cli.main, qzoo.report.sensitivity, qzoo.commands.sensitivity, sys; \
sys.exit('matplotlib' in sys.modules)"
    environment = os.environ | {"MPLCONFIGDIR": str(tmp_path)}
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment).returncode == 0
