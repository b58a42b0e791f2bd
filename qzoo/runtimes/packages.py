"""Packages that exporting and running need, and that not everybody installs."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from qzoo.errors import UnsupportedError


def require(package: str) -> Any:
    """Returns a package.

    Raises:
        UnsupportedError: it is not installed; with the command that installs it.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise UnsupportedError(
            f"This needs {package}, which can't be imported here ({error}). Install it: pip install 'qzoo[export]'."
        ) from error
