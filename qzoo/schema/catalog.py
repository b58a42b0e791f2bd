"""The catalogue: every recipe that is shipped or lies in a folder of `QZOO_RECIPES`. The file is the registration."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path

from qzoo import environment
from qzoo.errors import RecipeError, UnknownNameError, did_you_mean, shown
from qzoo.files import stamp
from qzoo.schema.including import SetEntry
from qzoo.schema.library import RESIDUAL_VARIANT, is_library_name, library_recipe
from qzoo.schema.loading import load_recipe, load_set, validate, with_sets
from qzoo.schema.recipe import Recipe, Scheme, Variant
from qzoo.schema.yaml_source import Lines, read_yaml, short_path

SCHEMES = "schemes"
SETS = "variants"


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe with its name and, if it has one, its file.

    Attributes:
        name: the base's name; the file's stem.
        recipe: the validated recipe.
        path: of the file; None for a recipe made in Python.
        lines: the line of each field, for messages.
        schemes: the schemes it can name: its own, then the shared ones.
        library_name: what to type for it, `timm/resnet18`, where no file holds it.
        published_name: what to type for a model of the hub, `hf-hub:owner/repo` or a folder, of which its file is one.
    """

    name: str
    recipe: Recipe
    path: Path | None
    lines: Lines = field(repr=False)
    schemes: dict[str, SchemeEntry] = field(repr=False)
    library_name: str | None = None
    published_name: str | None = None

    @property
    def variants(self) -> list[str]:
        """The names of its variants, in the order of the file."""
        return list(self.recipe.variants)

    @property
    def where(self) -> str:
        """The file, for messages; relative to the current folder if it lies below it."""
        if self.published_name is not None:
            return self.published_name
        if self.path is None:
            return self.library_name or "<recipe>"
        return short_path(self.path)

    def address(self, variant: str) -> str:
        """Returns what to type for a variant: its full name, or its file and name if no catalogue knows the file."""
        if self.published_name is not None:
            return self.published_name
        return f"{self.name}_{variant}" if self.is_known else f"{self.where}:{variant}"

    @property
    def is_shipped(self) -> bool:
        """Whether the recipe came with qzoo, so that it is nobody else's."""
        return self.path is not None and str(self.path).startswith(f"{environment.packaged()}{os.sep}")

    @property
    def is_known(self) -> bool:
        """Whether the catalogue knows the file by its name."""
        return self.path is not None and Catalog.load().files.get(self.name) == self.path

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
        catalog = Catalog.load()
        recipe, lines = with_sets(recipe, catalog.sets, "<recipe>") if recipe.include else (recipe, {})
        return cls(name, recipe, None, lines, _all_schemes(recipe, "<recipe>", {}, catalog.schemes))

    def self_contained(self, variant: str) -> Recipe:
        """Returns the recipe of one variant, with the schemes it needs: nothing else decides its numbers.

        Raises:
            UnknownNameError: the recipe has no such variant.
        """
        Catalog.require_variant(self, variant)
        return self.recipe.only(variant, {name: entry.scheme for name, entry in self.schemes.items()})


