"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Words = str | Callable[[], str]
"""What the work is; a function where the words change while it is done."""


class Progress(Protocol):
    """Passes items on unchanged, and shows how far they are if it likes."""

    def __call__(self, items: Iterable[T], images: int | None, what: Words) -> Iterable[T]:
        """Returns the items.

        Args:
            items: batches.
            images: how many images they hold together, if known; 0: none, the work is a single item that counts none,
                see `phase`.
            what: a few words for a person, `evaluating int8`; or a function that returns them, called again and again.
        """


def silent(items: Iterable[T], images: int | None, what: Words) -> Iterable[T]:
    """The progress that shows nothing."""
    return items


@contextmanager
def phase(progress: Progress, what: Words) -> Iterator[None]:
    """Shows work that has no batches to count while the block runs: loading weights, tracing, building a session.

    To the progress it is a single item of no images, that is there from the first moment on.

    Args:
        progress: shown it.
        what: a few words for a person, `exporting to ONNX`.

    Example:
        >>> shown = []
        >>> def noting(items, images, what):
        ...     shown.append((what, images))
        ...     return items
        >>> with phase(noting, "loading resnet50"):
        ...     shown.append("at work")
        >>> shown
        [('loading resnet50', 0), 'at work']
    """
    items: Any = iter(progress((None,), 0, what))
    next(items, None)
    try:
        yield
        next(items, None)
    finally:
        # Work that failed was not finished, and what was shown of it goes before the message.
        if hasattr(items, "close"):
            items.close()
