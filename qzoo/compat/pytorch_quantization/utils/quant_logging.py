"""Undoing what other packages do to the format of log messages."""

from __future__ import annotations

import logging


def reset_logger_handler() -> None:
    """Takes all handlers off the root logger."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
