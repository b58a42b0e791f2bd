"""Facts of recipes, kept: those of shipped recipes in `recipes/facts.json`, of one's own in qzoo's folder.

Both say of which state of the recipe's files they are, so that they are never taken for another. With them a list of
the zoo reads no recipe; where there are none, `zoo/recipe_facts.py` makes them.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path
from typing import NamedTuple

from qzoo import environment
from qzoo.errors import RecipeError
from qzoo.files import write_text
from qzoo.results.facts import RecipeFacts, ZooFacts
from qzoo.schema.model import read_json_file
from qzoo.schema.reading.recipe_folders import SCHEMES, SETS, all_folders, recipe_stems, yaml_files

FILE = "facts.json"
REMEDY = "Write it anew: python -m qzoo.zoo.recipe_facts"


class RecipeFiles(NamedTuple):
    """The files of one stem, which are one unless it is a mistake, and their state.

    Attributes:
        paths: of recipe files.
        digest: SHA-256 over them, and all schemes and variant sets that they can name.
    """

    paths: list[Path]
    digest: str


def recipe_files() -> dict[str, RecipeFiles]:
    """Returns the recipe files of the catalogue by the name of the base, sorted.

    Raises:
        RecipeError: a folder of `QZOO_RECIPES` does not exist.
    """
    shipped, found = environment.packaged(), yaml_files(all_folders())
    shared = [path for path in found if path.parent.name in (SCHEMES, SETS)]
    of_shipped = _digest([path for path in shared if path.is_relative_to(shipped)])
    of_all = _digest(shared)
    return {
        name: RecipeFiles(paths, _digest(paths, of_shipped if paths[0].is_relative_to(shipped) else of_all))
        for name, paths in recipe_stems(found).items()
    }


def _digest(paths: list[Path], start: str = "") -> str:
    total = hashlib.sha256(start.encode())
    for path in sorted(paths, key=lambda path: path.name):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def known_facts(name: str, files: str) -> RecipeFacts | None:
    """Returns the facts of a recipe that were computed, by whoever shipped it or on this machine; None where none are.

    Args:
        name: of the base.
        files: the digest of its files; facts of another state are none.
    """
    for facts in (_shipped().get(name), _kept(name)):
        if facts is not None and facts.files == files:
            return facts
    return None


def keep(name: str, facts: RecipeFacts) -> None:
    """Keeps the facts of a recipe of one's own in qzoo's folder."""
    write_text(_own_file(name), facts.model_dump_json())


def _own_file(name: str) -> Path:
    return environment.home() / "facts" / f"{name}.json"


def _kept(name: str) -> RecipeFacts | None:
    try:
        return read_json_file(_own_file(name), RecipeFacts, REMEDY) if _own_file(name).is_file() else None
    except ValueError:
        return None  # of another version of qzoo


@functools.lru_cache(maxsize=1)
def _shipped() -> dict[str, RecipeFacts]:
    file = environment.packaged(FILE)
    return read_json_file(file, ZooFacts, REMEDY, RecipeError).recipes if file.is_file() else {}
