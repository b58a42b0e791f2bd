"""Standard streams that are closed, full, or read no further; one message, and never the exit code 1."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qzoo.cli.terminal import streams


def shell(command: str, *, timeout: int = 100, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a command of bash, in which $Q is qzoo; the exit code is that of $Q in a pipe."""
    environment = os.environ | {"Q": f"{sys.executable} -m qzoo", "OMP_NUM_THREADS": "1"} | more
    return subprocess.run(
        ["bash", "-c", command], env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )


FULL = "error standard output can't be written: No space left on device. Send it elsewhere.\n"


def check(done: subprocess.CompletedProcess[str], code: int, message: str) -> None:
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(message) if message else done.stderr == ""
    assert done.stderr.count("\n") <= 1


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("$Q list >&-", 2, "error standard output is closed, and results would be lost. To have none"),
        ("$Q list | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("$Q list --json /dev/full", 2, "error [Errno 28] No space left on device: '/dev/full'. Free some space"),
    ],
)
def test_streams(command: str, code: int, message: str) -> None:
    check(shell(command), code, message)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("$Q list --json - >&- 2>&-", 2, ""),
        ("$Q list >/dev/full", 2, FULL),
        ("$Q list --json - >/dev/full", 2, FULL),
        ("$Q --help >/dev/full", 2, FULL),
        ("$Q --version >/dev/full", 2, FULL),
        ("$Q --help | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("$Q list --json - | true; exit ${PIPESTATUS[0]}", 141, ""),
        ("$Q list >/dev/null 2>&-", 0, ""),
        ("$Q list >/dev/null 2>/dev/full", 0, ""),
        ("$Q show nothing 2>&-", 2, ""),
        ("$Q show nothing 2>/dev/full", 2, ""),
        ("$Q list >/dev/null <&-", 0, ""),
    ],
)
def test_more_streams(command: str, code: int, message: str) -> None:
    check(shell(command), code, message)


def test_a_file_does_not_take_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    done = shell(f"$Q list --json {tmp_path}/a.json <&- 2>&- >/dev/null")
    assert done.returncode == 0
    assert (tmp_path / "a.json").read_text().startswith("[{")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("a")] == ["a.json"]


@pytest.mark.skipif(not os.access("/proc/self/ns/user", os.R_OK) or os.getuid() != 0, reason="mounting needs root")
def test_json_on_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounting = f"mount -t tmpfs -o size=4k none {disk}"
    if shell(f"unshare -m {mounting}").returncode:
        pytest.skip("no mounting here")
    done = shell(f"unshare -m bash -c '{mounting}; $Q list --json {disk}/r.json; echo $?; ls -A {disk}'")
    assert done.stdout == "2\n"
    assert "No space left on device: " in done.stderr
    assert "r.json'. Free some space, or write to another disk." in done.stderr


class _Broken(io.RawIOBase):
    def __init__(self, error: OSError) -> None:
        self.error: OSError | None = error

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("none")

    def write(self, content: Any) -> int:
        if self.error is not None:
            raise self.error
        return len(content)


def guarded(stream: io.RawIOBase | io.BytesIO, needed: bool, encoding: str = "utf-8") -> Any:
    buffer: Any = io.BufferedWriter(stream) if isinstance(stream, io.RawIOBase) else stream
    return streams._Guarded(io.TextIOWrapper(buffer, encoding), needed)


def test_secrets_and_strange_signs() -> None:
    raw = io.BytesIO()
    stream = guarded(raw, True, "ascii")
    stream.writelines(["Bearer abc ", "\u00e9\udcff\n"])
    stream.flush()
    assert raw.getvalue() == b"*** \\xe9\\udcff\n"


def test_messages_that_nobody_sees_are_no_reason_to_end() -> None:
    stream = guarded(broken := _Broken(BrokenPipeError(32, "Broken pipe")), False)
    stream.write("x")
    stream.flush()
    broken.error = None


@pytest.mark.parametrize(("error", "code"), [(BrokenPipeError(32, "Broken pipe"), 141), (OSError(5, "I/O error"), 2)])
def test_results_that_nobody_sees_are_one(error: OSError, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    stream = guarded(broken := _Broken(error), True)
    stream.write("x")
    with pytest.raises(SystemExit) as end:
        stream.flush()
    assert end.value.code == code
    assert ("I/O error" in capsys.readouterr().err) == (code == 2)
    broken.error = None  # as the descriptor leads nowhere from then on
    stream.flush()
