"""Reading a checkpoint file of a script: the state dict in it, whatever it is wrapped in."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from qzoo.errors import WeightsError, shown
from qzoo.weights.base_weights import check_sha256, read_content

PLACES = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights")
"""Under which keys scripts put the state dict of a model, beside those of optimizers."""
REMEDY = "In the script that made the model: torch.save(model.state_dict(), 'checkpoint.pth')."


DEEPEST = 8
"""Dicts within dicts that are looked into; scripts wrap a state dict once or twice."""
MOST_KEYS_SHOWN = 10


def read_state_dict(path: Path, sha256: str | None = None) -> dict[str, Any]:
    """Returns the state dict in a `.pth`, `.pt` or `.safetensors` file, on the CPU.

    Nothing but tensors and plain values is unpickled: a file can run no code.

    Args:
        path: the path of the file.
        sha256: the SHA-256 of the file, whole or its first digits; another file is refused.

    Raises:
        WeightsError: the file is missing, damaged, has another SHA-256, holds more than tensors, or no state dict.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder. Give the file that `torch.save(model.state_dict(), ...)` wrote.")
    if not path.is_file():
        raise WeightsError(f"No checkpoint at {path}. Give the file that `torch.save(model.state_dict(), ...)` wrote.")
    check_sha256(path, sha256)
    _check_sums(path)
    content = read_content(path, REMEDY)
    state = _state_in(content)
    if state is None:
        keys = list(map(str, content))[:MOST_KEYS_SHOWN] if isinstance(content, Mapping) else []
        held = f" with {', '.join(keys)}" if keys else ""
        raise WeightsError(f"{path} holds no state dict, but a {type(content).__name__}{shown(held)}. {REMEDY}")
    return state


def has_checksum(path: Path) -> bool:
    """Whether a file's format notices damage to its tensors: torch's zip format does.

    Its older one and safetensors don't.

    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb") as file:  # what torch itself goes by
        return path.suffix != ".safetensors" and file.read(4) == b"PK\x03\x04"


def _check_sums(path: Path) -> None:
    # torch reads over a damaged tensor; the file knows better.
    if not has_checksum(path) or not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as file:
            entries = file.infolist()
            plain = all(one.compress_type == zipfile.ZIP_STORED for one in entries)
            # Not opened if it is packed: some bytes may stand for any number of zeros.
            plain = plain and sum(one.file_size for one in entries) <= path.stat().st_size
            damaged = file.testzip() if plain else None
    except (zipfile.BadZipFile, NotImplementedError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise WeightsError(f"{path} is damaged ({shown(error)}). Copy it again.") from error
    if not plain:
        raise WeightsError(f"{path} is no file of torch.save: what it holds is compressed. {REMEDY}")
    if damaged:
        raise WeightsError(
            f"{path} is damaged: the checksum of {shown(damaged)} does not fit its content. Copy it again."
        )


def _state_in(content: Any) -> dict[str, Any] | None:
    """Returns the state dict, from the innermost of the usual places; a dict may hold itself, or another many times."""
    seen: set[int] = set()

    def search(content: Any, depth: int) -> dict[str, Any] | None:
        if not isinstance(content, Mapping) or id(content) in seen or depth > DEEPEST:
            return None
        seen.add(id(content))
        # First inside: a training script puts other tensors, such as `best_acc1`, beside the state dict.
        found = (search(content.get(place), depth + 1) for place in PLACES)
        inside = next((state for state in found if state is not None), None)
        if inside is not None or not any(isinstance(value, Tensor) for value in content.values()):
            return inside
        return {str(key): value for key, value in content.items()}

    return search(content, 0)
