"""Float weights of bases: found by file name, checked, read, and put into a model."""

from __future__ import annotations

import hashlib
import http.client
import re
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from qzoo import environment
from qzoo.errors import WeightsError, shown
from qzoo.files import replacing
from qzoo.redaction import redacted_logs
from qzoo.weights.values import plain_fault, value_fault

WRAPPERS = ("state_dict", "model")
"""Under which keys training scripts put the state dict."""


class NewHeadWarning(UserWarning):
    """Weights of the classifier were left out, because the model was made with another number of classes."""


def read_weights(
    file_name: str, *, url: str | None = None, sha256: str | None = None, packaged: str | None = None
) -> dict[str, Tensor]:
    """Returns the state dict of a weights file.

    Looks among the shipped files, then in `QZOO_WEIGHTS_DIR`, then in torch's hub cache, and downloads into that cache.

    Args:
        file_name: the file's public name.
        url: where to download it.
        sha256: the SHA-256 of the file, whole or its first digits; another file is refused.
        packaged: its path among the shipped recipes.

    Raises:
        WeightsError: the file is nowhere, can't be downloaded, has another SHA-256, is damaged, or holds NaN or Inf.
    """
    return read_file(find_file(file_name, packaged) or _download(file_name, url, sha256), sha256)


def read_file(path: Path, sha256: str | None = None) -> dict[str, Tensor]:
    """Returns the state dict of a file that is on this machine.

    Raises:
        WeightsError: the file has another SHA-256, is damaged, or holds NaN or Inf.
    """
    check_sha256(path, sha256)
    state = _read(path)
    broken = [key for key, value in state.items() if not value.isfinite().all()]
    if broken:
        raise WeightsError(f"{path} holds NaN or Inf in {_first(broken)}: it is damaged. Delete it and fetch it again.")
    if fault := next((fault for key, value in state.items() if (fault := value_fault(key, value))), None):
        raise WeightsError(f"{path} {shown(fault)}: it is damaged. Delete it and fetch it again.")
    return state


def read_content(path: Path, remedy: str = "Delete it and fetch it again.") -> Any:
    """Returns what is in a safetensors file, or in one that torch wrote; no code in it is run.

    Args:
        path: the path of the file.
        remedy: ends the message about a file that can't be read.

    Raises:
        WeightsError: the file is damaged, no weights file, or holds more than tensors and plain values.
    """
    try:
        return load_file(path) if path.suffix == ".safetensors" else _load_pickled(path)
    except Exception as error:  # a truncated pickle can make the reader stumble over anything
        raise WeightsError(f"{path} is damaged or no weights file ({_reason(error)}). {remedy}") from error


def _read(path: Path) -> dict[str, Tensor]:
    content = read_content(path)
    state = next((content[key] for key in WRAPPERS if key in content), content) if isinstance(content, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path} holds no state dict: expected tensors by name, or such a dict under 'state_dict' or 'model'. "
            "Save it with torch.save(model.state_dict(), FILE)."
        )
    if odd := next(((key, fault) for key, value in state.items() if (fault := plain_fault(value))), None):
        raise WeightsError(f"{path}: {shown(odd[0])} {odd[1]}. Delete it and fetch it again.")
    return state


def _reason(error: Exception) -> str:
    # torch's own text advises a less careful way of loading, which would run what the file holds.
    blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if blocked:
        return f"it asks for {blocked[1]}, and code from a weights file is never run"
    reason = str(error).split("\n", 1)[0]
    unreadable = not reason or reason.isdigit() or "weights_only" in reason
    return "torch can't read it" if unreadable else reason


def _load_pickled(path: Path) -> Any:
    # weights_only: a file from elsewhere must not be able to run code.
    return torch.load(path, "cpu", weights_only=True)


def find_file(file_name: str, packaged: str | None = None) -> Path | None:
    """Returns a weights file that is on this machine, or None."""
    candidates = [environment.packaged(packaged) if packaged else None, local_file(file_name), _hub_cache() / file_name]
    return next((path for path in candidates if path and path.is_file()), None)


def local_file(file_name: str) -> Path | None:
    """Returns a file of `QZOO_WEIGHTS_DIR`, or None."""
    folder = environment.weights_dir()
    return folder / file_name if folder and (folder / file_name).is_file() else None


