"""What recipe folders hold, each file read when it is asked for, and all of them at a glance.

A list of all recipes is read without validating any, so that it takes no time.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qzoo.errors import RecipeError
from qzoo.schema.reading.including import SetEntry, include
from qzoo.schema.reading.recipe_folders import (
    FaultyRecipeWarning,
    Stems,
    all_folders,
    recipe_stems,
    set_stems,
    yaml_files,
)
from qzoo.schema.reading.yaml_source import read_yaml, short_path

T = TypeVar("T")


class Stored(Mapping[str, T]):
    """What files hold, by their stems: each is read when it is first asked for, and kept.

    Args:
        files: by stem; of one stem there may be several, which is an error once it is asked for.
        what: they hold, for messages.
        load: reads one.
    """

    def __init__(self, files: Stems, what: str, load: Callable[[Path], T]) -> None:
        self.files, self.what, self.load = files, what, load
        self._read: dict[str, T] = {}

    def __getitem__(self, name: str) -> T:
        if name not in self._read:
            first, *others = self.files[name]
            if others:
                places = f"{short_path(first)} and {short_path(others[0])}"
                raise RecipeError(f"Two files define the {self.what} '{name}': {places}. Rename one.")
            self._read[name] = self.load(first)
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True)
class RecipeSummary:
    """What a recipe is about.

    Attributes:
        name: the name of the base.
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
        """The full names of the base and of its variants."""
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
        try:
            yield Stored({name: paths}, "recipe", lambda path: _summary(path, sets))[name]
        except RecipeError as fault:
            said = f"{short_path(paths[0])} is left out: `qzoo validate {short_path(paths[0])}` says what is wrong."
            warnings.warn(f"{said} {fault}", FaultyRecipeWarning, stacklevel=2)


def _summary(path: Path, sets: Mapping[str, SetEntry]) -> RecipeSummary:
    included = include(*read_yaml(path), sets)
    data = included.data
    for field, fault in included.problems[:1]:
        raise RecipeError(f"{short_path(path)}: {'.'.join(map(str, field))}: {fault}")
    if not isinstance(data, Mapping) or not isinstance(data.get("variants"), Mapping):
        raise RecipeError(f"{short_path(path)} has no variants, so it is no recipe.")
    return RecipeSummary(path.stem, str(data.get("dataset")), _top1(data.get("published")), tuple(data["variants"]))


def _set(path: Path) -> SetEntry:
    data, lines = read_yaml(path)
    return SetEntry(path.stem, data if isinstance(data, Mapping) else {}, short_path(path), lines)


def _top1(published: Any) -> float | None:
    claims = published if isinstance(published, list) else [published]
    found = (claim.get("top1") for claim in claims if isinstance(claim, Mapping))
    return next((float(top1) for top1 in found if isinstance(top1, int | float)), None)
