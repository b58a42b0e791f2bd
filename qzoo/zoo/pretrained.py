"""Calibrated models by name: where their artifacts lie, and how a model gets its weights and ranges from them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

from qzoo import environment
from qzoo.errors import WeightsError
from qzoo.hub.client import fetch, fetch_more, parse_address
from qzoo.hub.index import published as published_on_hub
from qzoo.models.bases import base_digest, create_bare, create_base, weights_facts
from qzoo.models.heads import fit_to_new_head
from qzoo.models.outline import check_ranges_fit, outline
from qzoo.models.quantize import quantize_in_place
from qzoo.models.whole_model import check_whole, load_whole
from qzoo.quant.ranges import set_ranges
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.datasets import dataset_named
from qzoo.schema.resolve import ResolvedVariant, resolve
from qzoo.weights.kinds import MODEL, RANGES, Kind, beside_recipe
from qzoo.weights.packages import is_installed
from qzoo.weights.ranges import check_base, load_ranges
from qzoo.zoo.finding import published_of


class OtherImagesWarning(UserWarning):
    """Ranges were calibrated on another number of images than the recipe says."""


class UnpinnedWeightsWarning(UserWarning):
    """The recipe of a published model does not say which file its float weights have to be."""


def create_pretrained(entry: RecipeEntry, resolved: ResolvedVariant, keywords: dict[str, Any]) -> nn.Module:
    """Returns a calibrated model: a published one whole, where it is stored so, else base weights and ranges.

    Args:
        entry: the recipe.
        resolved: the variant.
        keywords: of the base's constructor; with any, ranges are put on base weights.

    Raises:
        WeightsError: there are no artifacts for it, or they are damaged, or of another base or state of the recipe.
    """
    whole = _whole_file(entry, resolved, keywords)
    return create_with_ranges(entry, resolved, keywords) if whole is None else whole_model(resolved, whole)


def create_with_ranges(entry: RecipeEntry, resolved: ResolvedVariant, keywords: dict[str, Any]) -> nn.Module:
    """Returns a model of base weights and of the ranges that were calibrated for it.

    Raises:
        WeightsError: there are no ranges, they are damaged, or of another base or state of the recipe.
    """
    ranges = _ranges_file(entry, resolved)
    if not entry.is_shipped:  # whose models are of known sizes
        check_ranges_fit(resolved, ranges)
    warn_of_unpinned(entry)
    model = create_base(resolved.base, pretrained=True, **keywords)
    quantize_in_place(model, resolved)
    load_pretrained_ranges(model, entry, resolved)
    return model


def check_published(entry: RecipeEntry, resolved: ResolvedVariant) -> None:
    """Refuses a published model whose artifacts are not of the model that its recipe names, before that one is made.

    For whoever makes it without them, to calibrate or to train it; of any other recipe nothing is asked.

    Raises:
        WeightsError: names and shapes differ, or a file is damaged.
    """
    if entry.published_name is None:
        return
    ranges = artifact_file(entry, resolved.name, RANGES)
    whole = artifact_file(entry, resolved.name, MODEL) if ranges is None else None
    if ranges is not None:
        check_ranges_fit(resolved, ranges)
    elif whole is not None:
        check_whole(outline(resolved), whole)


def warn_of_unpinned(entry: RecipeEntry) -> None:
    """Says where float weights of somebody else's recipe are about to be loaded that no SHA-256 pins.

    Warns:
        UnpinnedWeightsWarning: names the field and what to do.
    """
    base = entry.recipe.base
    if entry.published_name is None or base.sha256 or (base.package and is_installed(base.package)):
        return
    if weights_facts(base).sha256 is None:
        warnings.warn(
            f"The recipe of {entry.published_name} has no base.sha256, so nothing says which file the float weights of "
            f"{base.source}/{base.architecture} have to be: any that is downloaded is loaded. Whoever published it can "
            "write the SHA-256 under base and push again; or put a file that you trust into QZOO_WEIGHTS_DIR.",
            UnpinnedWeightsWarning,
            stacklevel=4,
        )


def whole_model(resolved: ResolvedVariant, path: Path) -> nn.Module:
    """Returns a variant with all its weights and ranges from a file.

    Raises:
        WeightsError: the file is missing, corrupt, or holds another model.
    """
    # A recipe from elsewhere may name a huge model beside a small file: names and shapes take no memory.
    check_whole(outline(resolved), path)
    model = create_bare(resolved.base)
    quantize_in_place(model, resolved)
    load_whole(model, path)
    return model


def artifact_file(entry: RecipeEntry, full_name: str, kind: Kind) -> Path | None:
    """Returns an artifact of a variant, or None.

    It is looked for beside the recipe, then in `QZOO_WEIGHTS_DIR`, in qzoo's own folder, and last on the hub, where the
    recipe folder's `hub.json` names it. A published model has its own artifacts and no others.

    Raises:
        WeightsError: the hub can't be reached, or what it sends is damaged.
    """
    own = published_of(entry)
    if own is not None:
        return fetch_more(own, [kind.file]).file(kind.file)
    local = artifact_at_hand(entry, full_name, kind)
    address = published_on_hub().get(full_name) if local is None else None
    # The names in `hub.json` speak of the catalogue's recipes, not of any file or object of that name.
    if address is None or not entry.is_known:
        return local
    return fetch(parse_address(address), [kind.file]).file(kind.file)


def artifact_at_hand(entry: RecipeEntry, full_name: str, kind: Kind) -> Path | None:
    """Returns an artifact of a variant that is on this machine, or None."""
    return next((path for path in _local_files(entry, full_name, kind) if path.is_file()), None)


def is_at_hand(entry: RecipeEntry, variant: str) -> bool:
    """Whether what makes a variant is on this machine, or its recipe folder says that it is on the hub."""
    resolved = resolve(entry, variant)
    kind = RANGES if resolved.finetune is None else MODEL
    return artifact_at_hand(entry, resolved.name, kind) is not None or resolved.name in published_on_hub()


def load_pretrained_ranges(model: nn.Module, entry: RecipeEntry, resolved: ResolvedVariant) -> None:
    """Gives a model the ranges that were calibrated for it, in place.

    Raises:
        WeightsError: there are none, or they were made for another base or by an older recipe.

    Warns:
        OtherImagesWarning: they were calibrated on another number of images than the recipe says.
    """
    file, command = _ranges_file(entry, resolved), _calibrate_command(entry, resolved)
    ranges, info = load_ranges(file)
    check_base(file, info, base_digest(model))
    wanted = resolved.calibration.images
    if info.calibration_images != wanted:
        said = (
            f"{file.name} was calibrated on {info.calibration_images:,} images, the recipe says {wanted:,}: figures "
            f"may differ from the published ones. As the recipe says: {command}"
        )
        if not info.calibration_images:
            said = f"{file.name} was imported or saved by hand: on which images it was calibrated is not known."
        warnings.warn(
            said,
            OtherImagesWarning,
            stacklevel=4,
        )
    if info.recipe_sha256 != resolved.digest:
        raise WeightsError(
            f"{file.name} was calibrated by another state of the recipe {resolved.name} ({info.recipe_sha256[:12]}, "
            f"now {resolved.digest[:12]}). Calibrate again: {command}"
        )
    set_ranges(model, fit_to_new_head(model, ranges))


def _ranges_file(entry: RecipeEntry, resolved: ResolvedVariant) -> Path:
    file = artifact_file(entry, resolved.name, RANGES)
    if file is None:
        command = _calibrate_command(entry, resolved)
        raise WeightsError(
            f"Nothing is published or calibrated for {resolved.name} yet. This calibrates it, once: {command}"
        )
    return file


def _whole_file(entry: RecipeEntry, resolved: ResolvedVariant, keywords: dict[str, Any]) -> Path | None:
    # Training changes the weights, so what comes of it has to be stored whole; what is calibrated need not be.
    if resolved.finetune is None:
        return artifact_file(entry, resolved.name, MODEL) if entry.published_name and not keywords else None
    if keywords:
        raise WeightsError(
            f"{resolved.name} was trained, so its weights exist for the model as it is, not with "
            f"{', '.join(f'{name}=' for name in keywords)}. Create it without, and change it afterwards."
        )
    file = artifact_file(entry, resolved.name, MODEL)
    if file is None:
        command = f"qzoo finetune {entry.address(resolved.variant)}{dataset_named(resolved.dataset).data_option}"
        raise WeightsError(f"Nothing is published or trained for {resolved.name} yet. This trains it, once: {command}")
    return file


def _local_files(entry: RecipeEntry, full_name: str, kind: Kind) -> Iterator[Path]:
    beside = beside_recipe(entry, full_name, kind)
    if beside is not None:
        yield beside
    for folder in (environment.weights_dir(), environment.artifacts()):
        if folder is not None:
            yield folder / f"{full_name}{kind.suffix}"


def _calibrate_command(entry: RecipeEntry, resolved: ResolvedVariant) -> str:
    return f"qzoo calibrate {entry.address(resolved.variant)}{dataset_named(resolved.dataset).data_option}"
