"""The environment variables that qzoo reads: one function for each, read at every call.

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


def data_root() -> Path | None:
    """Returns the folder that holds one folder per dataset, if `QZOO_DATA` names one."""
    return _folder("QZOO_DATA")


def weights_dir() -> Path | None:
    """Returns the folder of local weights, if `QZOO_WEIGHTS_DIR` names one."""
    return _folder("QZOO_WEIGHTS_DIR")


def home() -> Path:
    """Returns qzoo's cache folder, which may not exist yet."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _folder("QZOO_HOME") or Path(cache).expanduser() / "qzoo"


def artifacts() -> Path:
    """Returns the folder of what was calibrated and measured on this machine, which may not exist yet."""
    return home() / "artifacts"


def runs() -> Path:
    """Returns the folder of trainings, one folder each, which may not exist yet."""
    return home() / "runs"


def recipe_folders() -> list[Path]:
    """Returns the extra recipe folders of `QZOO_RECIPES`, in order."""
    return [Path(part).expanduser() for part in os.environ.get("QZOO_RECIPES", "").split(os.pathsep) if part]


def _folder(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value).expanduser() if value else None


def packaged(relative: str = "") -> Path:
    """Returns a path among the recipes that are shipped: inside the wheel, or beside the package in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "recipes"
    return (inside if inside.is_dir() else package.parent / "recipes") / relative
