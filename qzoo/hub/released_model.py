"""A hub model: a folder with a manifest, from the hub or copied from elsewhere, whose files are checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from qzoo.errors import WeightsError, shown
from qzoo.hub.manifest import MANIFEST, RECIPE, FileFacts, Manifest, read_manifest
from qzoo.results.readable import Readable
from qzoo.schema.model import LARGEST_TEXT
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.sources import OWN_CODE
from qzoo.schema.recipe import Recipe
from qzoo.schema.resolution.resolve import resolve


@dataclass(frozen=True, repr=False)
class ReleasedModel(Readable):
    """A hub model on this machine.

    Attributes:
        folder: where its files lie.
        manifest: what they are.
        name: what to type for it: `hf-hub:owner/repo`, or a path.
    """

    folder: Path
    manifest: Manifest
    name: str

    def file(self, name: str) -> Path | None:
        """Returns a file, after checking it against the manifest; None if the model has none of that name.

        Raises:
            WeightsError: the file is missing or damaged.
        """
        facts = self.manifest.files.get(name)
        if facts is None:
            return None
        path = self.folder / name
        if fault := fault_of(path, facts):
            raise WeightsError(f"{name} of {self.name} {fault}. Fetch it again.")
        return path

    def entry(self) -> RecipeEntry:
        """Returns its recipe.

        Raises:
            WeightsError: the recipe is missing, damaged, or not the one that the manifest speaks of.
            RecipeError: the recipe is faulty.
        """
        path = self.file(RECIPE)
        if path is None or path.stat().st_size > LARGEST_TEXT:
            raise WeightsError(f"{self.name} holds no qzoo model: it has no {RECIPE} of a sensible size.")
        entry = Catalog.load().hub_entry(path, self.manifest.base, self.name)
        require_portable(entry.recipe, self.name)
        entry.require_variant(self.manifest.variant)
        variant, manifest = resolve(entry, self.manifest.variant), self.manifest
        if (variant.name, variant.version, variant.digest) != (manifest.name, manifest.version, manifest.recipe_sha256):
            raise WeightsError(f"The recipe of {self.name} is not the one that its manifest speaks of. Push it again.")
        return entry


def open_folder(folder: Path, name: str | None = None) -> ReleasedModel:
    """Returns the hub model in a folder.

    Raises:
        WeightsError: the folder holds none, or its manifest is damaged.
    """
    name = name or str(folder)
    return ReleasedModel(folder, read_manifest(folder / MANIFEST, name), name)


def is_hub_folder(name: str) -> bool:
    """Whether a name is that of a folder with a manifest."""
    try:
        return (Path(name).expanduser() / MANIFEST).is_file()
    except (OSError, RuntimeError, ValueError):  # no path: too long, an unknown user's folder, a null byte
        return False


def require_portable(recipe: Recipe, where: str) -> None:
    """Refuses a recipe that names a path, its dataset's or its weights': elsewhere it is another, or something private.

    Raises:
        WeightsError: says so.
    """
    if _is_path(recipe.dataset):
        raise WeightsError(
            f"The recipe of {where} names a folder as its dataset, '{shown(recipe.dataset)}'. What is released names a "
            "dataset that every machine can have, such as imagenet-1k or cifar10, or a name that is looked up with "
            "--data."
        )
    weights = recipe.base.weights or ""
    if recipe.base.source == OWN_CODE and _is_path(weights):
        raise WeightsError(
            f"The recipe of {where} names a path as its base's weights, '{shown(weights)}'. What is released names a "
            "file, such as tiny.safetensors, that is looked up in QZOO_WEIGHTS_DIR."
        )


def _is_path(name: str) -> bool:
    return any(sign in name for sign in ("/", "\\", "~")) or name.startswith(".")


def facts_of(path: Path) -> FileFacts:
    """Returns what a manifest says of a file."""
    with path.open("rb") as file:
        return FileFacts(bytes=path.stat().st_size, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def fault_of(path: Path, facts: FileFacts) -> str | None:
    """Returns what is wrong with a file, as the end of a sentence; None if nothing is."""
    if not path.is_file():
        return "is missing"
    size = path.stat().st_size
    if size != facts.bytes:
        return f"has {size:,} bytes, expected {facts.bytes:,}: it is truncated or another file"
    return None if facts_of(path).sha256 == facts.sha256 else "is corrupt: its SHA-256 is not the one in the manifest"
