"""Coming from elsewhere: a stand-in for pytorch-quantization, and state dicts of it and of Model-Optimizer."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__all__ = ["export_state_dict", "import_checkpoint", "load_state_dict", "stand_in"]

_HOMES = {
    "export_state_dict": "qzoo.compat.foreign_keys",
    "import_checkpoint": "qzoo.compat.importing",
    "load_state_dict": "qzoo.compat.fitting",
    "stand_in": "qzoo.compat.alias",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'qzoo.compat' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
