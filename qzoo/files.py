"""Writing files in one step: at any moment a file is whole, the old one or the new one, and no half stays behind."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST = 40
"""Signs of a file's name that its unfinished one repeats: together they have to stay below 255 bytes."""
OPENED = ("/dev/fd/", "/dev/std", "/proc/")
"""Names of what a process has opened already, be it a file: a shell goes on writing to it."""


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a path to write to; when the block ends it takes the place of the file, and after an error it is gone.

    What is no regular file, a pipe or a device such as `/dev/stdout`, is written to as it is; of a link, the file that
    it leads to is replaced.

    Args:
        path: the path of the file; its folders are made.

    Raises:
        OSError: the folder can't be made, or the file not be replaced.
    """
    target = unfinished = Path(path)
    streaming = is_stream(target)
    if not streaming:
        target = Path(os.path.realpath(target))
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{os.getpid()}.{threading.get_ident()}.{target.name[-LONGEST:]}")
    try:
        yield unfinished
        if not streaming:
            unfinished.replace(target)
    except OSError as error:
        of_file = error.errno is not None and not isinstance(error, ConnectionError | TimeoutError)
        if not of_file or str(error.filename or unfinished) != str(unfinished):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        if not streaming:
            unfinished.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text as UTF-8, in one step.

    Raises:
        OSError: it can't be written; the message names the file.
    """
    with replacing(path) as unfinished:
        # Names of files that are no UTF-8 are kept byte for byte.
        unfinished.write_text(text, encoding="utf-8", errors="surrogateescape")


def copy(source: str | Path, target: str | Path) -> None:
    """Copies a file, in one step.

    Raises:
        OSError: it can't be read, or the copy not be written; the message names the file.
    """
    with replacing(target) as unfinished:
        shutil.copyfile(source, unfinished)


def require_writable(folder: str | Path) -> None:
    """Makes a folder, or refuses one that nothing can be written into, before the work whose results go there.

    Raises:
        OSError: it can't be made, or is another's.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def stamp(files: Iterable[Path]) -> tuple[tuple[str, int, int], ...]:
    """Returns what changes when a file is written: of each its path, the time of the last write (ns), its bytes."""
    found = [(str(file), os.stat(file)) for file in files]
    return tuple([(name, status.st_mtime_ns, status.st_size) for name, status in found])


def is_stream(path: Path) -> bool:
    """Whether a path is that of a pipe, a device or an opened file, which is written to and not replaced."""
    return os.path.abspath(path).startswith(OPENED) or (path.exists() and not path.is_file() and not path.is_dir())
