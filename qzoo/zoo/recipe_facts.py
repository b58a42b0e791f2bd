"""Facts of recipes, made: `python -m qzoo.zoo.recipe_facts` writes `recipes/facts.json`.

With `--all` it computes the facts of recipes too whose files have not changed: after a change of what is computed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from qzoo import environment
from qzoo.files import write_text
from qzoo.results.facts import Figure, RecipeFacts, VariantFacts
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import resolve
from qzoo.zoo.facts import FILE, known_facts, recipe_files
from qzoo.zoo.zoo_model import ZooModel


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


def _figures(claims: Sequence[Claim]) -> list[Figure]:
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
