"""`ranges.safetensors`: all `amax` of a calibrated model, a file of some KB bound to the weights they were made for.

The header's metadata says what the ranges are; `digest` is the SHA-256 of that metadata and of every tensor, because
safetensors itself does not notice a flipped bit.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from qzoo.errors import WeightsError
from qzoo.weights.content import content_digest

FORMAT = "qzoo-ranges/1"
SUFFIX = ".ranges.safetensors"


@dataclass(frozen=True)
class RangesInfo:
    """What a ranges file says of itself.

    Attributes:
        name: full name of the variant, `resnet20_cifar10_int8`.
        version: of the recipe.
        recipe_sha256: digest of the resolved variant.
        base_sha256: content digest of the base's float state dict.
        calibration_images: how many images were seen.
        calibration_sha256: digest of those images, empty if they came from the user's own iterable.
        qzoo: version that wrote the file.
        torch: version that wrote the file.
    """

    name: str
    version: int
    recipe_sha256: str
    base_sha256: str
    calibration_images: int
    calibration_sha256: str
    qzoo: str
    torch: str


def save_ranges(path: Path, ranges: dict[str, Tensor], info: RangesInfo) -> None:
    """Writes a ranges file; a file of that name is replaced in one step.

    Example:
        >>> save_ranges(Path("int8.safetensors"), get_ranges(model), info)  # doctest: +SKIP
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"format": FORMAT, "info": json.dumps(asdict(info), sort_keys=True)}
    metadata["digest"] = _digest(ranges, metadata["info"])
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file({key: tensor.contiguous() for key, tensor in ranges.items()}, unfinished, metadata)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load_ranges(path: Path) -> tuple[dict[str, Tensor], RangesInfo]:
    """Returns the ranges and what the file says of itself.

    Raises:
        WeightsError: the file is missing, truncated, corrupt, or no ranges file.
    """
    if not path.is_file():
        raise WeightsError(f"No ranges file at {path}. `qzoo calibrate NAME -o FILE` writes one.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            ranges = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(
            f"{path} can't be read as safetensors ({error}). Calibrate again or copy it again."
        ) from error
    if metadata.get("format") != FORMAT:
        raise WeightsError(
            f"{path} is no ranges file: its format is {metadata.get('format')!r}, expected {FORMAT!r}. "
            "Give a file that `qzoo calibrate NAME -o FILE` wrote."
        )
    if metadata.get("digest") != _digest(ranges, metadata.get("info", "")):
        raise WeightsError(f"{path} is corrupt: its digest does not fit its content. Calibrate again or copy it again.")
    return ranges, _parse(path, metadata["info"])


def check_base(path: Path, info: RangesInfo, base_sha256: str) -> None:
    """Refuses ranges made for other float weights.

    Raises:
        WeightsError: the digests differ.
    """
    if info.base_sha256 != base_sha256:
        raise WeightsError(
            f"{path} belongs to another base: it was made for weights with content digest {info.base_sha256[:12]}, "
            f"these have {base_sha256[:12]}. Ranges fit only the weights they were calibrated on: calibrate again, "
            "or load the base weights that the recipe names."
        )


def _parse(path: Path, text: str) -> RangesInfo:
    content = json.loads(text)
    names = {field.name for field in fields(RangesInfo)}
    if set(content) != names:
        raise WeightsError(
            f"{path} was written by another version of qzoo ({content.get('qzoo', 'unknown')}): the fields "
            f"{', '.join(sorted(set(content) ^ names))} differ. Use that version, or calibrate again with this one."
        )
    return RangesInfo(**content)


def _digest(ranges: dict[str, Tensor], info: str) -> str:
    return hashlib.sha256((content_digest(ranges) + info).encode()).hexdigest()
