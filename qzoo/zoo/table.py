"""`qzoo.zoo_table`: the zoo as rows, found in a moment. No torch, and no recipe is read whose facts are known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch

from qzoo import environment
from qzoo.arguments import checked
from qzoo.errors import QzooError, RecipeError
from qzoo.hub.index import released
from qzoo.results.facts import RecipeFacts
from qzoo.results.zoo import ZooRow
from qzoo.schema.reading.recipe_folders import FaultyRecipeWarning
from qzoo.weights.kinds import FOLDER
from qzoo.zoo.facts import RecipeFiles, keep, known_facts, recipe_files
from qzoo.zoo.table_row import Folder, base_row, variant_row
from qzoo.zoo.table_selection import Selection, in_order, selected


@checked
def zoo_table(
    pattern: str = "*",
    *,
    pretrained: bool = False,
    dataset: str | None = None,
    min_top1: float | None = None,
    max_size: float | None = None,
    target: str | None = None,
    sort: str | None = None,
    compute: bool = False,
) -> list[ZooRow]:
    """Returns what is known of each base and each variant of the zoo: accuracy, size, costs, latency, ranges.

    What was measured comes from receipts and from what `qzoo benchmark` kept, what was published from recipes, sizes
    and costs from the shapes of the models. A row that lacks what a filter asks for is left out.

    Args:
        pattern: a glob over full names, `resnet*_int8`.
        pretrained: only variants that have ranges, on this machine or on the hub.
        dataset: the name of a dataset in recipes, `cifar10`.
        min_top1: in percent, measured on a whole split or published.
        max_size: in MB, see `ZooRow.bytes`.
        target: a runtime that takes the formats of the variant as they are.
        sort: a column, see `qzoo.zoo.table_selection.COLUMNS`, the best first; default: by name.
        compute: compute and keep sizes and costs that are not known yet, of recipes of one's own: seconds a base.

    Raises:
        UnknownNameError: there is no such dataset, runtime or column; with the nearest names.
        ArgumentError: a limit is none that any model could be held against.

    Warns:
        FaultyRecipeWarning: a recipe can't be read; it is left out.

    Example:
        >>> [row.name for row in zoo_table("resnet8_digits_w*", max_size=0.04)]
        ['resnet8_digits_w2a2_opt', 'resnet8_digits_w2a2_qat']
        >>> zoo_table("resnet8_digits_int8")[0].measured.top1 > 99
        True
    """
    selection = Selection(pretrained, dataset, min_top1, max_size, target, sort)
    rows = [row for row in selected(list(_rows(compute)), selection) if fnmatch(row.name, pattern)]
    return in_order(rows, sort)


def _rows(compute: bool) -> Iterator[ZooRow]:
    on_hub, own = released(), (environment.artifacts(), environment.made_without_images())
    elsewhere = [Folder(one, "at hand") for one in (environment.weights_dir(), *own) if one]
    files = recipe_files()
    beside = {path.parent: Folder(path.parent / FOLDER, "shipped") for one in files.values() for path in one.paths}
    for name, facts in _all_facts(files, compute):
        folders = [beside[files[name].paths[0].parent], *elsewhere]
        variants = [variant_row(name, variant, facts, folders, on_hub) for variant in facts.variants]
        yield base_row(name, facts, variants)
        yield from variants


def _all_facts(files: Mapping[str, RecipeFiles], compute: bool) -> Iterator[tuple[str, RecipeFacts]]:
    for name, state in files.items():
        try:
            yield name, known_facts(name, state.digest) or _read(name, state, compute)
        except RecipeError as fault:
            from qzoo.schema.reading.yaml_source import short_path

            file = short_path(state.paths[0])
            said = f"{file} is left out: `qzoo validate {file}` says what is wrong. {fault}"
            warnings.warn(said, FaultyRecipeWarning, stacklevel=2)


def _read(name: str, state: RecipeFiles, compute: bool) -> RecipeFacts:
    from qzoo.schema.reading.catalog import Catalog
    from qzoo.zoo.recipe_facts import completed, facts_of  # which take longer to import than a list to make

    entry = Catalog.load().recipes[name]
    facts = facts_of(entry, state.digest)
    if compute:
        try:
            facts = completed(entry, facts)
        except QzooError as fault:
            warnings.warn(f"The size of {name} is not known: {fault}", FaultyRecipeWarning, stacklevel=2)
        else:
            keep(name, facts)
    return facts
