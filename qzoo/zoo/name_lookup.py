"""From any name to its recipe: the catalogue's, a file's, a library model's, a folder's, or one on the hub."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qzoo import environment
from qzoo.errors import Fault, QzooError, RecipeError, UnknownNameError
from qzoo.hub.client import fetch, is_hub_name, parse_address
from qzoo.hub.manifest import RECIPE
from qzoo.hub.released_model import is_hub_folder, open_folder
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.reading.recipe_folders import FaultyRecipeWarning
from qzoo.schema.reading.yaml_source import Lines
from qzoo.schema.resolution.precedence import origin_of
from qzoo.zoo.zoo_model import ZooModel


def find(name: str | Path) -> ZooModel:
    """Returns the base or the variant that a name stands for.

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
        released = fetch(parse_address(name), [RECIPE])
    elif is_hub_folder(name) and not Catalog.load().knows(name):
        released = open_folder(environment.expanded(name, "The folder"))
    else:
        return ZooModel(*Catalog.load().find(name))
    return ZooModel(released.entry(), released.manifest.variant)


def is_at_hand(name: str) -> bool:
    """Whether a name of the catalogue is that of a variant which `create(name, pretrained=True)` finds.

    Warns:
        FaultyRecipeWarning: its recipe is faulty, so nothing finds it.
    """
    try:
        found = find(name)
        return found.variant is not None and found.is_at_hand
    except RecipeError as fault:
        warnings.warn(f"{name} is left out: {fault}", FaultyRecipeWarning, stacklevel=2)
        return False


@contextmanager
def placing(name: object) -> Iterator[None]:
    """Adds file, line and field to an error about a name in a recipe that a library or a dataset does not know.

    Args:
        name: the name of a recipe, as for `find`; with anything else, errors stay as they are.

    Raises:
        UnknownNameError: in place of that error.
    """
    try:
        yield
    except UnknownNameError as error:
        raise placed_by(error, name) from error.__cause__


def placed_by(error: UnknownNameError, name: object) -> QzooError:
    """Returns an error about a name in a recipe with file, line and field; any other as it is.

    Args:
        error: by who looked the name up, a library or a dataset.
        name: the name of the recipe, as for `find`, or anything else.
    """
    try:
        entry = find(name).entry if isinstance(name, str | Path) and error.field else None
    except QzooError:
        return error
    return placed(error, entry.where, entry.lines) if entry else error


def placed(error: QzooError, where: str, lines: Lines) -> QzooError:
    """Returns an error about a name in a recipe with the place where it was written; any other as it is.

    Args:
        error: by who looked the name up, a library or a dataset, and knows of no file.
        where: what messages call the file.
        lines: the lines of its fields; none for a recipe without a file.
    """
    if not isinstance(error, UnknownNameError) or error.field is None or error.faults or not lines:
        return error
    origin = origin_of(where, lines, error.field)
    return UnknownNameError(f"{origin.where}: {error}", field=error.field, faults=[Fault(str(error), *origin.place)])
