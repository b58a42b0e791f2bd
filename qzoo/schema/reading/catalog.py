"""The catalogue: every recipe that is shipped or lies in a folder of `QZOO_RECIPES`. The file is the registration.

Names cost no more than the files they need: stems and paths are known without reading any, and a faulty file of one's
own stops no other name.
"""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from qzoo import environment
from qzoo.errors import RecipeError, UnknownNameError, did_you_mean, shown
from qzoo.files import stamp
from qzoo.schema.reading.including import SetEntry
from qzoo.schema.reading.loading import load_recipe, load_set, validate, with_sets
from qzoo.schema.reading.recipe_files import Stored, summaries
from qzoo.schema.reading.recipe_folders import all_folders, recipe_stems, scheme_stems, set_stems, yaml_files
from qzoo.schema.reading.sources import (
    RESIDUAL_VARIANT,
    HubModel,
    LibraryModel,
    OwnFile,
    PythonRecipe,
    ShippedFile,
    Source,
    is_library_name,
    library_recipe,
)
from qzoo.schema.reading.yaml_source import Line, Lines, read_yaml, short_path
from qzoo.schema.recipe import Recipe, Scheme, Variant


@dataclass(frozen=True)
class SchemeEntry:
    """A scheme, what messages call its file, and lines."""

    scheme: Scheme
    where: str
    lines: Lines = field(repr=False)


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe with its name.

    Attributes:
        name: the base's name; the file's stem.
        recipe: the validated recipe.
        source: where it came from.
        lines: the line of each field, for messages.
        schemes: the schemes it can name: its own, then the shared ones.
    """

    name: str
    recipe: Recipe
    source: Source
    lines: Lines = field(repr=False)
    schemes: Mapping[str, SchemeEntry] = field(repr=False)
    resolved: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """By variant, what `resolve` made of it: of one recipe it is the same each time."""

    @property
    def variants(self) -> list[str]:
        """The names of its variants, in the order of the file."""
        return list(self.recipe.variants)

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.source.where

    @property
    def path(self) -> Path | None:
        """The path of its file; None without one."""
        return self.source.path

    def require_variant(self, variant: str) -> None:
        """Refuses a variant that the recipe does not have.

        Raises:
            UnknownNameError: with the nearest names.
        """
        if variant not in self.recipe.variants:
            advice = did_you_mean(variant, self.variants)
            raise UnknownNameError(f"{self.where} has no variant '{shown(variant)}'. {advice}")

    def with_residual_variant(self) -> RecipeEntry:
        """Returns the entry with a variant `int8_residual`, added to `int8` where the recipe has none."""
        variants = self.recipe.variants
        if RESIDUAL_VARIANT in variants:
            return self
        start = {"from": "int8"} if "int8" in variants else {"scheme": "int8"}
        return self.with_variant(RESIDUAL_VARIANT, Variant.model_validate({**start, "residual": "skip"}))

    def with_variant(self, name: str, variant: Variant) -> RecipeEntry:
        """Returns the entry with one variant more, or another one of that name."""
        variants = self.recipe.variants | {name: variant}
        return replace(self, recipe=self.recipe.model_copy(update={"variants": variants}))

    @classmethod
    def from_recipe(cls, recipe: Recipe, name: str) -> RecipeEntry:
        """Returns an entry for a recipe made in Python."""
        catalog, source = Catalog.load(), PythonRecipe()
        recipe, lines = with_sets(recipe, catalog.sets, source.where) if recipe.include else (recipe, {})
        return catalog.entry_of(recipe, name, source, lines)

    def self_contained(self, variant: str) -> Recipe:
        """Returns the recipe of one variant, with the schemes it needs: nothing else decides its numbers.

        Raises:
            UnknownNameError: the recipe has no such variant.
        """
        self.require_variant(variant)
        whole = self.recipe.model_copy(update={"variants": self.recipe.variants | self._of_sets})
        named = {self.recipe.scheme, *(self.recipe.variants[link].scheme for link in self.recipe.chain(variant))}
        return whole.only(variant, {name: self.schemes[name].scheme for name in self.schemes if name in named})

    @property
    def _of_sets(self) -> dict[str, Variant]:
        """The variants that came from sets; they say of themselves that they are shared."""
        lines = {name: Line.like(self.lines.get(("variants", name), 0)) for name in self.variants}
        return {
            name: self.recipe.variants[name].model_copy(update={"shared": True})
            for name, line in lines.items()
            if line.file is not None
        }


class Catalog:
    """All recipes, by name.

    Example:
        >>> entry, variant = Catalog.load().find("resnet50_int8")
        >>> entry.name, variant
        ('resnet50', 'int8')
    """

    def __init__(self, folders: list[Path]) -> None:
        self.folders = folders

    @classmethod
    def load(cls) -> Catalog:
        """Returns the catalogue of the shipped recipes and of the folders in `QZOO_RECIPES`.

        It is the same one, with what it has read, for as long as no file comes, goes or is written.
        """
        catalog = cls(all_folders())
        try:
            return _kept(tuple(catalog.folders), stamp(catalog._files), Path.cwd())
        except (OSError, RecipeError):
            return catalog  # whoever uses it is told what is wrong

    @cached_property
    def recipes(self) -> Mapping[str, RecipeEntry]:
        """The recipes by the stems of their files, read when they are asked for."""
        return Stored(recipe_stems(self._files), "recipe", self._known_entry)

    @cached_property
    def schemes(self) -> Mapping[str, SchemeEntry]:
        """The schemes by name, read when they are asked for."""
        return Stored(scheme_stems(self._files), "scheme", _load_scheme)

    @cached_property
    def sets(self) -> Mapping[str, SetEntry]:
        """The variant sets by name, read when they are asked for."""
        return Stored(set_stems(self._files), "variant set", load_set)

    @cached_property
    def entries(self) -> list[RecipeEntry]:
        """Every recipe, validated, sorted by name.

        Raises:
            RecipeError: a file is faulty, or two names are the same.
        """
        entries = list(self.recipes.values())
        _refuse_equal_names(entries)
        return entries

    def names(self) -> list[str]:
        """Returns the full names of all bases and variants, sorted; those of files that can't be read are left out."""
        return sorted({name for summary in summaries(self._files) for name in summary.full_names})

    def find(self, name: str) -> tuple[RecipeEntry, str | None]:
        """Returns the recipe, and the variant if the name has one.

        Args:
            name: a base, a full variant name, `path/to/my.yaml` or `path/to/my.yaml:variant`, or any model of a
                library, `timm/resnet18` or `timm/resnet18:int8`.

        Raises:
            UnknownNameError: with the nearest names.
            RecipeError: the file is faulty, or two recipes share the name.
        """
        if file := re.fullmatch(r"(.+\.ya?ml)(?::(.*))?", name):
            return self._with_variant(self._entry(environment.expanded(file[1], "The recipe")), file[2])
        if is_library_name(name):
            model, _, variant = name.partition(":")
            return self._with_variant(self._library_entry(model), variant or None)
        found = self._find_known(name)
        if found is None:
            advice = did_you_mean(name, self.names())
            raise UnknownNameError(f"Unknown model '{shown(name)}'. {advice} `qzoo list` shows all.")
        return found

    def knows(self, name: str) -> bool:
        """Whether a base or a variant of a recipe file has the full name."""
        return self._find_known(name) is not None

    def entry_of(self, recipe: Recipe, name: str, source: Source, lines: Lines | None = None) -> RecipeEntry:
        """Returns an entry for a recipe, which can name the schemes of this catalogue.

        Args:
            recipe: validated.
            name: the name of its base.
            source: where it came from.
            lines: the lines of its fields.
        """
        schemes = _all_schemes(recipe, source.where, lines or {}, self.schemes)
        return RecipeEntry(name, recipe, source, lines or {}, schemes)

    def hub_entry(self, path: Path, base: str, name: str) -> RecipeEntry:
        """Returns the recipe of a hub model.

        Args:
            path: the path of its recipe file.
            base: the base's name, which the file's stem is not.
            name: what to type for it.

        Raises:
            RecipeError: the file is faulty.
        """
        return self._read(path, base, HubModel(path, name))

    def _find_known(self, name: str) -> tuple[RecipeEntry, str | None] | None:
        """Returns what a full name stands for; names are looked up, never split: `a_b` may be a base of that name.

        Raises:
            RecipeError: a file that may hold it is faulty and no other does, or several do.
        """
        found: list[tuple[RecipeEntry, str | None]] = []
        faults: list[RecipeError] = []
        for stem in self.recipes:
            if name != stem and not name.startswith(f"{stem}_"):
                continue
            variant = name[len(stem) + 1 :] or None
            try:
                entry = self.recipes[stem]
            except RecipeError as fault:
                faults.append(fault)
                continue
            if variant is None or variant in entry.recipe.variants:
                found.append((entry, variant))
        if len(found) > 1:
            raise _stands_for_two(name, found[0][0], found[1][0])
        if faults and not found:
            raise faults[0]
        return found[0] if found else None

    @staticmethod
    def _with_variant(entry: RecipeEntry, variant: str | None) -> tuple[RecipeEntry, str | None]:
        if variant is not None:
            entry.require_variant(variant)
        return entry, variant

    def _known_entry(self, path: Path) -> RecipeEntry:
        shipped = path.is_relative_to(environment.packaged())
        return self._read(path, path.stem, ShippedFile(path) if shipped else OwnFile(path, in_catalog=True))

    def _entry(self, path: Path) -> RecipeEntry:
        """Returns the recipe of a file that is named by its path, be it one of the catalogue."""
        known = recipe_stems(self._files).get(path.stem, [])
        is_known = [one.resolve() for one in known] == [path.resolve()]
        return self.recipes[path.stem] if is_known else self._read(path, path.stem, OwnFile(path))

    def _read(self, path: Path, name: str, source: Source) -> RecipeEntry:
        recipe, lines = load_recipe(path, self.schemes, source.where, self.sets)
        return self.entry_of(recipe, name, source, lines)

    def _library_entry(self, model: str) -> RecipeEntry:
        # A slash in a name would make folders of the ranges' file names.
        return self.entry_of(library_recipe(model, self.schemes), model.replace("/", "."), LibraryModel(model))

    @cached_property
    def _files(self) -> list[Path]:
        return yaml_files(self.folders)


