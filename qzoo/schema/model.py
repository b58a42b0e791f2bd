"""The base of every schema class: strict, frozen, no unknown keys; and how one is read from a JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qzoo.errors import QzooError, WeightsError, shown

ModelName = Annotated[str, Field(max_length=200, pattern=r"^([^/\\\x00-\x1f.][^/\\\x00-\x1f]*)?$")]
"""Of a base or a variant: it becomes part of file names, so it must not lead out of a folder."""


class StrictModel(BaseModel):
    """Refuses unknown keys, wrong types, NaN and infinity; can't be changed after it is made."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        populate_by_name=True,
        use_attribute_docstrings=True,
    )


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
