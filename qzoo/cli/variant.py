"""Which variant a name means, where a command needs one."""

from __future__ import annotations

from qzoo.errors import UnknownNameError
from qzoo.schema.catalog import Catalog, RecipeEntry


def chosen(catalog: Catalog, name: str) -> tuple[RecipeEntry, str]:
    """Returns the recipe and the variant of a full name.

    Raises:
        UnknownNameError: the name is unknown, or is that of a base.
    """
    entry, variant = catalog.find(name)
    if variant is None:
        known = ", ".join(map(entry.address, entry.variants))
        raise UnknownNameError(f"'{name}' is a base; name one of its variants: {known}.")
    return entry, variant
