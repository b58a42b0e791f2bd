"""From any name to its recipe: the catalogue's, a file's, a library model's, a folder's, or one on the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qzoo import environment
from qzoo.errors import Fault, QzooError, UnknownNameError
from qzoo.hub.client import fetch, is_hub_name, parse_address
from qzoo.hub.files import RECIPE
from qzoo.hub.published import Published, is_published_folder, open_folder
from qzoo.schema.bound_rule import origin_of
from qzoo.schema.catalog import Catalog, RecipeEntry
from qzoo.schema.yaml_source import Lines


def find(name: str | Path) -> tuple[RecipeEntry, str | None]:
    """Returns the recipe that a name stands for, and the variant if the name has one.

    Args:
        name: what `Catalog.find` takes, `hf-hub:owner/repo[@revision]`, or a folder that `qzoo pull` filled; a name of
            the catalogue goes before a folder of that name, `./name` is the folder.

    Raises:
        UnknownNameError: with the nearest names.
        RecipeError: the recipe is faulty.
        WeightsError: the hub can't be reached, or what it sends is damaged.
    """
    name = str(name)
    if is_hub_name(name):
        published = fetch(parse_address(name), [RECIPE])
    elif is_published_folder(name) and name not in Catalog.load().names():
        published = open_folder(environment.expanded(name, "The folder"))
    else:
        return Catalog.load().find(name)
    return published.entry(), published.manifest.variant


def find_variant(name: str | Path) -> tuple[RecipeEntry, str]:
    """Returns the recipe and the variant that a name stands for.

    Raises:
        UnknownNameError: the name is unknown, or is that of a base.
    """
    entry, variant = find(name)
    if variant is None:
        known = ", ".join(map(entry.address, entry.variants))
        raise UnknownNameError(f"'{name}' is a base; name one of its variants: {known}.")
    return entry, variant


@contextmanager
def placing(name: object) -> Iterator[None]:
    """Adds file, line and field to an error about a name in a recipe that a library or a dataset does not know.

    Args:
        name: of the recipe, as for `find`; of anything else, errors stay as they are.

    Raises:
        UnknownNameError: in place of that error.
    """
    try:
        yield
    except UnknownNameError as error:
        raise _placed(error, name) from error.__cause__


def _placed(error: UnknownNameError, name: object) -> QzooError:
    try:
        entry = find(name)[0] if isinstance(name, str | Path) and error.field else None
    except QzooError:
        return error
    return placed(error, entry.where, entry.lines) if entry else error


def placed(error: QzooError, where: str, lines: Lines) -> QzooError:
    """Returns an error about a name in a recipe with the place where it was written; any other as it is.

    Args:
        error: by who looked the name up, a library or a dataset, and knows of no file.
        where: what messages call the file.
        lines: of its fields; none for a recipe without a file.
    """
    if not isinstance(error, UnknownNameError) or error.field is None or error.faults or not lines:
        return error
    origin = origin_of(where, lines, error.field)
    return UnknownNameError(f"{origin.where}: {error}", field=error.field, faults=[Fault(str(error), *origin.place)])


def published_of(entry: RecipeEntry) -> Published | None:
    """Returns the published model that a recipe belongs to, or None."""
    if entry.published_name is None or entry.path is None:
        return None
    return open_folder(entry.path.parent, entry.published_name)
