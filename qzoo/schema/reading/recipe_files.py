"""The YAML files of recipe folders: by what they hold, each read when it is asked for, and all of them at a glance.

A list of all recipes is read without validating any, so that it takes no time.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from qzoo import environment
from qzoo.errors import RecipeError
from qzoo.schema.reading.including import SetEntry, include
from qzoo.schema.reading.yaml_source import read_yaml, short_path

T = TypeVar("T")
SCHEMES, SETS = "schemes", "variants"
"""The names of folders of schemes and of variant sets; all other YAML files are recipes."""
Stems = dict[str, list[Path]]
"""Files by their stems; several of one stem are a mistake of whoever asks for it."""


def all_folders() -> list[Path]:
    """Returns the folder of the shipped recipes and those of `QZOO_RECIPES`."""
    return [environment.packaged(), *environment.recipe_folders()]


def yaml_files(folders: Iterable[Path]) -> list[Path]:
    """Returns the YAML files in folders and below, each once, those of a folder sorted.

    Raises:
        RecipeError: a folder does not exist.
    """
    files: dict[tuple[int, int], Path] = {}  # one folder may be named twice, or lie in another
    for folder in folders:
        if not folder.is_dir():
            fault = "is no folder" if folder.exists() else "does not exist"
            raise RecipeError(f"The recipe folder {folder} {fault}. Correct or unset QZOO_RECIPES.")
        found = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
        for path in sorted([path for path in found if path.endswith((".yaml", ".yml"))]):
            status = os.stat(path) if os.path.exists(path) else os.lstat(path)
            files.setdefault((status.st_dev, status.st_ino), Path(path))
    return list(files.values())


def recipe_stems(files: Iterable[Path]) -> Stems:
    """Returns the recipe files by stem, which is the name of the base, sorted."""
    return _by_stem(path for path in files if path.parent.name not in (SCHEMES, SETS))


def scheme_stems(files: Iterable[Path]) -> Stems:
    """Returns the files of schemes by stem, which is the name of the scheme, sorted."""
    return _by_stem(path for path in files if path.parent.name == SCHEMES)


def set_stems(files: Iterable[Path]) -> Stems:
    """Returns the files of variant sets by stem, which is the name of the set, sorted."""
    return _by_stem(path for path in files if path.parent.name == SETS)


def _by_stem(files: Iterable[Path]) -> Stems:
    stems: Stems = {}
    for path in sorted(files, key=lambda path: path.stem):
        stems.setdefault(path.stem, []).append(path)
    return stems


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


class FaultyRecipeWarning(UserWarning):
    """A recipe file can't be read, and is left out of a list."""


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
