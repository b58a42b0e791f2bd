"""`ranges.safetensors`: all `amax` of a calibrated model, a file of some KB bound to the weights they were made for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import Field
from torch import Tensor

from qzoo.errors import WeightsError, shown
from qzoo.weights.artifact import ArtifactInfo, Digest, Header, TensorSpec, check_header, read_artifact, write_artifact
from qzoo.weights.kinds import RANGES
from qzoo.weights.values import ZERO_POINT, value_fault


class RangesInfo(ArtifactInfo):
    """What a ranges file says of itself."""

    calibration_images: int = Field(ge=0, lt=2**63)
    """How many images were seen."""
    calibration_sha256: Digest
    """The digest of those images; empty if they came from the user's own iterable."""


def save_ranges(path: Path, ranges: Mapping[str, Tensor], info: RangesInfo) -> None:
    """Writes a ranges file; a file of that name is replaced in one step.

    Example:
        >>> ranges, info = load_ranges(qzoo.save("resnet8_digits_int8", "int8.safetensors"))
        >>> save_ranges(Path("again.safetensors"), ranges, info)
    """
    write_artifact(path, RANGES, ranges, info)


def load_ranges(path: Path) -> tuple[dict[str, Tensor], RangesInfo]:
    """Returns the ranges and what the file says of itself.

    Raises:
        WeightsError: the file is missing, truncated, corrupt, no ranges file, or holds what is no range.
    """
    ranges, info = read_artifact(path, RANGES, RangesInfo, _fault)
    check_ranges(path, ranges)
    return ranges, info


def check_ranges_header(path: Path, check: Callable[[Header, RangesInfo], str | None]) -> None:
    """Refuses a ranges file by names, dtypes and shapes, without reading its tensors; see `load_ranges`.

    Args:
        path: the path of the file.
        check: returns what is wrong with the header of a file that holds nothing but ranges.

    Raises:
        WeightsError: the file is missing, truncated, no ranges file, or not what it has to be.
    """
    check_header(path, RANGES, RangesInfo, lambda header, info: _fault(header, info) or check(header, info))


def check_ranges(path: Path, ranges: Mapping[str, Tensor]) -> None:
    """Refuses ranges that no quantizer can have.

    Args:
        path: where they come from, for the message.
        ranges: keyed like the state dict; all but `amax` and `zero_point` is passed over.

    Raises:
        WeightsError: an `amax` is negative or not finite, or a zero point is an integer of no grid; names it, and the
            value.
    """
    for key, amax in ranges.items():
        if key.rpartition(".")[2] == ZERO_POINT and (fault := value_fault(key, amax)):
            raise WeightsError(f"{path} {fault}. {RANGES.remedy}")
        odd = ~(amax.isfinite() & (amax >= 0)) if key.rpartition(".")[2] == "amax" else None
        if odd is not None and bool(odd.any()):
            raise WeightsError(
                f"{path}: {shown(key)} holds {amax[odd][0]:g}, which is negative or not finite: a range is at least 0. "
                f"{RANGES.remedy}"
            )


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
    if not header:
        return "it holds no range"
    wrong = next((key for key, spec in header.items() if not _is_range(key.rpartition(".")[2], spec)), None)
    if wrong is not None:
        return f"{wrong} ({header[wrong].dtype} {list(header[wrong].shape)}) is no range"
    for key, spec in header.items():
        place, _, name = key.rpartition(".")
        beside = header.get(f"{place}.amax")
        if beside is None:
            return f"{key} is there, but no range of that quantizer"
        if name == "zero_point" and spec.shape != beside.shape:
            return f"{key} has the shape {list(spec.shape)}, its range {list(beside.shape)}"
    return None


def _is_range(name: str, spec: TensorSpec) -> bool:
    dtype = {"amax": "F32", "zero_point": "I32"}.get(name)
    return (spec.dtype == dtype and 0 not in spec.shape) or (name == "unsigned" and spec == TensorSpec("BOOL", ()))
