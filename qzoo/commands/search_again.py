"""Another budget from a `search.json`: in under a second, without images and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from qzoo.errors import DataError
from qzoo.results.search import SearchReport
from qzoo.schema.model import all_described
from qzoo.schema.recipe import Variant
from qzoo.tasks.searching.again import solved_again
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel


def search_again(file: Path, budget: Mapping[str, float | None]) -> tuple[ZooModel, SearchReport]:
    """Returns the variant that choices are changes of, and the report for another budget.

    Args:
        file: what `qzoo search` keeps, or wrote with `--json`.
        budget: as for `qzoo.search`.

    Raises:
        DataError: the file is none of a search.
        WeightsError: the recipe has changed since.
        ArgumentError: the budget is none, or speaks of a cost that the search did not have.
        UnsupportedError: no choice keeps to it.
    """
    report = load_search(file)
    return _start(report, file), solved_again(report, budget)


def load_search(file: Path) -> SearchReport:
    """Returns the report in a file.

    Raises:
        DataError: there is no such file, or it is none of a search; says what is wrong with it.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(
            f"{file} can't be read: {error.strerror}. `qzoo search NAME --json {file}` writes it."
        ) from None
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}. `qzoo search NAME --json FILE` writes one.") from None
    if not isinstance(content, dict) or content.pop("schema", None) != 1 or "groups" not in content:
        raise DataError(f"{file} is no report of a search. `qzoo search NAME --json FILE` writes one.")
    try:
        return SearchReport.model_validate_json(json.dumps(content))  # in which a list may stand for a pair
    except ValidationError as error:
        described = all_described(SearchReport, content, error)
        raise DataError(f"{file} is no report of a search that this version reads: {described}") from error


def _start(report: SearchReport, file: Path) -> ZooModel:
    variant = report.variant or ""
    base = report.name.removesuffix(f"_{variant}")
    found = find(base)
    entry = found.entry
    if variant not in entry.variants:
        entry = entry.with_variant(variant, Variant.model_validate({"scheme": variant}))
    return ZooModel(entry, variant)
