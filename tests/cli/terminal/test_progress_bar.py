from __future__ import annotations

import pytest

from qzoo.cli.terminal import progress_bar


def test_a_log_has_lines_while_the_work_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress_bar, "PAUSE", 0.0)
    batches = [("x" * 10,), ("x" * 10,), ("x" * 5,)]
    assert list(progress_bar.bar(batches, 25, "evaluating int8")) == batches
    lines = capsys.readouterr().err.splitlines()
    assert lines[:3] == [f"evaluating int8: {n} of 25 images" for n in (10, 20, 25)]
    assert lines[3].startswith("evaluating int8: 25 images, 0.")
    assert len(lines) == 4


def test_short_work_has_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    list(progress_bar.bar([("x",)], None, lambda: "collecting"))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("collecting: 1 images, ")
