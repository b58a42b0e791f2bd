"""`hub.json` of a folder of recipes: where its calibrated variants lie on the hub, and which revision of each.

    {"organisation": "owner", "revisions": {"resnet50_int8": "0123456789abcdef0123456789abcdef01234567"}}

A variant lies in the repository `owner/resnet50_int8`. Its revision is a commit, so that a figure stays what it was.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from qzoo import environment
from qzoo.errors import RecipeError
from qzoo.schema.model import StrictModel, read_json_file

FILE = "hub.json"
EXPECTED = (
    'Expected {"organisation": OWNER, "revisions": {NAME: COMMIT}}, each commit as 40 hexadecimal digits: is it the '
    "file you meant?"
)

Organisation = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]


class HubIndex(StrictModel):
    """Where variants lie on the hub."""

    organisation: Organisation
    """A user or an organisation of the hub."""
    revisions: dict[str, Commit] = Field(default_factory=dict)
    """By full name of the variant: the commit, 40 hexadecimal digits."""


def released() -> dict[str, str]:
    """Returns where each released variant lies, `owner/repo@commit`, by its full name.

    Raises:
        RecipeError: an index can't be read; names file and field.

    Example:
        >>> released().get("no_such_variant")
    """
    found: dict[str, str] = {}
    # Folders of the user's own go before what is shipped.
    for folder in [environment.packaged(), *environment.recipe_folders()]:
        index = read_index(folder / FILE)
        found |= {name: f"{index.organisation}/{name}@{commit}" for name, commit in index.revisions.items()}
    return found


def read_index(path: Path) -> HubIndex:
    """Returns the index that a file holds; an empty one if there is none.

    Raises:
        RecipeError: it can't be read; names file and field.
    """
    if not path.is_file():
        return HubIndex(organisation="qzoo")
    return read_json_file(path, HubIndex, EXPECTED, RecipeError)
