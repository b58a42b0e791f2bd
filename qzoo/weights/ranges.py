"""`ranges.safetensors`: all `amax` of a calibrated model, a file of some KB bound to the weights they were made for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field
from torch import Tensor

from qzoo.errors import WeightsError
from qzoo.weights.artifact import ArtifactInfo, Digest, Header, TensorSpec, read_artifact, write_artifact
from qzoo.weights.kinds import RANGES

SUFFIX = RANGES.suffix


class RangesInfo(ArtifactInfo):
    """What a ranges file says of itself."""

    calibration_images: int = Field(ge=0)
    """How many images were seen."""
    calibration_sha256: Digest
    """Of those images; empty if they came from the user's own iterable."""


def save_ranges(path: Path, ranges: Mapping[str, Tensor], info: RangesInfo) -> None:
    """Writes a ranges file; a file of that name is replaced in one step.

    Example:
        >>> save_ranges(Path("int8.safetensors"), get_ranges(model), info)  # doctest: +SKIP
    """
    write_artifact(path, RANGES, ranges, info)


def load_ranges(path: Path) -> tuple[dict[str, Tensor], RangesInfo]:
    """Returns the ranges and what the file says of itself.

    Raises:
        WeightsError: the file is missing, truncated, corrupt, or no ranges file.
    """
    return read_artifact(path, RANGES, RangesInfo, _fault)


def check_base(path: Path, info: ArtifactInfo, base_sha256: str) -> None:
    """Refuses an artifact made for other float weights.

    Raises:
        WeightsError: the digests differ.
    """
    if info.base_sha256 != base_sha256:
        raise WeightsError(
            f"{path} belongs to another base: it was made for weights with content digest {info.base_sha256[:12]}, "
            f"these have {base_sha256[:12]}. Ranges fit only the weights they were calibrated on: calibrate again, "
            "or load the base weights that the recipe names. A trained model is saved by qzoo.save(..., whole=True)."
        )


def _fault(header: Header, info: RangesInfo) -> str | None:
    wrong = next((key for key, spec in header.items() if not _is_range(key.rpartition(".")[2], spec)), None)
    return f"{wrong} ({header[wrong].dtype} {list(header[wrong].shape)}) is no range" if wrong is not None else None


def _is_range(name: str, spec: TensorSpec) -> bool:
    return (name == "amax" and spec.dtype == "F32") or (name == "unsigned" and spec == TensorSpec("BOOL", ()))
