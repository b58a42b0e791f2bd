"""What long work shows: a bar where images are counted, a spinner where there are none; in a log, lines.

Apart from the consoles, so that short commands start without it; and it imports no torch, which it tells of loading.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain, islice
from threading import Timer
from typing import Any, TypeVar

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text

from qzoo.cli.terminal.console import stderr
from qzoo.progress import Words

T = TypeVar("T")
IMAGES, STEPS = "images", "steps"
"""What work is counted in."""
PAUSE = 10.0
"""Seconds between the lines of long work in a log."""
PATIENCE = 5.0
"""Seconds of work without images, after which a log has a line of it."""


def bar(items: Iterable[T], images: int | None, what: Words) -> Iterator[T]:
    """Passes batches on under a progress bar that counts images; the bar is gone when the batches are.

    Of no images, a spinner is shown instead. Where standard error is no terminal, there is a line every `PAUSE`
    seconds, and one when the bar is full; of a spinner's work, only if it takes longer than `PATIENCE`.
    """
    if images == 0:
        yield from _spinner(items, what) if stderr.is_terminal else _logged_phase(items, what)
        return
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
        task = progress.add_task(_said(what), total=images, unit=IMAGES)
        for item in items:
            yield item
            size, unit = _size(item)
            progress.update(task, advance=size, description=_said(what), unit=unit)


def _spinner(items: Iterable[T], what: Words) -> Iterator[T]:
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    progress = Progress(*columns, console=stderr, transient=True, redirect_stdout=False, redirect_stderr=False)
    progress.add_task(_said(what), total=None)
    with progress, _giving_way(progress):
        yield from items


class _GivesWay:
    """A standard stream, before whose first words a spinner goes: a download has a bar of its own."""

    def __init__(self, stream: Any, progress: Progress) -> None:
        self.rich_proxied_file = stream  # where the console, whose the spinner is, writes past this
        self._progress = progress

    def write(self, text: str) -> Any:
        self._progress.stop()
        return self.rich_proxied_file.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def _giving_way(progress: Progress) -> Iterator[None]:
    before = sys.stdout, sys.stderr
    proxies = sys.stdout, sys.stderr = _GivesWay(before[0], progress), _GivesWay(before[1], progress)
    try:
        yield
    finally:
        # Unless somebody has replaced them since.
        if (sys.stdout, sys.stderr) == proxies:
            sys.stdout, sys.stderr = before


def _logged_phase(items: Iterable[T], what: Words) -> Iterator[T]:
    start = time.perf_counter()
    with _patience(f"{_said(what)} ..."):
        yield from items
    seconds = time.perf_counter() - start
    if seconds > PATIENCE:
        _log(f"{_said(what)}: {seconds:.1f} s")


def _logged(items: Iterable[T], images: int | None, what: Words) -> Iterator[T]:
    start = said = time.perf_counter()
    seen, unit, left = 0, IMAGES, iter(items)
    # Before the first item, processes that decode images are started, and data is read.
    with _patience(f"{_said(what)}: waiting for the first"):
        first = list(islice(left, 1))
    for item in chain(first, left):
        yield item
        size, unit = _size(item)
        seen += size
        if time.perf_counter() - said > PAUSE:
            said = time.perf_counter()
            _log(f"{_said(what)}: {seen:,}{f' of {images:,}' if images else ''} {unit}")
    seconds = time.perf_counter() - start
    _log(f"{_said(what)}: {seen:,} {unit}, {seconds:.1f} s, {seen / seconds:,.0f} {unit}/s")


@contextmanager
def _patience(text: str) -> Iterator[None]:
    """Writes a line if the block runs longer than `PATIENCE`."""
    timer = Timer(PATIENCE, _log, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _log(text: str) -> None:
    stderr.print(text, highlight=False, style="dim", soft_wrap=True)


def _said(what: Words) -> str:
    return what if isinstance(what, str) else what()


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} {task.fields['unit']}/s" if task.speed else "", style="dim")


def _size(item: Any) -> tuple[int, str]:
    """Returns how much an item of work is: the images of a batch; what holds none is a step."""
    if isinstance(item, tuple) and hasattr(item, "images"):
        return int(item.images), IMAGES
    if isinstance(item, dict):
        from qzoo.quant.inputs import batch_size

        return batch_size(item), IMAGES
    batch = item[0] if isinstance(item, tuple) else item
    return (1, STEPS) if isinstance(batch, str) or not hasattr(batch, "__len__") else (len(batch), IMAGES)
