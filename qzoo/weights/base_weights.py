"""Float weights of bases: found by file name, checked, read, and put into a model."""

from __future__ import annotations

import hashlib
import pickle
import urllib.error
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from qzoo import environment
from qzoo.errors import WeightsError


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
        sha256: of the file, whole or its first digits; another file is refused.
        packaged: its path among the shipped recipes.

    Raises:
        WeightsError: the file is nowhere, can't be downloaded, has another SHA-256, or is damaged.
    """
    path = find_file(file_name, packaged) or _download(file_name, url)
    check_sha256(path, sha256)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except (SafetensorError, RuntimeError, EOFError, pickle.UnpicklingError, KeyError) as error:
        reason = str(error).split("\n", 1)[0]
        raise WeightsError(f"{path} is damaged or no weights file ({reason}). Delete it and fetch it again.") from error
    return content.get("state_dict", content)  # type: ignore[no-any-return]


def find_file(file_name: str, packaged: str | None = None) -> Path | None:
    """Returns a weights file that is on this machine, or None."""
    candidates = [environment.packaged(packaged)] if packaged else []
    local = environment.weights_dir()
    candidates += [local / file_name] if local else []
    candidates.append(Path(torch.hub.get_dir()) / "checkpoints" / file_name)
    return next((path for path in candidates if path.is_file()), None)


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
            f"{path} has SHA-256 {actual[:16]}..., expected {expected[:16]}...: it is truncated, corrupt or another file. "
            "Delete it and fetch it again."
        )


def load_into(model: nn.Module, state: dict[str, Tensor], file_name: str, new_head: bool = False) -> None:
    """Puts a state dict into a model, in place.

    Args:
        model: its keys have to be those of the state dict.
        state: what `read_weights` returned.
        file_name: for messages.
        new_head: the model may have another number of classes; then weights of another shape are left out, with a warning.

    Raises:
        WeightsError: keys are missing or unknown, or a shape differs; names them.
    """
    own = model.state_dict()
    misfits = [key for key in own if key in state and own[key].shape != state[key].shape]
    if new_head and misfits:
        import warnings

        warnings.warn(f"{', '.join(misfits)} keep their random values: num_classes differs from the weights'.",
                      NewHeadWarning, stacklevel=4)  # fmt: skip
        state = {key: value for key, value in state.items() if key not in misfits}
        misfits = []
    # Old checkpoints lack batch norm's counter, which no number depends on.
    missing = [key for key in own if key not in state and not key.endswith("num_batches_tracked") and not new_head]
    unknown = [key for key in state if key not in own]
    if missing or unknown or misfits:
        raise WeightsError(
            f"{file_name} does not fit {type(model).__name__}: {len(missing)} keys missing ({_first(missing)}), "
            f"{len(unknown)} unknown ({_first(unknown)}), {len(misfits)} of another shape ({_first(misfits)})."
        )
    model.load_state_dict(state, strict=False)


def _download(file_name: str, url: str | None) -> Path:
    if url is None:
        raise WeightsError(
            f"No weights {file_name} on this machine. Put the file into a folder and set QZOO_WEIGHTS_DIR to it."
        )
    target = Path(torch.hub.get_dir()) / "checkpoints" / file_name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        torch.hub.download_url_to_file(url, str(target), progress=True)
    except (urllib.error.URLError, OSError) as error:
        raise WeightsError(
            f"Can't download {file_name} from {url} ({error}). Without a network, put the file into a folder and set "
            "QZOO_WEIGHTS_DIR to it."
        ) from error
    return target


def _first(keys: list[str]) -> str:
    return ", ".join(keys[:3]) or "none"
