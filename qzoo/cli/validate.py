"""`qzoo validate`: is a recipe sound, and does it fit its model?"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer

from qzoo import environment
from qzoo.cli.terminal.console import check_target, labelled, stdout, write_json
from qzoo.cli.terminal.options import Json
from qzoo.errors import Fault, QzooError, readable, shown
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.loading import load_set, validate
from qzoo.schema.reading.recipe_folders import SCHEMES, SETS, yaml_files
from qzoo.schema.reading.sources import OwnFile
from qzoo.schema.reading.yaml_source import read_yaml, short_path
from qzoo.schema.recipe import Recipe, Scheme
from qzoo.schema.resolution.percentiles import UnlikelyPercentileWarning, warn_of_unlikely
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve
from qzoo.zoo.name_lookup import find, placed

_Check = Callable[[ResolvedVariant], object]


@dataclass
class Validated:
    """What was found out about one file.

    Attributes:
        name: as it was given.
        variants: how many there are; 0 where the recipe can't be read.
        errors: all that is wrong, each told of once.
        warnings: what is valid and hardly meant.
    """

    name: str
    variants: int = 0
    errors: list[QzooError] = field(default_factory=list)
    warnings: list[UnlikelyPercentileWarning] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """Returns it as plain data."""
        faults = [fault for error in self.errors for fault in error.faults or [Fault(str(error), self.name)]]
        said = {"error": faults, "warning": [warning.fault for warning in self.warnings]}
        problems = [{"level": level, **asdict(fault)} for level, found in said.items() for fault in found]
        return {"file": self.name, "ok": not self.errors, "variants": self.variants, "problems": problems}


def run(
    names: Annotated[list[str] | None, typer.Argument(help="Recipes, sets, schemes; default: all recipes.")] = None,
    schema_only: Annotated[bool, typer.Option("--schema-only", help="Do not build the models.")] = False,
    json_file: Json = None,
) -> None:
    """Check recipes: the schema, the `from` chains, and every rule against its model.

    Examples:

    - `qzoo validate my.yaml`
    - `qzoo validate recipes/variants/standard.yaml`
    - `qzoo validate --schema-only`
    - `qzoo validate my.yaml --json -`
    """  # noqa: D412
    check_target(json_file)
    found = []
    for name in names or [*Catalog.load().recipes, *_shared_files()]:
        found.append(_validated(name, schema_only))
        if json_file != "-":
            _print(found[-1])
    if json_file:
        write_json(json.dumps([one.facts() for one in found], indent=1), json_file)
    if any(one.errors for one in found):
        raise typer.Exit(2)
    if not names:
        _ = Catalog.load().entries  # which refuses two recipes that share a name


def _shared_files() -> list[str]:
    """Returns the schemes and variant sets of one's own; those that ship are read with the recipes."""
    files = yaml_files(environment.recipe_folders())
    return [str(path) for path in files if path.parent.name in (SCHEMES, SETS)]


def _print(one: Validated) -> None:
    for warning in one.warnings:
        stdout.print(labelled("warning", "yellow", f" {warning}"), soft_wrap=True)
    if not one.errors:
        stdout.print(labelled("ok", "green", f" {shown(one.name)}: {one.variants} variants"), soft_wrap=True)
        return
    text = readable("\n".join(map(str, one.errors)))
    stdout.print(labelled("faulty", "bold red", f" {shown(one.name)}\n{text}"), soft_wrap=True)


def _validated(name: str, schema_only: bool) -> Validated:
    found = Validated(name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UnlikelyPercentileWarning)
        found.errors = list(_errors(found, name, schema_only))
    said = [one.message for one in caught]
    found.warnings = list({str(one): one for one in said if isinstance(one, UnlikelyPercentileWarning)}.values())
    return found


def _errors(found: Validated, name: str, schema_only: bool) -> Iterator[QzooError]:
    """Yields all that is wrong with a recipe, each once."""
    seen: set[str] = set()
    for error in _all_errors(found, name, schema_only):
        if str(error) not in seen:
            seen.add(str(error))
            yield error


def _all_errors(found: Validated, name: str, schema_only: bool) -> Iterator[QzooError]:
    if (path := Path(name).expanduser()).is_file() and path.resolve().parent.name in (SCHEMES, SETS):
        yield from _errors_of_shared(found, path)
        return
    try:
        entry = find(name).entry
    except QzooError as error:
        yield error
        yield from () if schema_only else _errors_of_names(name)
        return
    found.variants = len(entry.variants)
    checks = [] if schema_only else _checks(entry)
    for variant in entry.variants:
        yield from _errors_of(entry, variant, checks)


def _errors_of_shared(found: Validated, path: Path) -> Iterator[QzooError]:
    """Yields what is wrong with the file of a variant set or a scheme, which has no model to fit."""
    try:
        if path.resolve().parent.name == SETS:
            found.variants = len(load_set(path).data.get("variants", ()))
        else:
            validate(Scheme, *read_yaml(path), short_path(path))
    except QzooError as error:
        yield error


def _errors_of(entry: RecipeEntry, name: str, checks: list[_Check]) -> Iterator[QzooError]:
    try:
        variant = resolve(entry, name)
    except QzooError as error:
        yield error
        return
    warn_of_unlikely(variant.rules)
    for check in checks:
        try:
            check(variant)
        except QzooError as error:
            yield placed(error, entry.where, entry.lines)


def _errors_of_names(name: str) -> Iterator[QzooError]:
    """Yields what the library and the datasets say of a file whose schema is broken: all is told at once."""
    path = Path(name).expanduser()
    try:
        data, lines = read_yaml(path) if path.is_file() else ({}, {})
        said = data if isinstance(data, dict) else {}
        recipe = Recipe.model_validate(
            {"base": said.get("base"), "dataset": said.get("dataset"), "variants": {"any": {}}}
        )
    except (QzooError, ValueError):
        return  # what is wrong with it is said already
    entry = replace(RecipeEntry.from_recipe(recipe, path.stem), source=OwnFile(path), lines=lines)
    yield from _errors_of(entry, "any", _checks(entry))


def _checks(entry: RecipeEntry) -> list[_Check]:
    """Returns what looks up names, and what binds variants to the model, which is built once, at the first."""
    from qzoo.data.lookup import check_names
    from qzoo.models.bases import meta_model
    from qzoo.models.select_layers import plan_quantizers
    from qzoo.models.survey import survey_of_base

    model = cache(lambda: meta_model(entry.recipe.base))
    return [
        lambda variant: check_names(variant.dataset, variant.calibration.split),
        lambda variant: plan_quantizers(model(), variant, seen=survey_of_base(model())),
    ]
