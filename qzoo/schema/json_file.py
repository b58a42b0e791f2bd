"""Reading JSON files of qzoo's own formats: of a bounded size, and with one message if they are damaged."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from qzoo.errors import QzooError, WeightsError, shown
from qzoo.schema.model import StrictModel

LARGEST_TEXT = 4_000_000
"""Bytes of any text file of a published model."""
M = TypeVar("M", bound=StrictModel)


def read_json_file(path: Path, model: type[M], remedy: str, error: type[QzooError] = WeightsError) -> M:
    """Returns what a JSON file holds.

    Args:
        path: of the file.
        model: what it has to be.
        remedy: ends the message about a file that can't be used.
        error: what is raised about it.

    Raises:
        QzooError: of the type that is given: the file is missing, has more than 4 MB, is no JSON in UTF-8, or a field
            is missing, unknown or of a wrong type or value; names the field.
    """
    if not path.is_file():
        raise error(f"No file at {path}. {remedy}")
    if (size := path.stat().st_size) > LARGEST_TEXT:
        raise error(f"{path} has {size / 1e6:,.0f} MB, more than {LARGEST_TEXT / 1e6:.0f} MB. {remedy}")
    try:
        return model.model_validate_json(path.read_bytes())
    except ValidationError as failed:
        first = failed.errors(include_url=False)[0]
        field = shown(".".join(map(str, first["loc"])) or "the file")
        raise error(f"{path}: {field}: {shown(first['msg']).removeprefix('Value error, ')}. {remedy}") from failed
