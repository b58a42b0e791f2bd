"""`rounding.safetensors`: an optimized model as its float base and what was changed: ranges, a few bits, some vectors.

Beside the ranges, keyed like the state dict, a file holds for a weight of the state dict

    codes/KEY      uint8, how each value was rounded, see `quant.rounding`
    rows/KEY       float32, what its output channels were multiplied by before
    columns/KEY    float32, what its input channels were multiplied by before
    values/KEY     all of a tensor that was changed otherwise, as a bias is
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field
from torch import Tensor

from qzoo.errors import WeightsError
from qzoo.quant.bit_packing import Width, packed_length
from qzoo.quant.rounding import Start
from qzoo.schema.model import StrictModel
from qzoo.weights.artifact import Header, TensorSpec, check_header, read_artifact, write_artifact
from qzoo.weights.kinds import ROUNDING
from qzoo.weights.ranges import RangesInfo, check_ranges, ranges_fault

CODES, ROWS, COLUMNS, VALUES = "codes/", "rows/", "columns/", "values/"
PREFIXES = (CODES, ROWS, COLUMNS, VALUES)


class CodeFormat(StrictModel):
    """How to read the codes of one weight; see `quant.rounding.Codes`."""

    start: Start
    width: Width
    low: int = Field(ge=-(2**16), le=2**16)


class RoundingInfo(RangesInfo):
    """What a rounding file says of itself."""

    weights: dict[str, CodeFormat]
    """By key of the state dict."""
    output_axis: dict[str, Annotated[int, Field(ge=0, le=1)]]
    """Of each weight that was multiplied by factors: the axis of its output channels, which come first."""


def save_rounding(path: Path, tensors: Mapping[str, Tensor], info: RoundingInfo) -> None:
    """Writes a rounding file; a file of that name is replaced in one step."""
    write_artifact(path, ROUNDING, tensors, info)


def load_rounding(path: Path) -> tuple[dict[str, Tensor], RoundingInfo]:
    """Returns the tensors and what the file says of itself.

    Raises:
        WeightsError: the file is missing, truncated, corrupt, no rounding file, or holds what can't be.
    """
    tensors, info = read_artifact(path, ROUNDING, RoundingInfo, _fault)
    check_ranges(path, tensors)
    for key, tensor in tensors.items():
        # A batch norm that is folded may turn a channel round, or take it away.
        fits = tensor.isfinite() & (tensor > 0) if key.startswith(COLUMNS) else tensor.isfinite()
        if key.startswith((ROWS, COLUMNS)) and not bool(fits.all()):
            kind = "above 0" if key.startswith(COLUMNS) else "a finite number"
            raise WeightsError(f"{path}: {key} holds what no weight is multiplied by: such a factor is {kind}.")
    return tensors, info


def check_rounding_header(path: Path, shapes: Mapping[str, TensorSpec], ranges: Header) -> None:
    """Refuses a rounding file by names, dtypes and shapes, without reading its tensors.

    Args:
        path: the path of the file.
        shapes: of the float tensors of the base, by key of the state dict.
        ranges: of the ranges of the variant.

    Raises:
        WeightsError: the file is missing, truncated, no rounding file, or not of that model.
    """
    check_header(path, ROUNDING, RoundingInfo, lambda header, info: _misfit(header, info, shapes, ranges))


def _misfit(header: Header, info: RoundingInfo, shapes: Mapping[str, TensorSpec], ranges: Header) -> str | None:
    if fault := _fault(header, info):
        return fault
    if own := _ranges_in(header).keys() ^ ranges.keys():
        return f"{len(own)} ranges are missing or unknown ({min(own)})"
    for key, spec in header.items():
        if fault := _misfit_of(key, spec, info, ranges.get(key) or shapes.get(key.partition("/")[2])):
            return fault
    return None


def _misfit_of(key: str, spec: TensorSpec, info: RoundingInfo, model: TensorSpec | None) -> str | None:
    if model is None:
        return f"{key} is of no weight of the model"
    if key.startswith(CODES):
        length = packed_length(math.prod(model.shape), info.weights[key.removeprefix(CODES)].width)
        return (
            None if spec.shape == (length,) else f"{key} has {spec.shape[0]:,} bytes, not those of {list(model.shape)}"
        )
    if key.startswith((ROWS, COLUMNS)) or spec == model:
        return None
    return f"{key} is {spec.dtype} {list(spec.shape)}, the model's {model.dtype} {list(model.shape)}"


def _fault(header: Header, info: RoundingInfo) -> str | None:
    if fault := ranges_fault(_ranges_in(header), info):
        return fault
    coded = {key.removeprefix(CODES) for key in header if key.startswith(CODES)}
    if odd := coded ^ {key for key, one in info.weights.items() if one.width}:
        return f"{min(odd)} has codes that nothing says how to read, or none"
    wrong = (key for key, spec in header.items() if key.startswith(PREFIXES) and not _is_known(key, spec))
    odd_key = next(wrong, None)
    return None if odd_key is None else f"{odd_key} ({header[odd_key].dtype} {list(header[odd_key].shape)}) can't be"


def _is_known(key: str, spec: TensorSpec) -> bool:
    if key.startswith(CODES):
        return spec.dtype == "U8" and len(spec.shape) == 1
    return key.startswith(VALUES) or (spec.dtype == "F32" and len(spec.shape) == 1)


def _ranges_in(header: Header) -> Header:
    return {key: spec for key, spec in header.items() if not key.startswith(PREFIXES)}
