"""A recipe of what a search found: a file of its own, or one among those that `QZOO_RECIPES` names."""

from __future__ import annotations

from pathlib import Path

from qzoo import environment
from qzoo.errors import RecipeError
from qzoo.files import write_text
from qzoo.results.search import SearchReport
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.reading.loading import dump_yaml, load_recipe
from qzoo.schema.recipe import Recipe, Variant
from qzoo.zoo.zoo_model import ZooModel

APPLIED = "_searched"
"""What the name of a recipe ends in that searches were applied to."""


def variant_name(start: str, report: SearchReport) -> str:
    """Returns what the variant is called: `int8_bits4`, `int8_ort_max_drop0.5`."""
    return "_".join([start, *(f"{name}{most:g}" for name, most in report.budget.items())])


def searched_entry(start: ZooModel, report: SearchReport) -> tuple[RecipeEntry, str]:
    """Returns the recipe with the variant that was found, and that variant's name.

    Args:
        start: the variant that choices are changes of.
        report: of its search.
    """
    name = variant_name(str(start.variant), report)
    budget = ", ".join(f"{one} {most:g}" for one, most in report.budget.items())
    content = {
        "from": start.variant,
        "description": f"Found by qzoo search for {budget}{f', for {report.target}' if report.target else ''}.",
        "rules": report.rules(),
    }
    return start.entry.with_variant(name, Variant.model_validate(content)), name


def solution_of(start: ZooModel, report: SearchReport) -> ZooModel:
    """Returns the variant that was found."""
    return ZooModel(*searched_entry(start, report))


def write_recipe(start: ZooModel, report: SearchReport, file: Path) -> str:
    """Writes a recipe of the variant that was found; returns what to type for it: `mixed.yaml:int8_bits4`.

    A recipe that is there already, of the same base, keeps its other variants.

    Raises:
        RecipeError: the file is there, and is of another base; or it is no recipe's.
    """
    if file.suffix not in (".yaml", ".yml"):
        raise RecipeError(f"-o {file} is no recipe file. Name it {file.with_suffix('.yaml')}.")
    entry, name = searched_entry(start, report)
    recipe = entry.self_contained(name)
    if file.is_file():
        recipe = _joined(load_recipe(file)[0], recipe, file)
    write_text(file, f"# Written by `qzoo search`. Try: qzoo explain {file}:{name}\n{dump_yaml(recipe)}")
    return f"{file}:{name}"


def apply(start: ZooModel, report: SearchReport) -> str:
    """Adds the variant that was found to one's own recipes; returns its full name.

    Raises:
        RecipeError: `QZOO_RECIPES` names no folder.
    """
    base = start.entry.name if start.entry.name.endswith(APPLIED) else f"{start.entry.name}{APPLIED}"
    write_recipe(start, report, own_folder() / f"{base}.yaml")
    return f"{base}_{variant_name(str(start.variant), report)}"


def own_folder() -> Path:
    """Returns the folder of one's own recipes: the first that `QZOO_RECIPES` names.

    Raises:
        RecipeError: it names none.
    """
    folders = environment.recipe_folders()
    if not folders:
        raise RecipeError(
            "--apply adds the variant to your own recipes, and QZOO_RECIPES names no folder of them. Set it, "
            "`export QZOO_RECIPES=~/recipes`, or write a file: -o mixed.yaml."
        )
    return folders[0]


def _joined(known: Recipe, new: Recipe, file: Path) -> Recipe:
    if known.base != new.base:
        raise RecipeError(f"{file} is of another base, {known.base.architecture}. Name another file: -o NEW.yaml.")
    return known.model_copy(update={"variants": known.variants | new.variants, "schemes": known.schemes | new.schemes})
