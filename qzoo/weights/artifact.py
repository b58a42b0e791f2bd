"""The one file format of qzoo's artifacts: safetensors that say what they are, and notice if they are damaged.

The header's metadata holds three texts: `format`, such as `qzoo-ranges/1`; `info`, JSON that says what the tensors
are and for which model; and `digest`, the SHA-256 of info and of every tensor, because safetensors itself does not
notice a flipped bit. Nothing is allocated before format, names, shapes and dtypes are known to be right. Digests of
content are those of float weights too: the same weights come in files of different SHA-256.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qzoo.errors import WeightsError, shown
from qzoo.files import replacing
from qzoo.schema.calibration import Source
from qzoo.schema.model import ModelName, StrictModel
from qzoo.weights.kinds import Kind
from qzoo.weights.values import bool_fault


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 over names, dtypes, shapes and bytes of the tensors, whatever their order.

    Example:
        >>> content_digest({"a": torch.zeros(2)}) == content_digest({"a": torch.zeros(2)})
        True
    """
    return combined_digest(entry_digests(tensors))


def entry_digests(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Returns the SHA-256 over dtype, shape and bytes of each tensor."""
    return {name: _entry_digest(tensor) for name, tensor in tensors.items()}


def combined_digest(entries: Mapping[str, str]) -> str:
    """Returns one SHA-256 over names and digests of tensors."""
    text = "".join(f"{name}|{entries[name]}\n" for name in sorted(entries))
    return hashlib.sha256(text.encode()).hexdigest()


def _entry_digest(tensor: Tensor) -> str:
    tensor = tensor.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{tensor.dtype}|{tuple(tensor.shape)}|".encode())
    digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


Digest = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
"""A SHA-256, or nothing where it is not known."""


class ArtifactInfo(StrictModel):
    """What every artifact says of itself."""

    name: ModelName
    """Full name of the variant, `resnet20_cifar10_int8`; empty for a model that no recipe describes."""
    version: int = Field(ge=0, lt=2**63)
    """The version of the recipe."""
    recipe_sha256: Digest
    """The digest of the resolved variant."""
    base_sha256: Digest
    """Content digest of the base's float state dict."""
    calibration_source: Source = "images"
    """What the ranges of activations were made from: images of a dataset or of the user's own, or none at all."""
    qzoo: str = Field(max_length=50)
    """The version of qzoo that wrote the file."""
    torch: str = Field(max_length=50)
    """The version of torch that it was written with."""


Info = TypeVar("Info", bound=ArtifactInfo)


class TensorSpec(NamedTuple):
    """What a header says of a tensor; the dtype as safetensors writes it: `F32`, `I8`, `F8_E4M3` ..."""

    dtype: str
    shape: tuple[int, ...]


Header = dict[str, TensorSpec]


def versions() -> dict[str, Any]:
    """Returns the versions that an artifact names."""
    return {name: version(name) for name in ("qzoo", "torch")}


def write_artifact(path: Path, kind: Kind, tensors: Mapping[str, Tensor], info: ArtifactInfo) -> None:
    """Writes an artifact; a file of that name is replaced in one step."""
    metadata = {"format": kind.format, "info": json.dumps(info.model_dump(mode="json"), sort_keys=True)}
    metadata["digest"] = _digest(tensors, metadata["info"])
    content = {key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()}
    try:
        with replacing(path) as unfinished:
            save_file(content, unfinished, metadata)
            _sort_metadata(unfinished)
            unfinished.chmod(_usual_mode())
    except SafetensorError as error:
        raise OSError(f"{path} can't be written ({error})") from error


def read_artifact(
    path: Path, kind: Kind, info_type: type[Info], check: Callable[[Header, Info], str | None] = lambda *_: None
) -> tuple[dict[str, Tensor], Info]:
    """Returns the tensors of an artifact, and what it says of itself.

    Args:
        path: the path of the file.
        kind: what it has to be.
        info_type: what its info has to be.
        check: gets names, shapes and dtypes, and the info, before anything is allocated; returns what is wrong.

    Raises:
        WeightsError: the file is missing, too large, truncated, corrupt, or of another kind.
    """
    with _opened(path, kind) as file:
        metadata = _metadata(path, kind, file)
        info = _parse(path, kind, info_type, metadata["info"])
        if fault := check(_header(file), info):
            raise WeightsError(f"{path} does not fit: {shown(fault)}. {kind.remedy}")
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    if metadata.keys() != {"format", "info", "digest"} or metadata["digest"] != _digest(tensors, metadata["info"]):
        raise WeightsError(f"{path} is corrupt: its digest does not fit its content. {kind.remedy}")
    if odd := next((key for key, tensor in tensors.items() if bool_fault(tensor)), None):
        raise WeightsError(f"{path}: {shown(odd)} holds bytes that are no truth values. {kind.remedy}")
    return tensors, info


def check_header(path: Path, kind: Kind, info_type: type[Info], check: Callable[[Header, Info], str | None]) -> None:
    """Refuses an artifact whose header is not as it has to be, without reading its tensors; see `read_artifact`."""
    with _opened(path, kind) as file:
        info = _parse(path, kind, info_type, _metadata(path, kind, file)["info"])
        if fault := check(_header(file), info):
            raise WeightsError(f"{path} does not fit: {shown(fault)}. {kind.remedy}")


def is_kind(path: Path, kind: Kind) -> bool:
    """Whether a file says that it is of a kind; False where it can't be read, which reading it will tell."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == kind.format
    except (SafetensorError, OSError, ValueError):
        return False


class _Open(contextlib.AbstractContextManager[Any]):
    """`safe_open` with qzoo's errors, also for what fails while tensors are read."""

    def __init__(self, path: Path, kind: Kind) -> None:
        self.path, self.kind = path, kind
        self.stack = contextlib.ExitStack()

    def __enter__(self) -> Any:
        try:
            return self.stack.enter_context(safe_open(self.path, framework="pt"))
        except (SafetensorError, OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.stack.close()
        if isinstance(error, SafetensorError | OSError | OverflowError | RuntimeError) or (
            isinstance(error, ValueError) and not isinstance(error, WeightsError)
        ):
            raise self._unreadable(error) from error

    def _unreadable(self, error: BaseException) -> WeightsError:
        return WeightsError(f"{self.path} can't be read as safetensors ({shown(error)}). {self.kind.remedy}")


def _opened(path: Path, kind: Kind) -> _Open:
    if not path.is_file():
        raise WeightsError(f"No {kind.name} file at {path}. {kind.remedy}")
    size = path.stat().st_size
    if size > kind.largest:
        most = f"a {kind.name} file has at most {kind.largest / 1e6:,.0f} MB"
        raise WeightsError(f"{path} has {size / 1e6:,.0f} MB; {most}. {kind.remedy}")
    return _Open(path, kind)


def _metadata(path: Path, kind: Kind, file: Any) -> dict[str, str]:
    metadata: dict[str, str] = file.metadata() or {}
    if metadata.get("format") != kind.format:
        raise WeightsError(
            f"{path} is no {kind.name} file: its format is {shown(repr(metadata.get('format')))}, expected "
            f"{kind.format!r}. {kind.remedy}"
        )
    return {"info": "", "digest": "", **metadata}


def _header(file: Any) -> Header:
    slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
    return {key: TensorSpec(part.get_dtype(), tuple(part.get_shape())) for key, part in slices.items()}


def _parse(path: Path, kind: Kind, info_type: type[Info], text: str) -> Info:
    try:
        # Through JSON, in which a tuple is a list.
        return info_type.model_validate_json(text)
    except ValidationError as error:
        content = _mapping(text)
        fields = ", ".join(sorted({str(part["loc"][0]) for part in error.errors() if part["loc"]})) or "all"
        raise WeightsError(
            f"{path} says of itself what this version of qzoo does not understand (fields: {shown(fields)}); it was "
            f"written by qzoo {shown(content.get('qzoo', 'unknown'))}. Use that version. {kind.remedy}"
        ) from error


def _mapping(text: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(text)
        return content if isinstance(content, dict) else {}
    return {}


def _sort_metadata(path: Path) -> None:
    """Puts the metadata into a fixed order, in place: safetensors shuffles them, and equal files should be equal."""
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) <= size:
            file.seek(8)
            file.write(text.ljust(size))


def _usual_mode() -> int:
    """Returns the permissions of new files; safetensors' are for their owner alone."""
    umask = os.umask(0o077)
    os.umask(umask)
    return 0o666 & ~umask


def _digest(tensors: Mapping[str, Tensor], info: str) -> str:
    return hashlib.sha256((content_digest(tensors) + info).encode()).hexdigest()
