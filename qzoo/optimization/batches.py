"""The batches that steps work on: inputs of a model, iterated over again and again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qzoo.errors import DataError


def first_of(batches: Iterable[Any]) -> Any:
    """Returns the first batch.

    Raises:
        DataError: there is none.

    Example:
        >>> first_of([1, 2])
        1
    """
    for batch in batches:
        return batch
    raise DataError(
        "There are no images to optimize with: the batches are empty, or were used up before. Give a list of batches."
    )
