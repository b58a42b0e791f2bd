"""The YAML files of recipe folders, told apart by where they lie: none is read, so that it takes no time."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from qzoo import environment
from qzoo.errors import RecipeError

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


class FaultyRecipeWarning(UserWarning):
    """A recipe file can't be read, and is left out of a list."""
