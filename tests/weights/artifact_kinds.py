"""A small real artifact of every kind, and how each is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import qzoo
from qzoo.commands.calibrate import calibrate_variants
from qzoo.commands.release.push import push
from qzoo.commands.settings import Settings
from qzoo.hub.manifest import MANIFEST, read_manifest
from qzoo.hub.released_model import open_folder
from qzoo.models.bases import create_bare
from qzoo.models.full_checkpoint import load_full_checkpoint
from qzoo.models.quantize import quantize_in_place
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.recipe import Recipe
from qzoo.weights.histograms import load_histograms
from qzoo.weights.ranges import load_ranges
from qzoo.weights.receipt import load_receipt
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel

NAME = "resnet8_digits_int8"
Read = Callable[[Path], Any]
MODELS: dict[str, Any] = {}


def read_model(path: Path) -> Any:
    # Made once: what is refused changes nothing.
    if not MODELS:
        variant = find(NAME).resolved
        MODELS["model"] = create_bare(variant.base)
        quantize_in_place(MODELS["model"], variant)
    return load_full_checkpoint(MODELS["model"], path)


def read_published(name: str) -> Read:
    def read(path: Path) -> Any:
        return open_folder(path.parent).file(name)  # type: ignore[arg-type]

    return read


READERS: dict[str, Read] = {
    "ranges.safetensors": load_ranges,
    "histograms.safetensors": load_histograms,
    "reference.histograms.safetensors": load_histograms,
    "receipt.safetensors": load_receipt,
    "model.safetensors": read_model,
    "float/model.safetensors": read_model,
    "manifest.json": lambda path: read_manifest(path, str(path)),
    "recipe.yaml": read_published("recipe.yaml"),
    "config.json": read_published("config.json"),
    "README.md": read_published("README.md"),
}
"""By path in the folder that `make` fills."""


def make(folder: Path) -> None:
    """Fills a folder with a hub model, and with what that does not hold: another binning, float weights."""
    qzoo.reproduce("resnet8_digits", only="int8", artifacts=folder / "artifacts")
    push(NAME, "me/model", artifacts=folder / "artifacts", folder=folder, dry_run=True)
    push(NAME, "me/model", artifacts=folder / "artifacts", folder=folder / "float", weights="float", dry_run=True)
    assert (folder / MANIFEST).is_file()
    entry, _ = Catalog.load().find("resnet8_digits")
    content = entry.recipe.model_dump(mode="json", by_alias=True, exclude_none=True)
    content["calibration"] = {"images": 64, "binning": "reference"}
    reference = replace(entry, recipe=Recipe.model_validate_json(json.dumps(content)))
    (made,) = calibrate_variants(
        [ZooModel(reference, "int8")], Settings(), output=folder / "reference.ranges.safetensors"
    )
    assert made.histograms == folder / "reference.histograms.safetensors"
