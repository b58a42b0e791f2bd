"""The page that lists every figure of the zoo with its source: `python -m qzoo.report.zoo_page > docs/zoo.md`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import resolve

HEADER = """# The zoo

Generated from the recipes by `make style`; a test says when it is stale. `qzoo reproduce BASE` reruns a table.
Figures are top-1 in percent. *own*: our own earlier run is the reference; all others were published by third parties.
"""


def zoo_page(entries: Sequence[RecipeEntry]) -> str:
    """Returns the page, Markdown: a table for each recipe, a row for each claim."""
    return "\n".join([HEADER, *("\n".join(_section(entry)) + "\n" for entry in entries)])


def _section(entry: RecipeEntry) -> Iterator[str]:
    recipe = entry.recipe
    yield f"## {entry.name}@{recipe.version}"
    yield ""
    yield f"{recipe.description} Base: {recipe.base.source}/{recipe.base.architecture}, dataset: {recipe.dataset}."
    yield ""
    yield "| variant | method | top-1 | source |"
    yield "|---|---|---:|---|"
    yield from _rows(entry.name, "float", recipe.published)
    for name in entry.variants:
        variant = resolve(entry, name)
        yield from _rows(variant.name, variant.method or "", variant.published)


def _rows(name: str, method: str, claims: Sequence[Claim]) -> Iterator[str]:
    if not claims:
        yield f"| `{name}` | {method} | | nothing published |"
    for claim in claims:
        yield f"| `{name}` | {method} | {claim} | {'*own:* ' if claim.own else ''}{claim.source} |"


if __name__ == "__main__":
    print(zoo_page(Catalog.load().entries), end="")
