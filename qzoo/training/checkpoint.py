"""Checkpoints: a run as one file, from which it goes on exactly where it was."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from qzoo.errors import TrainingError
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.training import LogRow
from qzoo.weights.artifact import ArtifactInfo, read_artifact, write_artifact
from qzoo.weights.kinds import Kind

CHECKPOINT = Kind("checkpoint", largest=100_000_000_000, remedy="Start the training anew, without --resume.")


class CheckpointInfo(ArtifactInfo):
    """What a checkpoint says of itself: where the run is, and that which may not change when it goes on."""

    finetune: FinetuneSpec
    steps_per_epoch: int
    step: int
    """Steps that were made."""
    start_top1: float | None
    rows: list[LogRow]
    pending: tuple[float, int, int]
    """Since the last row: sum of losses, images, images that were predicted rightly."""
    seconds: float
    resumed: int


def save_checkpoint(path: Path, tensors: dict[str, Tensor], info: CheckpointInfo) -> None:
    """Writes a checkpoint; the one before is replaced in one step, so that there is a whole one at any moment."""
    write_artifact(path, CHECKPOINT, {key: tensor.detach().clone() for key, tensor in tensors.items()}, info)


def load_checkpoint(path: Path, expected: CheckpointInfo) -> tuple[dict[str, Tensor], CheckpointInfo]:
    """Returns what a checkpoint holds.

    Args:
        path: of the file.
        expected: of the run that is to go on, before its first step.

    Raises:
        WeightsError: the file is missing or corrupt.
        TrainingError: it is of another run: another recipe, schedule or number of images.
    """
    tensors, info = read_artifact(path, CHECKPOINT, CheckpointInfo)
    fixed = ("name", "recipe_sha256", "base_sha256", "steps_per_epoch")
    differing = [field for field in fixed if getattr(info, field) != getattr(expected, field)]
    schedule = [
        f"finetune.{field}" for field in FinetuneSpec.model_fields
        if getattr(info.finetune, field) != getattr(expected.finetune, field)
    ]  # fmt: skip
    if differing or schedule:
        raise TrainingError(
            f"{path} is a checkpoint of another run: {', '.join([*schedule, *differing])} differ. "
            "Give the options of that run, another folder with -o, or leave out --resume to start anew."
        )
    return tensors, info
