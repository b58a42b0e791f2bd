"""The base of every schema class: strict, frozen, no unknown keys."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

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
