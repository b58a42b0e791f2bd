"""`model.safetensors`: a whole calibrated model, keyed like its state dict, with float or with packed weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from qzoo.errors import UnsupportedError
from qzoo.quant.grouped import SHARED_BY_GROUPS, is_shared_by_groups
from qzoo.weights.artifact import ArtifactInfo, Header, TensorSpec, check_header, read_artifact, write_artifact
from qzoo.weights.kinds import MODEL

_DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip


class ModelInfo(ArtifactInfo):
    """What a model file says of itself."""

    packed: bool
    """Whether quantized weights are stored as the integers or FP8 values that they are; see `qzoo.quant.packing`."""


def spec_of(shape: tuple[int, ...], dtype: torch.dtype) -> TensorSpec:
    """Returns what a header says of a tensor."""
    if dtype not in _DTYPES:
        raise UnsupportedError(f"A model with {dtype} tensors can't be stored as safetensors by this version of qzoo.")
    return TensorSpec(_DTYPES[dtype], tuple(shape))


def save_model(path: Path, tensors: Mapping[str, Tensor], info: ModelInfo) -> None:
    """Writes a model file; a file of that name is replaced in one step."""
    # Tensors that share memory are refused by safetensors: each gets its own.
    write_artifact(path, MODEL, {key: tensor.detach().clone() for key, tensor in tensors.items()}, info)


def load_model(path: Path, expected: Mapping[bool, Header]) -> tuple[dict[str, Tensor], ModelInfo]:
    """Returns the tensors and what the file says of itself.

    Args:
        path: the path of the file.
        expected: names, dtypes and shapes that the model has, unpacked and packed.

    Raises:
        WeightsError: the file is missing, truncated, corrupt, or holds other tensors than the model; nothing is read.
    """
    return read_artifact(path, MODEL, ModelInfo, lambda header, info: misfit(header, expected[info.packed]))


def check_model(path: Path, expected: Mapping[bool, Header]) -> None:
    """Refuses a model file that holds other tensors than the model, without reading it; see `load_model`."""
    check_header(path, MODEL, ModelInfo, lambda header, info: misfit(header, expected[info.packed]))


def misfit(header: Header, expected: Header) -> str | None:
    """Returns how the tensors of a file are not those that are expected, by name, dtype and shape; None if they are."""
    missing, unknown = sorted(expected.keys() - header.keys()), sorted(header.keys() - expected.keys())
    if missing or unknown:
        return (
            f"{len(missing)} tensors of the model are missing ({_first(missing)}), {len(unknown)} unknown "
            f"({_first(unknown)})"
        )
    wrong = next((key for key in expected if header[key] != expected[key]), None)
    if wrong is None:
        return None
    shared = is_shared_by_groups(header[wrong].shape, expected[wrong].shape)
    why = f". {SHARED_BY_GROUPS.rstrip('.')}" if shared else ""
    return f"{wrong} is {_text(header[wrong])}, expected {_text(expected[wrong])}{why}"


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) or "none"


def _text(spec: TensorSpec) -> str:
    return f"{spec.dtype} {list(spec.shape)}"
