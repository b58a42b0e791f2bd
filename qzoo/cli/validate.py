"""`qzoo validate`: is a recipe sound, and does it fit its model?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Annotated

import typer
from rich.markup import escape

from qzoo.cli.console import stdout
from qzoo.errors import QzooError, RecipeError
from qzoo.schema.catalog import Catalog, RecipeEntry
from qzoo.schema.resolve import ResolvedVariant, resolve
from qzoo.weights.finding import find

NAME = "validate"


def run(
    names: Annotated[list[str] | None, typer.Argument(help="Recipe files or names; default: the whole zoo.")] = None,
    schema_only: Annotated[bool, typer.Option("--schema-only", help="Do not build the models.")] = False,
) -> None:
    """Check recipes: the schema, the `from` chains, and every rule against its model.

    Examples:

    - `qzoo validate my.yaml`
    - `qzoo validate --schema-only`
    """  # noqa: D412
    catalog = Catalog.load()
    faulty = 0
    for name in names or [entry.name for entry in catalog.entries]:
        try:
            count = _validate(find(name)[0], schema_only)
        except QzooError as error:
            faulty += 1
            stdout.print(f"[bold red]faulty[/] {escape(name)}\n{escape(str(error))}", highlight=False, soft_wrap=True)
        else:
            stdout.print(f"[green]ok[/] {escape(name)}: {count} variants", highlight=False)
    if faulty:
        raise typer.Exit(2)


def _validate(entry: RecipeEntry, schema_only: bool) -> int:
    """Returns how many variants there are.

    Raises:
        RecipeError: with the problems of all variants.
    """
    problems = []
    bind = None if schema_only else _binder(entry)
    for name in entry.variants:
        try:
            variant = resolve(entry, name)
            if bind is not None:
                bind(variant)
        except QzooError as error:
            problems.append(str(error))
    if problems:
        raise RecipeError("\n".join(dict.fromkeys(problems)))
    return len(entry.variants)


def _binder(entry: RecipeEntry) -> Callable[[ResolvedVariant], None]:
    """Returns what binds variants of a recipe to their model; the model is built once, at the first."""
    from qzoo.build.bases import skeleton
    from qzoo.build.quantize import plan_quantizers
    from qzoo.data.catalog import check_names

    model = cache(lambda: skeleton(entry.recipe.base))

    def bind(variant: ResolvedVariant) -> None:
        check_names(variant.dataset, variant.calibration.split)
        plan_quantizers(model(), variant)

    return bind
