"""A file is whole at any moment, and nothing half-written stays."""

from __future__ import annotations

import errno
import os
import re
import threading
from pathlib import Path
from typing import NoReturn

import pytest

import qzoo
from qzoo.files import copy, is_stream, replacing, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.txt"
    write_text(target, "old")
    with replacing(target) as unfinished:
        unfinished.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(target.parent) == ["a.txt"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), SystemExit(1)])
def test_after_an_error_the_old_one_is_there_and_nothing_else(error: BaseException, tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "old")

    def fail(unfinished: Path) -> NoReturn:
        unfinished.write_text("half")
        raise error

    with pytest.raises(type(error)), replacing(tmp_path / "a.txt") as unfinished:
        fail(unfinished)
    assert names(tmp_path) == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


def test_a_copy_replaces_what_was_there_and_may_be_changed_where_the_source_may_not(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "new")
    (tmp_path / "a.txt").chmod(0o444)
    write_text(tmp_path / "b.txt", "old")
    copy(tmp_path / "a.txt", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "new"
    write_text(tmp_path / "b.txt", "newer")
    with pytest.raises(FileNotFoundError, match=r"nothing\.txt"):
        copy(tmp_path / "nothing.txt", tmp_path / "b.txt")
    assert (tmp_path / "b.txt").read_text() == "newer"
    assert names(tmp_path) == ["a.txt", "b.txt"]


def test_nobody_else_writes_files() -> None:
    package = Path(qzoo.__file__).parent
    own = re.compile(
        r"os\.replace|TemporaryFile|mkstemp|(?<!formatter)\.write_(text|bytes)\(|copyfile|open\([^)]*[\"'][wax]b?[\"']"
    )
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if own.search(path.read_text())}
    opens_streams = {"cli/terminal/console.py", "cli/terminal/streams.py"}
    maps_memory = {"optimization/units/inputs.py"}  # a file that nobody else reads, gone with the unit
    assert found == {"files.py", *opens_streams, *maps_memory}


def test_an_error_names_the_file_and_not_the_unfinished_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'$"), replacing(tmp_path / "a.txt"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as a write gives it, without a name
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=r"Is a directory: '.*folder'$"):
        write_text(tmp_path / "folder", "x")
    assert names(tmp_path) == ["folder"]


def test_other_errors_of_the_block_stay(tmp_path: Path) -> None:
    with pytest.raises(ConnectionRefusedError, match=r"refused$"), replacing(tmp_path / "a"):
        raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")
    with pytest.raises(FileNotFoundError, match="elsewhere"), replacing(tmp_path / "a"):
        (tmp_path / "elsewhere").read_text()


@pytest.mark.parametrize("name", ["a" * 255, "\u00fc" * 127, "\U0001f600" * 63, "a\udcff.json", ".hidden", "a b"])
def test_names_may_be_as_long_as_the_disk_allows(name: str, tmp_path: Path) -> None:
    write_text(tmp_path / name, "x")
    assert names(tmp_path) == [name]


def test_longer_ones_are_told(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"File name too long: '.*aaaa'$"):
        write_text(tmp_path / ("a" * 256), "x")
    with pytest.raises(OSError, match="File name too long"):
        write_text(tmp_path.joinpath(*["a" * 200] * 21), "x")
    assert not [name for name in names(tmp_path) if name.startswith(".")]


def test_of_a_link_the_file_is_replaced_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "a.txt")
    write_text(tmp_path / "link", "x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "a.txt").read_text() == "x"


def test_devices_and_pipes_are_written_to(tmp_path: Path) -> None:
    write_text("/dev/null", "x")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        write_text("/dev/full", "x")
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    write_text(tmp_path / "pipe", "through")
    reader.join()
    assert read == ["through"]


def test_a_file_that_is_open_is_written_to(tmp_path: Path) -> None:
    with (tmp_path / "a.txt").open("w+") as file:
        write_text(f"/proc/self/fd/{file.fileno()}", "x")
        assert file.read() == "x"
    assert is_stream(Path("/dev/stdout"))
    assert not is_stream(Path("/dev/shm/a"))
    assert not is_stream(tmp_path)
