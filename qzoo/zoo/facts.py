"""Facts of recipes, without reading any where that can be: `python -m qzoo.zoo.facts` writes `recipes/facts.json`.

With `--all` it computes the facts of recipes too whose files have not changed: after a change of what is computed.

The facts of a shipped recipe lie in that file, those of one's own in qzoo's folder once they are computed. Both say of
which state of the recipe's files they are, so that they are never taken for another.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from qzoo import environment
from qzoo.errors import RecipeError
from qzoo.files import write_text
from qzoo.results.facts import Figure, RecipeFacts, VariantFacts, ZooFacts
from qzoo.schema.model import read_json_file
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.recipe_files import SCHEMES, SETS, all_folders, recipe_stems, yaml_files
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import resolve
from qzoo.zoo.zoo_model import ZooModel

FILE = "facts.json"
REMEDY = "Remove the file, or write it anew: python -m qzoo.zoo.facts"


def facts_of(entry: RecipeEntry, files: str = "") -> RecipeFacts:
    """Returns what a recipe says of itself; sizes and costs are left out, as they take the model.

    Args:
        entry: the recipe.
        files: the digest of its files, see `recipe_files`.

    Raises:
        RecipeError: a scheme is unknown.
    """
    base = entry.recipe.base
    return RecipeFacts(
        files=files,
        version=entry.recipe.version,
        dataset=entry.recipe.dataset,
        architecture=f"{base.source}/{base.architecture}",
        published=_figures(entry.recipe.published),
        variants={name: _variant_facts(entry, name) for name in entry.variants},
    )


def _variant_facts(entry: RecipeEntry, name: str) -> VariantFacts:
    zoo_model = ZooModel(entry, name)
    resolved = zoo_model.resolved
    return VariantFacts.model_validate(
        {
            "digest": resolved.digest,
            "method": resolved.method,
            "made_by": zoo_model.made_by.name,
            "published": _figures(resolved.published),
        }
    )


def _figures(claims: list[Claim] | tuple[Claim, ...]) -> list[Figure]:
    return [Figure(text=str(claim), top1=claim.top1, source=claim.source, own=claim.own) for claim in claims]


def completed(entry: RecipeEntry, facts: RecipeFacts) -> RecipeFacts:
    """Returns the facts with sizes and costs, which takes the base's shapes, a second or so.

    Raises:
        QzooError: the base can't be made, or a rule does not fit it.
    """
    from qzoo.models.variant_costs import costs_of_base  # which takes torch

    size, costs = costs_of_base(entry.recipe.base, [resolve(entry, name) for name in entry.variants])
    variants = {name: one.model_copy(update={"costs": costs[name]}) for name, one in facts.variants.items()}
    return facts.model_copy(update={"size": size, "variants": variants})


class RecipeFiles(NamedTuple):
    """The files of one stem, which are one unless it is a mistake, and their state.

    Attributes:
        paths: of recipe files.
        digest: SHA-256 over them, and all schemes and variant sets that they can name.
    """

    paths: list[Path]
    digest: str


def recipe_files() -> dict[str, RecipeFiles]:
    """Returns the recipe files of the catalogue by the name of the base, sorted.

    Raises:
        RecipeError: a folder of `QZOO_RECIPES` does not exist.
    """
    shipped, found = environment.packaged(), yaml_files(all_folders())
    shared = [path for path in found if path.parent.name in (SCHEMES, SETS)]
    of_shipped = _digest([path for path in shared if path.is_relative_to(shipped)])
    of_all = _digest(shared)
    return {
        name: RecipeFiles(paths, _digest(paths, of_shipped if paths[0].is_relative_to(shipped) else of_all))
        for name, paths in recipe_stems(found).items()
    }


def _digest(paths: list[Path], start: str = "") -> str:
    total = hashlib.sha256(start.encode())
    for path in sorted(paths, key=lambda path: path.name):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def known_facts(name: str, files: str) -> RecipeFacts | None:
    """Returns the facts of a recipe that were computed, by whoever shipped it or on this machine; None where none are.

    Args:
        name: of the base.
        files: the digest of its files; facts of another state are none.
    """
    for facts in (_shipped().get(name), _kept(name)):
        if facts is not None and facts.files == files:
            return facts
    return None


def keep(name: str, facts: RecipeFacts) -> None:
    """Keeps the facts of a recipe of one's own in qzoo's folder."""
    write_text(_own_file(name), facts.model_dump_json())


def _own_file(name: str) -> Path:
    return environment.home() / "facts" / f"{name}.json"


def _kept(name: str) -> RecipeFacts | None:
    try:
        return read_json_file(_own_file(name), RecipeFacts, REMEDY) if _own_file(name).is_file() else None
    except ValueError:
        return None  # of another version of qzoo


@functools.lru_cache(maxsize=1)
def _shipped() -> dict[str, RecipeFacts]:
    file = environment.packaged(FILE)
    return read_json_file(file, ZooFacts, REMEDY, RecipeError).recipes if file.is_file() else {}


def shipped_facts(anew: bool = False) -> Iterator[tuple[str, RecipeFacts]]:
    """Yields the facts of all shipped recipes by name.

    Args:
        anew: compute all, which takes half a minute; else only those whose files have changed.
    """
    files = recipe_files()
    for entry in Catalog([environment.packaged()]).entries:
        state = files[entry.name].digest
        current = None if anew else known_facts(entry.name, state)
        yield entry.name, current or completed(entry, facts_of(entry, state))


def text_of(facts: dict[str, RecipeFacts]) -> str:
    """Returns the text of `facts.json`: a line for each recipe, so that a change shows in its own line alone."""
    lines = [f'"{name}": {one.model_dump_json(exclude_defaults=True)}' for name, one in sorted(facts.items())]
    return '{"recipes": {\n' + ",\n".join(lines) + "\n}}\n"


if __name__ == "__main__":
    write_text(environment.packaged(FILE), text_of(dict(shipped_facts(anew="--all" in sys.argv))))