def check_sha256(path: Path, expected: str | None) -> None:
    """Refuses a file whose SHA-256 does not begin with the expected digits.

    Raises:
        WeightsError: names both digests.
    """
    if expected is None:
        return
    with path.open("rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if not actual.startswith(expected):
        raise WeightsError(
            f"{path} has SHA-256 {actual[:16]}..., expected {expected[:16]}...: it is truncated, corrupt or another "
            "file. Delete it and fetch it again."
        )


def load_into(
    model: nn.Module, state: dict[str, Tensor], file_name: str, num_classes: int | None = None
) -> dict[str, Tensor]:
    """Puts a state dict into a model, in place, and returns the tensors that were left out.

    Args:
        model: its keys have to be those of the state dict.
        state: what `read_weights` returned.
        file_name: for messages.
        num_classes: the model was made with so many classes, 0 for none; if the weights have another number, the
            classifier's are left out, with a warning.

    Raises:
        WeightsError: keys are missing or unknown, or a shape differs; names them.
    """
    own = model.state_dict()
    left_out = {} if num_classes is None else _old_head(model, state, num_classes)
    if left_out:
        warnings.warn(
            f"{', '.join(left_out)} of {file_name} are left out: num_classes differs, so the classifier is random.",
            NewHeadWarning,
            stacklevel=4,
        )
    kept = OrderedDict((key, value) for key, value in state.items() if key not in left_out)
    # Old checkpoints lack batch norm's counter, which no number depends on.
    missing = [key for key in own if key not in [*kept, *left_out] and not key.endswith("num_batches_tracked")]
    unknown = [key for key in kept if key not in own]
    misfits = [key for key in own if key in kept and own[key].shape != kept[key].shape]
    if missing or unknown or misfits:
        raise WeightsError(
            f"{file_name} does not fit {type(model).__name__}: {len(missing)} keys missing ({_first(missing)}), "
            f"{len(unknown)} unknown ({_first(unknown)}), {len(misfits)} of another shape ({_first(misfits)}). "
            "Look at the recipe's base: architecture and weights belong together."
        )
    # The versions of modules travel as an attribute of the dict; MNASNet refuses weights that have none.
    kept._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    model.load_state_dict(kept, strict=False)
    return left_out


def _old_head(model: nn.Module, state: dict[str, Tensor], num_classes: int) -> dict[str, Tensor]:
    own, modules = model.state_dict(), dict(model.named_modules())

    def of_head(key: str, value: Tensor) -> bool:
        if key not in own:
            return isinstance(modules.get(key.rpartition(".")[0]), nn.Identity)
        # Another number of classes changes the first dimension alone; all else is another model.
        ours = own[key].shape
        return value.shape != ours and (num_classes, *value.shape[1:]) == tuple(ours)

    # In the model's dtype, as if they had been loaded: a digest must not depend on the file's.
    dtype = next((value.dtype for value in own.values() if value.is_floating_point()), torch.float32)
    return {
        key: value.to(dtype) if value.is_floating_point() else value
        for key, value in state.items()
        if of_head(key, value)
    }


def _download(file_name: str, url: str | None, sha256: str | None) -> Path:
    if url is None:
        raise WeightsError(f"No weights {file_name} on this machine. {_where_to_put(file_name)}")
    target = _hub_cache() / file_name
    try:
        # Checked under another name first, so that the cache never holds a half, nor what is no weights file.
        with redacted_logs(), replacing(target) as unchecked:
            torch.hub.download_url_to_file(url, str(unchecked), progress=True)
            check_sha256(unchecked, sha256)
            _read(unchecked)
        return target
    except WeightsError as error:
        problem = f"What {url} sends is not the file it should be: {error} {_where_to_put(file_name)}"
    except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
        problem = (
            f"Can't download {file_name} from {url} ({error}). It is not in {_hub_cache()} either, which is looked "
            f"into first. Without a network: {_where_to_put(file_name)}"
        )
    # Not from the client's error, in which the password of a proxy may stand.
    raise WeightsError(problem)


def _hub_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _where_to_put(file_name: str) -> str:
    local = environment.weights_dir()
    if local is None:
        return f"Put {file_name} into a folder and set QZOO_WEIGHTS_DIR to it."
    return f"QZOO_WEIGHTS_DIR is {local}, and has no {file_name}: put it there."


def _first(keys: list[str]) -> str:
    return shown(", ".join(keys[:3])) or "none"
