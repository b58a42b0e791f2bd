"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Passes items on unchanged, and shows how far they are if it likes."""

    def __call__(self, items: Iterable[T], images: int | None, what: str) -> Iterable[T]:
        """Returns the items.

        Args:
            items: batches.
            images: how many images they hold together, if known.
            what: a few words for a person, `evaluating int8`.
        """


def silent(items: Iterable[T], images: int | None, what: str) -> Iterable[T]:
    """The progress that shows nothing."""
    return items
