"""The progress bar of long work; apart from the consoles, so that short commands start without it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from qzoo.cli.terminal.console import stderr
from qzoo.progress import Words
from qzoo.quant.inputs import batch_size

T = TypeVar("T")
PAUSE = 10.0
"""Seconds between the lines of long work in a log."""


def bar(items: Iterable[T], images: int | None, what: Words) -> Iterator[T]:
    """Passes batches on under a progress bar that counts images; the bar is gone when the batches are.

    Where standard error is no terminal, there is a line every `PAUSE` seconds, and one when the bar is full.
    """
    if not stderr.is_terminal:
        yield from _logged(items, images, what)
        return
    columns = (
        TextColumn("{task.description:<24}", markup=False),
        BarColumn(),
        MofNCompleteColumn(table_column=Column(no_wrap=True)),
        _Speed(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr, transient=True) as progress:
        task = progress.add_task(_said(what), total=images)
        for item in items:
            yield item
            progress.update(task, advance=_size(item), description=_said(what))


def _logged(items: Iterable[T], images: int | None, what: Words) -> Iterator[T]:
    start = said = time.perf_counter()
    seen = 0
    for item in items:
        yield item
        seen += _size(item)
        if time.perf_counter() - said > PAUSE:
            said = time.perf_counter()
            _log(f"{_said(what)}: {seen:,}{f' of {images:,}' if images else ''} images")
    seconds = time.perf_counter() - start
    _log(f"{_said(what)}: {seen:,} images, {seconds:.1f} s, {seen / seconds:,.0f} images/s")


def _log(text: str) -> None:
    stderr.print(text, highlight=False, style="dim", soft_wrap=True)


def _said(what: Words) -> str:
    return what if isinstance(what, str) else what()


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} images/s" if task.speed else "", style="dim")


def _size(item: Any) -> int:
    if isinstance(item, tuple):
        return int(getattr(item, "images", None) or len(item[0]))
    return batch_size(item) if isinstance(item, dict) else len(item)
