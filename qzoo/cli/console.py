"""What the commands print with: two consoles, a progress bar, JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")

stdout = Console(width=None if sys.stdout.isatty() else 150)
stderr = Console(stderr=True)


def fail(message: str) -> NoReturn:
    """Prints one message for a known mistake and exits with 2."""
    stderr.print(f"[bold red]error[/] {_escape(message)}", highlight=False, soft_wrap=True)
    sys.exit(2)


def write_json(text: str, target: str) -> None:
    """Writes JSON to a file, in one step, or to standard output for `-`."""
    if target == "-":
        print(text)
        return
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    unfinished.write_text(text + "\n")
    unfinished.replace(path)


def bar(items: Iterable[T], images: int | None, what: str) -> Iterator[T]:
    """Passes batches on under a progress bar that counts images; the bar is gone when the batches are."""
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Speed(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(what, total=images)
        for item in items:
            yield item
            progress.update(task, advance=_size(item))


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "", style="dim")


def _size(item: Any) -> int:
    return len(item[0]) if isinstance(item, tuple) else len(item)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
