"""Reading a checkpoint file of a script: the state dict in it, whatever it is wrapped in."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from qzoo.errors import WeightsError, shown
from qzoo.weights.base_weights import read_content

PLACES = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights")
"""Under which keys scripts put the state dict of a model, beside those of optimizers."""
REMEDY = "In the script that made the model: torch.save(model.state_dict(), 'checkpoint.pth')."


def read_state_dict(path: Path) -> dict[str, Any]:
    """Returns the state dict in a `.pth`, `.pt` or `.safetensors` file, on the CPU.

    Nothing but tensors and plain values is unpickled: a file can run no code.

    Raises:
        WeightsError: the file is missing, damaged, holds more than tensors, or holds no state dict.
    """
    if path.is_dir():
        raise WeightsError(f"{path} is a folder. Give the file that `torch.save(model.state_dict(), ...)` wrote.")
    if not path.is_file():
        raise WeightsError(f"No checkpoint at {path}. Give the file that `torch.save(model.state_dict(), ...)` wrote.")
    content = read_content(path, REMEDY)
    _check_sums(path)
    state = _state_in(content)
    if state is None:
        keys = f" with {', '.join(map(str, content))}" if isinstance(content, Mapping) and content else ""
        raise WeightsError(f"{path} holds no state dict, but a {type(content).__name__}{shown(keys)}. {REMEDY}")
    return state


def _check_sums(path: Path) -> None:
    # torch reads over a damaged tensor; the file knows better.
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
        if damaged:
            raise WeightsError(f"{path} is damaged: the checksum of {damaged} does not fit its content. Copy it again.")


def _state_in(content: Any) -> dict[str, Any] | None:
    if not isinstance(content, Mapping):
        return None
    # First inside: a training script puts other tensors, such as `best_acc1`, beside the state dict.
    inside = next((state for place in PLACES if (state := _state_in(content.get(place))) is not None), None)
    if inside is not None or not any(isinstance(value, Tensor) for value in content.values()):
        return inside
    return {str(key): value for key, value in content.items()}
