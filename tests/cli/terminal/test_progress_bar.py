from __future__ import annotations

import io
import re
import sys
import time
from pathlib import Path

import pytest
from rich.progress import Progress

from qzoo.cli.terminal import progress_bar
from qzoo.cli.terminal.console import _Console
from qzoo.cli.terminal.progress_bar import bar
from qzoo.progress import phase
from tests.in_a_terminal import in_a_terminal

LONG = {
    "benchmark": ["resnet8_digits_int8", "-r", "onnxruntime", "--batch", "1"],
    "export": ["resnet8_digits_int8", "-r", "onnxruntime", "--adapt", "-o", "a.onnx"],
    "finetune": ["resnet8_digits_w2a2_qat", "--epochs", "1", "--train-images", "256", "-o", "run"],
}
PHASES = {
    "benchmark": ["loading torch", "exporting float and quantized to ONNX", "timing batches of 1"],
    "export": ["loading torch", "exporting to ONNX", "comparing"],
    "finetune": ["loading torch", "opening digits", "epoch 1/1", "evaluating epoch 1"],
}


def test_a_log_has_lines_while_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "PAUSE", 0.0)
    batches = [(["x"] * 10,), (["x"] * 10,), (["x"] * 5,)]
    assert list(bar(batches, 25, "evaluating int8")) == batches
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [f"evaluating int8: {n} of 25 images" for n in (10, 20, 25)]
    assert lines[3].startswith("evaluating int8: 25 images, 0.")
    assert len(lines) == 4


def test_what_holds_no_images_is_counted_in_steps(capsys: pytest.CaptureFixture[str]) -> None:
    list(bar([("float", 12), ("int8", 7)], 2, "timing"))
    list(bar([1.5, 2.5, 3.5], 3, "timing groups"))
    timing, groups = capsys.readouterr().err.splitlines()
    assert timing.startswith("timing: 2 steps, ")
    assert groups.startswith("timing groups: 3 steps, ")


def test_short_work_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    list(bar([(["x"],)], None, lambda: "collecting"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("collecting: 1 images, ")


def test_a_log_tells_of_images_that_are_long_in_coming(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "PATIENCE", 0.05)
    batches = (time.sleep(0.2) or (["x"],) for _ in range(2))
    assert len(list(bar(batches, 2, "evaluating int8"))) == 2
    first, last = capsys.readouterr().err.splitlines()
    assert first == "evaluating int8: waiting for the first"
    assert last.startswith("evaluating int8: 2 images, ")


def test_a_log_has_lines_of_a_long_phase_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with phase(bar, "loading"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(progress_bar, "PATIENCE", 0.05)
    with phase(bar, "exporting"):
        time.sleep(0.2)
        assert capsys.readouterr().err == "exporting ...\n"
    assert re.fullmatch(r"exporting: \d+\.\d s\n", capsys.readouterr().err)


def test_a_phase_that_fails_is_not_told_as_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "PATIENCE", 0.0)
    with pytest.raises(ValueError, match="inside"), phase(bar, "exporting"):
        raise ValueError("inside")
    assert "exporting: " not in capsys.readouterr().err


def terminal_of(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """From now on both streams are a terminal; returns what it gets."""
    shown = io.StringIO()
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stderr", shown)
    monkeypatch.setattr(progress_bar, "stderr", _Console(stderr=True, force_terminal=True, width=80))
    return shown


def test_a_spinner_is_there_at_once_and_gone_when_its_phase_is(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with phase(bar, "exporting to ONNX"):
        assert "exporting to ONNX" in terminal.getvalue()
    assert terminal.getvalue().endswith("\x1b[2K")  # the line is erased
    assert sys.stdout is sys.stderr is terminal


def test_a_spinner_gives_way_to_whatever_else_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = terminal_of(monkeypatch)
    with phase(bar, "loading weights"):
        print("Downloading: 10 %", end="\r")
        after = terminal.getvalue().rpartition("\x1b[2K")[2]
        time.sleep(0.3)  # of which the spinner would use three
        assert terminal.getvalue().rpartition("\x1b[2K")[2] == after
    assert after.endswith("Downloading: 10 %\r")


def test_the_bar_counts_no_image_of_a_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "update", lambda *_, **__: pytest.fail("a phase has no images"))
    with phase(bar, "loading"):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("command", LONG)
def test_something_is_shown_within_a_second_and_nothing_is_left(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[3]))
    monkeypatch.chdir(tmp_path)
    start = in_a_terminal("--version").first
    session = in_a_terminal(command, *LONG[command])
    assert session.code in (0, 1)  # a CPU without VNNI may make an export fail
    assert session.first < start + 1
    for words in PHASES[command]:
        assert any(words in line for line in session.shown), words
    # No spinner, and no bar.
    assert not [line for line in session.screen if "━" in line or any("⠀" <= sign <= "⣿" for sign in line)]
    assert not any(words in line for words in PHASES[command] for line in session.screen)
    assert not session.hides_cursor
