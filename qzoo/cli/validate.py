"""`qzoo validate`: is a recipe sound, and does it fit its model?"""

from __future__ import annotations

from typing import Annotated

import typer

from qzoo.cli.console import stdout
from qzoo.schema.catalog import Catalog
from qzoo.schema.resolve import resolve

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
    for name in names or [entry.name for entry in catalog.entries]:
        entry, _ = catalog.find(name)
        variants = [resolve(entry, variant) for variant in entry.variants]
        if not schema_only:
            _bind(variants)
        stdout.print(f"[green]ok[/] {name}: {len(variants)} variants", highlight=False)


def _bind(variants: list) -> None:  # type: ignore[type-arg]
    from qzoo.build.bases import skeleton
    from qzoo.build.quantize import plan_quantizers

    for variant in variants:
        model = skeleton(variant.base)
        plan_quantizers(model, variant)
