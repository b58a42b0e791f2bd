"""Checkpoints: a run as one file, from which it goes on exactly where it was, and what such a file has to hold."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from qzoo.errors import TrainingError, WeightsError
from qzoo.results.training import LogRow, Percent
from qzoo.schema.finetune import FinetuneSpec
from qzoo.weights.artifact import ArtifactInfo, Header, read_artifact, write_artifact
from qzoo.weights.kinds import Kind
from qzoo.weights.model_file import misfit, spec_of
from qzoo.weights.values import value_fault

CHECKPOINT = Kind("checkpoint", largest=100_000_000_000, remedy="Start the training anew, without --resume.")

Count = Annotated[int, Field(ge=0)]


class CheckpointInfo(ArtifactInfo):
    """What a checkpoint says of itself: where the run is, and that which may not change when it goes on."""

    finetune: FinetuneSpec
    steps_per_epoch: int = Field(ge=0)
    step: int = Field(ge=0)
    """Steps that were made."""
    start_top1: Percent | None
    rows: list[LogRow]
    pending: tuple[float, Count, Count]
    """Since the last row: sum of losses, images, images that were predicted rightly."""
    seconds: float = Field(ge=0)
    resumed: int = Field(ge=0)


def save_checkpoint(path: Path, tensors: dict[str, Tensor], info: CheckpointInfo) -> None:
    """Writes a checkpoint; the one before is replaced in one step, so that there is a whole one at any moment."""
    write_artifact(path, CHECKPOINT, {key: tensor.detach().clone() for key, tensor in tensors.items()}, info)


def load_checkpoint(
    path: Path, expected: CheckpointInfo, own: Mapping[str, Tensor] | None = None
) -> tuple[dict[str, Tensor], CheckpointInfo]:
    """Returns what a checkpoint holds.

    Args:
        path: the path of the file.
        expected: the header of the run that is to go on, before its first step.
        own: what that run would save itself before its first step; None: any tensors will do.

    Raises:
        WeightsError: the file is missing or corrupt, or holds other tensors than the run, or impossible ones.
        TrainingError: it is of another run: another recipe, schedule or number of images.
    """

    def fault(header: Header, info: CheckpointInfo) -> str | None:
        # What is another run's is told as such, below.
        same = own is not None and not _differing(info, expected)
        return header_fault(header, own) if same and own is not None else None

    tensors, info = read_artifact(path, CHECKPOINT, CheckpointInfo, fault)
    if differing := _differing(info, expected):
        raise TrainingError(
            f"{path} is a checkpoint of another run: {', '.join(differing)} differ. "
            "Give the options of that run, another folder with -o, or leave out --resume to start anew."
        )
    if own is not None and (broken := values_fault(tensors)):
        raise WeightsError(f"{path} {broken}. {CHECKPOINT.remedy}")
    if info.step > info.steps_per_epoch * info.finetune.epochs:
        raise WeightsError(f"{path} is at step {info.step:,}, beyond the end of its run. {CHECKPOINT.remedy}")
    return tensors, info


def _differing(info: CheckpointInfo, expected: CheckpointInfo) -> list[str]:
    """Returns the fields in which a checkpoint is of another run."""
    fixed = ("name", "recipe_sha256", "base_sha256", "steps_per_epoch")
    differing = [field for field in fixed if getattr(info, field) != getattr(expected, field)]
    schedule = [
        f"finetune.{field}" for field in FinetuneSpec.model_fields
        if getattr(info.finetune, field) != getattr(expected.finetune, field)
    ]  # fmt: skip
    return [*schedule, *differing]


WHOLE = ("model/", "average/", "dice/cpu")
"""Parts that are the same before the first step and after; what an optimizer remembers comes with its first."""
SLOTS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")


def header_fault(header: Header, own: Mapping[str, Tensor]) -> str | None:
    """Returns how the names, shapes and dtypes of a checkpoint are not those of a run; None if they are.

    Args:
        header: the header of the file.
        own: what the run would write before its first step.
    """
    said = {key: spec for key, spec in header.items() if key.startswith(WHOLE)}
    expected = {key: spec_of(tuple(value.shape), value.dtype) for key, value in own.items() if key.startswith(WHOLE)}
    if fault := misfit(said, expected):
        return fault
    for key in (key for key in header if key.startswith("optimizer/")):
        place, _, slot = key.removeprefix("optimizer/").rpartition("/")
        like = own.get(f"model/{place}")
        shape = () if slot == "step" else None if like is None else tuple(like.shape)
        if like is None or slot not in SLOTS or header[key].shape != shape:
            return f"{key} is nothing that the optimizer remembers"
    return None


def values_fault(tensors: Mapping[str, Tensor]) -> str | None:
    """Returns what no run leaves in a checkpoint, as what its file does; None if there is nothing of that kind."""
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part in ("model", "average"):
            is_range = name.endswith(".amax")
            fault = value_fault(key, value, weight=name.endswith((".weight", ".bias", ".amax", ".zero_point")))
            fault = fault or (f"holds a negative range in {key}" if is_range and bool((value < 0).any()) else None)
        else:
            squared = name.endswith(("/exp_avg_sq", "/step")) and bool((value < 0).any())
            broken = value.is_floating_point() and bool(value.isnan().any())
            fault = f"holds NaN, or less than 0, in {key}" if squared or broken else None
        if fault:
            return fault
    return _generator_fault(tensors.get("dice/cpu"))


def _generator_fault(state: Tensor | None) -> str | None:
    try:
        if state is not None:
            torch.Generator().set_state(state)
    except (RuntimeError, TypeError):
        return "holds a state of the random numbers that is none, in dice/cpu"
    return None
