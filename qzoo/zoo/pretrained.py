"""Calibrated models of the zoo: how a model gets its weights and ranges from artifacts."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from qzoo.errors import WeightsError
from qzoo.models.bases import create_bare, create_base, weights_facts
from qzoo.models.full_checkpoint import check_full_checkpoint, load_full_checkpoint, outline
from qzoo.models.on_base import check_fit, info_of, load_on_base
from qzoo.models.quantize import quantize_in_place
from qzoo.models.survey import survey_of_base
from qzoo.schema.calibration import DATA_FREE
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.weights.kinds import MODEL, ROUNDING
from qzoo.weights.packages import is_installed
from qzoo.zoo.zoo_model import ZooModel


class OtherImagesWarning(UserWarning):
    """Ranges were calibrated on another number of images than the recipe says."""


class UnpinnedWeightsWarning(UserWarning):
    """The recipe of a hub model does not say which file its float weights have to be."""


def create_pretrained(zoo_model: ZooModel, **keywords: Any) -> nn.Module:
    """Returns a calibrated model: one of the hub by its full checkpoint, if it has one, else from its base.

    Args:
        zoo_model: a variant.
        keywords: keyword arguments of the base's constructor; with any, ranges are put on base weights.

    Raises:
        WeightsError: there are no artifacts for it, or they are damaged, or of another base or state of the recipe.
    """
    file = _checkpoint_file(zoo_model, keywords)
    if file is not None:
        return model_of_checkpoint(zoo_model.resolved, file)
    return create_on_base(zoo_model, **keywords)


def create_on_base(zoo_model: ZooModel, file: Path | None = None, /, **keywords: Any) -> nn.Module:
    """Returns a model of base weights and of the ranges that were calibrated for it, or of how they were optimized.

    Args:
        zoo_model: a variant.
        file: a ranges or rounding file; default: the variant's own.
        keywords: keyword arguments of the base's constructor.

    Raises:
        WeightsError: there is no such file, it is damaged, or of another base or state of the recipe.
    """
    resolved, file = zoo_model.resolved, file or _file_on_base(zoo_model)
    if not zoo_model.entry.source.is_shipped:  # whose models are of known sizes
        check_fit(resolved, file)
    warn_of_unpinned(zoo_model)
    model = create_base(resolved.base, pretrained=True, **keywords)
    quantize_in_place(model, resolved, seen=survey_of_base(model))
    _load_on_base(model, zoo_model, file)
    return model


def check_hub_model(zoo_model: ZooModel) -> None:
    """Refuses a hub model whose artifacts are not of the model that its recipe names, before that one is made.

    For whoever makes it without them, to calibrate or to train it; of any other recipe nothing is asked.

    Raises:
        WeightsError: names and shapes differ, or a file is damaged.
    """
    if not zoo_model.entry.source.has_own_artifacts:
        return
    on_base = None if zoo_model.made_by is MODEL else zoo_model.artifact(zoo_model.made_by)
    whole = zoo_model.artifact(MODEL) if on_base is None else None
    if on_base is not None:
        check_fit(zoo_model.resolved, on_base)
    elif whole is not None:
        check_full_checkpoint(outline(zoo_model.resolved), whole)


def warn_of_unpinned(zoo_model: ZooModel) -> None:
    """Says where float weights of somebody else's recipe are about to be loaded that no SHA-256 pins.

    Warns:
        UnpinnedWeightsWarning: names the field and what to do.
    """
    base = zoo_model.base
    if not zoo_model.entry.source.has_own_artifacts or base.sha256 or (base.package and is_installed(base.package)):
        return
    if weights_facts(base).sha256 is None:
        warnings.warn(
            f"The recipe of {zoo_model.address} has no base.sha256, so nothing says which file the float weights of "
            f"{base.source}/{base.architecture} have to be: any that is downloaded is loaded. Whoever published it can "
            "write the SHA-256 under base and push again; or put a file that you trust into QZOO_WEIGHTS_DIR.",
            UnpinnedWeightsWarning,
            stacklevel=4,
        )


def model_of_checkpoint(resolved: ResolvedVariant, path: Path) -> nn.Module:
    """Returns a variant with all its weights and ranges from a file.

    Raises:
        WeightsError: the file is missing, corrupt, or holds another model.
    """
    # A recipe from elsewhere may name a huge model beside a small file: names and shapes take no memory.
    check_full_checkpoint(outline(resolved), path)
    model = create_bare(resolved.base)
    quantize_in_place(model, resolved, seen=survey_of_base(model))
    load_full_checkpoint(model, path)
    return model


def float_reference(zoo_model: ZooModel) -> nn.Module | None:
    """Returns the float base of a variant whose weights are other ones: trained, or optimized; else None.

    Any other is without its quantizers what the base is.

    Raises:
        WeightsError: the weights of the base are missing or damaged.
    """
    changed = zoo_model.resolved.finetune is not None or zoo_model.resolved.optimize is not None
    return create_base(zoo_model.base, pretrained=True) if changed else None


def _load_on_base(model: nn.Module, zoo_model: ZooModel, file: Path) -> None:
    """Gives a model what was calibrated for it, in place.

    Raises:
        WeightsError: it was made for another base or by an older recipe.

    Warns:
        OtherImagesWarning: it was calibrated on another number of images than the recipe says.
    """
    resolved, command = zoo_model.resolved, zoo_model.making_command
    info = info_of(file)
    wanted = resolved.calibration.images
    if info.calibration_images != wanted and info.calibration_source == "images":
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
    load_on_base(model, file)


def _file_on_base(zoo_model: ZooModel) -> Path:
    file = zoo_model.artifact(zoo_model.made_by)
    if file is None:
        done, does = ("optimized", "optimizes") if zoo_model.made_by is ROUNDING else ("calibrated", "calibrates")
        raise WeightsError(
            f"Nothing is released or {done} for {zoo_model.name} yet. This {does} it, once: {zoo_model.making_command} "
            f"(without images: --data {DATA_FREE[0]} -o FILE, and then --ranges FILE)"
        )
    return file


def _checkpoint_file(zoo_model: ZooModel, keywords: dict[str, Any]) -> Path | None:
    # Training changes the weights, so what comes of it has to be stored whole; what is calibrated need not be.
    if zoo_model.resolved.finetune is None:
        return zoo_model.artifact(MODEL) if zoo_model.entry.source.has_own_artifacts and not keywords else None
    if keywords:
        raise WeightsError(
            f"{zoo_model.name} was trained, so its weights exist for the model as it is, not with "
            f"{', '.join(f'{name}=' for name in keywords)}. Create it without, and change it afterwards."
        )
    file = zoo_model.artifact(MODEL)
    if file is None:
        raise WeightsError(
            f"Nothing is released or trained for {zoo_model.name} yet. This trains it, once: {zoo_model.making_command}"
        )
    return file
