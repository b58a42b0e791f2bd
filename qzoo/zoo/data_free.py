"""Ranges for a variant that nobody calibrated: made once on this machine, of the float weights alone."""

from __future__ import annotations

import contextlib
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

from torch import nn

from qzoo import environment
from qzoo.distributed import alone
from qzoo.errors import QzooError, UnsupportedError, WeightsError
from qzoo.models.bases import create_base
from qzoo.models.on_base import info_of
from qzoo.models.provenance import ranges_from
from qzoo.models.quantize import quantize_in_place
from qzoo.models.survey import survey_of_base
from qzoo.schema.calibration import MADE_FROM, Source
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.calibrate import calibrate
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import Images
from qzoo.tasks.saving import save
from qzoo.weights.kinds import MODEL, RANGES
from qzoo.zoo.name_lookup import find
from qzoo.zoo.pretrained import check_hub_model, create_on_base, create_pretrained, warn_of_unpinned
from qzoo.zoo.zoo_model import ZooModel


class DataFreeRangesWarning(UserWarning):
    """The ranges of a model were made without an image of what it is for, since none were calibrated."""


def create_with_ranges(zoo_model: ZooModel, keywords: dict[str, Any]) -> nn.Module:
    """Returns a calibrated model: of artifacts, where there are any; else with ranges that are made now, or were once.

    Args:
        zoo_model: a variant.
        keywords: keyword arguments of the base's constructor.

    Raises:
        WeightsError: the float weights are missing; or the variant is more than calibrated, and there are no artifacts.

    Warns:
        DataFreeRangesWarning: what the ranges were made from, and how to make better ones.
    """
    model, how = _found(zoo_model, keywords)
    source = ranges_from(model)
    if source != zoo_model.resolved.calibration.source:
        warnings.warn(
            f"{zoo_model.name} was calibrated on no image of {zoo_model.dataset}: its ranges are of "
            f"{MADE_FROM[source]} ({how}). Better ones: {zoo_model.making_command}; how good these are: "
            f"{zoo_model.command('check')}. To refuse them: pretrained='exact'.",
            DataFreeRangesWarning,
            stacklevel=5,
        )
    return model


def _found(zoo_model: ZooModel, keywords: dict[str, Any]) -> tuple[nn.Module, str]:
    """Returns the model, and how it came by its ranges if these were made without images."""
    if _has_artifacts(zoo_model):
        return create_pretrained(zoo_model, **keywords), "as the file says that is at hand"
    file = _file(zoo_model)
    if file.is_file():
        with contextlib.suppress(WeightsError):  # it is damaged, of other weights, or of another state of the recipe
            return create_on_base(zoo_model, file, **keywords), f"made on {_day(file)}, kept as {file}"
    if zoo_model.made_by is RANGES:
        return _made(zoo_model, file, keywords)
    # What is optimized or trained takes long, and has to be asked for: this says how.
    return create_pretrained(zoo_model, **keywords), ""


def _has_artifacts(zoo_model: ZooModel) -> bool:
    kinds = (zoo_model.made_by, *((MODEL,) if zoo_model.entry.source.has_own_artifacts else ()))
    return any(zoo_model.artifact(kind) is not None for kind in kinds)


def _file(zoo_model: ZooModel) -> Path:
    return environment.made_without_images() / f"{zoo_model.name}{zoo_model.made_by.suffix}"


def _made(zoo_model: ZooModel, file: Path, keywords: dict[str, Any]) -> tuple[nn.Module, str]:
    start = time.perf_counter()
    with alone():  # in a script of several processes not all of them need to create the model
        model = _calibrated(zoo_model)
    seconds = time.perf_counter() - start
    with tempfile.TemporaryDirectory() as temporary:
        file, kept = _saved(model, file, Path(temporary))
        if keywords:
            model = create_on_base(zoo_model, file, **keywords)
    return model, f"made in {seconds:.0f} s, {kept}"


def _calibrated(zoo_model: ZooModel) -> nn.Module:
    resolved = zoo_model.resolved
    check_hub_model(zoo_model)
    warn_of_unpinned(zoo_model)
    model = create_base(resolved.base, pretrained=True)
    quantize_in_place(model, resolved, seen=survey_of_base(model))
    spec = resolved.calibration
    if spec.is_data_free:
        return calibrate(model, calibration_images(resolved.base, resolved.dataset, spec))
    with contextlib.suppress(UnsupportedError):  # it has no batch norm that remembers anything
        return calibrate(model, _images(resolved, "statistics"))
    return calibrate(model, _images(resolved, "synthetic"))


def _images(resolved: ResolvedVariant, source: Source) -> Images:
    return calibration_images(resolved.base, resolved.dataset, resolved.calibration, Path(source))


def _saved(model: nn.Module, file: Path, temporary: Path) -> tuple[Path, str]:
    """Returns where ranges were written, and what is said of it: into a folder for now where no other can be."""
    try:
        return save(model, file), f"kept as {file}"
    except OSError as error:
        return save(model, temporary / file.name), f"and not kept ({error.strerror or error})"


def _day(file: Path) -> str:
    return time.strftime("%Y-%m-%d", time.localtime(file.stat().st_mtime))


def refuse_data_free(zoo_model: ZooModel, model: nn.Module) -> None:
    """Refuses a model whose ranges were made of something else than its recipe says.

    Raises:
        WeightsError: says of what, and how to calibrate.
    """
    source = ranges_from(model)
    if source != zoo_model.resolved.calibration.source:
        raise WeightsError(
            f"The ranges of {zoo_model.name} that are at hand are of {MADE_FROM[source]}, not as the recipe says. "
            f"Calibrate it: {zoo_model.making_command}"
        )


def origin(name: str | Path) -> Source | None:
    """Returns what the ranges at hand for a variant were made from; None where none are, or it was trained since."""
    with contextlib.suppress(QzooError):
        zoo_model = find(name)
        for file in (zoo_model.artifact_at_hand(zoo_model.made_by), _file(zoo_model)):
            if file is not None and file.is_file() and zoo_model.made_by is not MODEL:
                return info_of(file).calibration_source
    return None