@dataclass(frozen=True)
class SchemeEntry:
    """A scheme, what messages call its file, and lines."""

    scheme: Scheme
    where: str
    lines: Lines = field(repr=False)


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
        catalog = cls([environment.packaged(), *environment.recipe_folders()])
        try:
            return _kept(tuple(catalog.folders), stamp(catalog._yaml_files()), Path.cwd())
        except (OSError, RecipeError):
            return catalog  # whoever uses it is told what is wrong

    @cached_property
    def files(self) -> dict[str, Path]:
        """The recipe files by base name; nothing is parsed yet."""
        files: dict[str, Path] = {}
        for path in self._yaml_files():
            if path.parent.name not in (SCHEMES, SETS):
                _add(files, path.stem, path, "recipe")
        return files

    @cached_property
    def schemes(self) -> dict[str, SchemeEntry]:
        """The schemes by name."""
        files: dict[str, Path] = {}
        for path in self._yaml_files():
            if path.parent.name == SCHEMES:
                _add(files, path.stem, path, "scheme")
        return {name: _load_scheme(path) for name, path in files.items()}

    @cached_property
    def sets(self) -> dict[str, SetEntry]:
        """The variant sets by name."""
        files: dict[str, Path] = {}
        for path in self._yaml_files():
            if path.parent.name == SETS:
                _add(files, path.stem, path, "variant set")
        return {name: load_set(path) for name, path in files.items()}

    @cached_property
    def entries(self) -> list[RecipeEntry]:
        """Every recipe, validated, sorted by name."""
        return [self._entry(path) for _, path in sorted(self.files.items())]

    @cached_property
    def _by_name(self) -> dict[str, tuple[RecipeEntry, str | None]]:
        # Full names are looked up, never split: `resnet50_int8` may be a variant or a base of that name.
        found: dict[str, tuple[RecipeEntry, str | None]] = {}
        for entry in self.entries:
            for variant in [None, *entry.variants]:
                name = entry.name if variant is None else f"{entry.name}_{variant}"
                if name in found:
                    raise RecipeError(
                        f"The name '{name}' stands for two: in {found[name][0].where} and in {entry.where}. Rename one."
                    )
                found[name] = (entry, variant)
        return found

    def names(self) -> list[str]:
        """Returns the full names of all bases and variants, sorted."""
        return sorted(self._by_name)

    def find(self, name: str) -> tuple[RecipeEntry, str | None]:
        """Returns the recipe, and the variant if the name has one.

        Args:
            name: a base, a full variant name, `path/to/my.yaml` or `path/to/my.yaml:variant`, or any model of a
                library, `timm/resnet18` or `timm/resnet18:int8`.

        Raises:
            UnknownNameError: with the nearest names.
            RecipeError: the file is faulty, or two recipes share a name.
        """
        if file := re.fullmatch(r"(.+\.ya?ml)(?::(.*))?", name):
            entry, variant = self._entry(environment.expanded(file[1], "The recipe")), file[2]
            if variant is not None:
                self.require_variant(entry, variant)
            return entry, variant
        if is_library_name(name):
            return self._library_entry(name)
        if name not in self._by_name:
            raise UnknownNameError(
                f"Unknown model '{shown(name)}'. {did_you_mean(name, self._by_name)} `qzoo list` shows all."
            )
        return self._by_name[name]

    @staticmethod
    def require_variant(entry: RecipeEntry, variant: str) -> None:
        """Refuses a variant that the recipe does not have.

        Raises:
            UnknownNameError: with the nearest names.
        """
        if variant not in entry.recipe.variants:
            advice = did_you_mean(variant, entry.variants)
            raise UnknownNameError(f"{entry.where} has no variant '{shown(variant)}'. {advice}")

    def _entry(self, path: Path, where: str | None = None) -> RecipeEntry:
        recipe, lines = load_recipe(path, self.schemes, where, self.sets)
        schemes = _all_schemes(recipe, where or short_path(path), lines, self.schemes)
        return RecipeEntry(path.stem, recipe, path, lines, schemes)

    def published_entry(self, path: Path, base: str, name: str) -> RecipeEntry:
        """Returns the recipe of a published model.

        Args:
            path: of its recipe file.
            base: the base's name, which the file's stem is not.
            name: what to type for it.

        Raises:
            RecipeError: the file is faulty.
        """
        return replace(self._entry(path, name), name=base, published_name=name)

    def _library_entry(self, name: str) -> tuple[RecipeEntry, str | None]:
        model, _, variant = name.partition(":")
        recipe = library_recipe(model, self.schemes)
        # A slash in a name would make folders of the ranges' file names.
        entry = RecipeEntry(model.replace("/", "."), recipe, None, {}, self.schemes, library_name=model)
        if variant:
            self.require_variant(entry, variant)
        return entry, variant or None

    def _yaml_files(self) -> list[Path]:
        files: dict[tuple[int, int], Path] = {}  # one folder may be named twice, or lie in another
        for folder in self.folders:
            if not folder.is_dir():
                fault = "is no folder" if folder.exists() else "does not exist"
                raise RecipeError(f"The recipe folder {folder} {fault}. Correct or unset QZOO_RECIPES.")
            found = [os.path.join(place, name) for place, _, names in os.walk(folder) for name in names]
            for path in sorted([path for path in found if path.endswith((".yaml", ".yml"))]):
                status = os.stat(path) if os.path.exists(path) else os.lstat(path)
                files.setdefault((status.st_dev, status.st_ino), Path(path))
        return list(files.values())


@lru_cache(maxsize=4)
def _kept(folders: tuple[Path, ...], files: object, here: Path) -> Catalog:
    """Returns a catalogue; of the arguments the files' stamp and the folder that messages start from are compared."""
    return Catalog(list(folders))


def _all_schemes(recipe: Recipe, where: str, lines: Lines, shared: dict[str, SchemeEntry]) -> dict[str, SchemeEntry]:
    """Returns the schemes that a recipe can name: its own, and the shared ones of other names."""
    within: dict[str, Lines] = {name: {} for name in recipe.schemes}
    for path, line in lines.items():
        if path[:1] == ("schemes",) and len(path) > 1:
            within[str(path[1])][path[2:]] = line
    return {**shared, **{name: SchemeEntry(scheme, where, within[name]) for name, scheme in recipe.schemes.items()}}


def _load_scheme(path: Path) -> SchemeEntry:
    data, lines = read_yaml(path)
    return SchemeEntry(validate(Scheme, data, lines, short_path(path)), short_path(path), lines)


def _add(files: dict[str, Path], name: str, path: Path, what: str) -> None:
    if name in files:
        raise RecipeError(
            f"Two files define the {what} '{name}': {short_path(files[name])} and {short_path(path)}. Rename one."
        )
    files[name] = path
