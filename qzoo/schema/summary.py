"""What recipes are about, for lists and suggestions: read without validating, so that a list of all takes no time."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qzoo.errors import RecipeError
from qzoo.schema.including import SetEntry, include
from qzoo.schema.recipe_files import Stored, all_folders, recipe_stems, set_stems, yaml_files
from qzoo.schema.yaml_source import read_yaml, short_path


class FaultyRecipeWarning(UserWarning):
    """A recipe file can't be read, and is left out of a list."""


@dataclass(frozen=True)
class RecipeSummary:
    """What a recipe is about.

    Attributes:
        name: of the base.
        dataset: as the recipe names it.
        top1: claimed for the float model, in percent; None where nothing is.
        variants: their names, in the order of the file.
    """

    name: str
    dataset: str
    top1: float | None
    variants: tuple[str, ...]

    @property
    def full_names(self) -> list[str]:
        """Of the base and of its variants."""
        return [self.name, *(f"{self.name}_{variant}" for variant in self.variants)]


def summaries(files: list[Path] | None = None) -> Iterator[RecipeSummary]:
    """Yields what each recipe of the catalogue is about, sorted by name.

    Args:
        files: YAML files of recipe folders; default: those that are shipped, and those of `QZOO_RECIPES`.

    Warns:
        FaultyRecipeWarning: a file can't be read; it is left out.

    Example:
        >>> next(one for one in summaries() if one.name == "resnet8_digits").top1
        99.33
    """
    files = yaml_files(all_folders()) if files is None else files
    sets = Stored(set_stems(files), "variant set", _set)
    for name, paths in recipe_stems(files).items():
        for path in paths:
            try:
                yield _summary(name, path, sets)
            except RecipeError as fault:
                said = f"{short_path(path)} is left out: `qzoo validate {short_path(path)}` says what is wrong."
                warnings.warn(f"{said} {fault}", FaultyRecipeWarning, stacklevel=2)


def _summary(name: str, path: Path, sets: Mapping[str, SetEntry]) -> RecipeSummary:
    data = include(*read_yaml(path), sets).data
    if not isinstance(data, Mapping) or not isinstance(data.get("variants"), Mapping):
        raise RecipeError(f"{short_path(path)} has no variants, so it is no recipe.")
    return RecipeSummary(name, str(data.get("dataset")), _top1(data.get("published")), tuple(data["variants"]))


def _set(path: Path) -> SetEntry:
    data, lines = read_yaml(path)
    return SetEntry(path.stem, data if isinstance(data, Mapping) else {}, short_path(path), lines)


def _top1(published: Any) -> float | None:
    claims = published if isinstance(published, list) else [published]
    found = (claim.get("top1") for claim in claims if isinstance(claim, Mapping))
    return next((float(top1) for top1 in found if isinstance(top1, int | float)), None)
