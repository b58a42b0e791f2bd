"""Reading a checkpoint file of a script: the state dict in it, whatever it is wrapped in."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from qzoo.errors import WeightsError, shown

PLACES = ("state_dict", "model_state_dict", "model", "model_state", "net", "network", "weights")
"""Under which keys scripts put the state dict of a model, beside those of optimizers."""


def read_state_dict(path: Path) -> dict[str, Any]:
    """Returns the state dict in a `.pth`, `.pt` or `.safetensors` file, on the CPU.

    Nothing but tensors and plain values is unpickled: a file can run no code.

    Raises:
        WeightsError: the file is missing, damaged, holds more than tensors, or holds no state dict.
    """
    if not path.is_file():
        raise WeightsError(f"No checkpoint at {path}. Give the file that `torch.save(model.state_dict(), ...)` wrote.")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    state = _state_in(content)
    if state is None:
        what = f"{type(content).__name__} with {shown(', '.join(map(str, content)))}" if _is_map(content) else content
        raise WeightsError(
            f"{path} holds no state dict, but {shown(str(what))}. In the script that made the model: "
            "torch.save(model.state_dict(), 'checkpoint.pth')."
        )
    return state


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        what = f"it holds a {shown(named[1])}, which could run code" if named else "it was not written by torch.save"
        raise WeightsError(
            f"{path} can't be read as a checkpoint of tensors: {what}. In the script that made the model: "
            "torch.save(model.state_dict(), 'checkpoint.pth')."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path} can't be read ({shown(str(error).splitlines()[0])}). Copy it again.") from error


def _read_safetensors(path: Path) -> Any:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} can't be read as safetensors ({shown(str(error))}). Copy it again.") from error


def _state_in(content: Any) -> dict[str, Any] | None:
    if not _is_map(content):
        return None
    if any(isinstance(value, Tensor) for value in content.values()):
        return {str(key): value for key, value in content.items()}
    return next((state for place in PLACES if (state := _state_in(content.get(place))) is not None), None)


def _is_map(content: Any) -> bool:
    return isinstance(content, Mapping)
