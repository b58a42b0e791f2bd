"""The environment variables that qzoo reads: one function for each, read at every call. docs/cli.md has this table.

| variable           | meaning                                                              |
|--------------------|----------------------------------------------------------------------|
| `QZOO_DATA`        | a folder with one folder per dataset                                 |
| `QZOO_WEIGHTS_DIR` | base weights and artifacts by file name, for machines without a network |
| `QZOO_HOME`        | qzoo's cache (default: `~/.cache/qzoo`)                              |
| `QZOO_RECIPES`     | extra recipe folders, separated like `PATH`                          |
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

from qzoo.errors import UnknownNameError


def data_root() -> Path | None:
    """Returns the folder that holds one folder per dataset, if `QZOO_DATA` names one."""
    return _folder("QZOO_DATA")


def weights_dir() -> Path | None:
    """Returns the folder of local weights, if `QZOO_WEIGHTS_DIR` names one."""
    return _folder("QZOO_WEIGHTS_DIR")


def home() -> Path:
    """Returns qzoo's cache folder, which may not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _folder("QZOO_HOME") or expanded(cache, "The cache, as XDG_CACHE_HOME or HOME says,") / "qzoo"


def artifacts() -> Path:
    """Returns the folder of what was calibrated and measured on this machine, which may not exist yet."""
    return home() / "artifacts"


def made_without_images() -> Path:
    """Returns the folder of ranges that were made of weights alone: none of it is taken for what images gave."""
    return artifacts() / "data-free"


def runs() -> Path:
    """Returns the folder of trainings, one folder each, which may not exist yet."""
    return home() / "runs"


def recipe_folders() -> list[Path]:
    """Returns the extra recipe folders of `QZOO_RECIPES`, in order."""
    parts = os.environ.get("QZOO_RECIPES", "").split(os.pathsep)
    return [expanded(part, "QZOO_RECIPES") for part in parts if part]


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return expanded(value, variable) if value else None


def expanded(path: str | Path, what: str) -> Path:
    """Returns a path whose `~` or `~user` at the start is the folder of that user.

    Args:
        path: as it was given.
        what: gave it, for the message.

    Raises:
        UnknownNameError: there is no such user, or no folder of this one; or it is no path.
    """
    if "\0" in str(path):
        raise UnknownNameError(f"{what} is {str(path)!r}, which holds a null byte: no path does.")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        whose = f"no user {user[1:]!r}" if len(user) > 1 else "no home folder of yours"
        hint = "Give the path without it" + ("" if len(user) > 1 else ", or set HOME, or QZOO_HOME for the cache")
    raise UnknownNameError(f"{what} is '{path}': there is {whose} on this machine. {hint}.")


def check_endpoint() -> None:
    """Refuses an address of the hub that is none: with it, the hub's client and timm can't even be imported.

    Raises:
        UnknownNameError: `HF_ENDPOINT` is malformed; the message does not show it, as it may hold a password.
    """
    try:
        urlsplit(os.environ.get("HF_ENDPOINT", "")).port  # noqa: B018 - which is parsed now
    except ValueError:
        raise UnknownNameError(
            "HF_ENDPOINT is no address. Give one such as https://huggingface.co, or unset it."
        ) from None


def packaged(relative: str = "") -> Path:
    """Returns a path among the recipes that are shipped: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "recipes"
    return (inside if inside.is_dir() else package.parent / "recipes") / relative
