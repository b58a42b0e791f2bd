"""From any name to its recipe: the catalogue's, a file's, a library model's, a folder's, or one on the hub."""

from __future__ import annotations

from pathlib import Path

from qzoo import environment
from qzoo.errors import UnknownNameError
from qzoo.schema.catalog import Catalog, RecipeEntry
from qzoo.schema.manifest import RECIPE
from qzoo.weights.hub import fetch, is_hub_name, parse_address
from qzoo.weights.kinds import Kind
from qzoo.weights.published import Published, is_published_folder, open_folder

FOLDER = "artifacts"
"""Beside the recipes of a folder."""


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


def published_of(entry: RecipeEntry) -> Published | None:
    """Returns the published model that a recipe belongs to, or None."""
    if entry.published_name is None or entry.path is None:
        return None
    return open_folder(entry.path.parent, entry.published_name)


def beside_recipe(entry: RecipeEntry, full_name: str, kind: Kind) -> Path | None:
    """Returns where an artifact of a variant lies beside its recipe, if it is shipped with it; None without a file."""
    return entry.path.parent / FOLDER / f"{full_name}{kind.suffix}" if entry.path else None