@lru_cache(maxsize=4)
def _kept(folders: tuple[Path, ...], files: object, here: Path) -> Catalog:
    """Returns a catalogue; of the arguments the files' stamp and the folder that messages start from are compared."""
    return Catalog(list(folders))


def _all_schemes(
    recipe: Recipe, where: str, lines: Lines, shared: Mapping[str, SchemeEntry]
) -> Mapping[str, SchemeEntry]:
    """Returns the schemes that a recipe can name: its own, and the shared ones of other names."""
    if not recipe.schemes:
        return shared
    within: dict[str, Lines] = {name: {} for name in recipe.schemes}
    for path, line in lines.items():
        if path[:1] == ("schemes",) and len(path) > 1:
            within[str(path[1])][path[2:]] = line
    own = {name: SchemeEntry(scheme, where, within[name]) for name, scheme in recipe.schemes.items()}
    return ChainMap(own, shared)  # type: ignore[arg-type] # nothing is written to it, and the shared ones stay unread


def _load_scheme(path: Path) -> SchemeEntry:
    data, lines = read_yaml(path)
    return SchemeEntry(validate(Scheme, data, lines, short_path(path)), short_path(path), lines)


def _refuse_equal_names(entries: list[RecipeEntry]) -> None:
    found: dict[str, RecipeEntry] = {}
    for entry in entries:
        for name in (entry.name, *(f"{entry.name}_{variant}" for variant in entry.variants)):
            if name in found:
                raise _stands_for_two(name, found[name], entry)
            found[name] = entry


def _stands_for_two(name: str, one: RecipeEntry, other: RecipeEntry) -> RecipeError:
    return RecipeError(f"The name '{name}' stands for two: in {one.where} and in {other.where}. Rename one.")
