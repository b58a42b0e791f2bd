"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")
Words = str | Callable[[], str]
"""What the work is; a function where the words change while it is done."""


class Progress(Protocol):
    """Passes items on unchanged, and shows how far they are if it likes."""

    def __call__(self, items: Iterable[T], images: int | None, what: Words) -> Iterable[T]:
        """Returns the items.

        Args:
            items: batches.
            images: how many images they hold together, if known.
            what: a few words for a person, `evaluating int8`; or a function that returns them, called again and again.
        """


def silent(items: Iterable[T], images: int | None, what: Words) -> Iterable[T]:
    """The progress that shows nothing."""
    return items
