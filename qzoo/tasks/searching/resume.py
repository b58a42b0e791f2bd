"""Scores of a search, kept batch by batch, so that one that was interrupted goes on where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from qzoo.files import write_text
from qzoo.tasks.searching.scoring import Scores


def begun(file: Path | None, key: str) -> tuple[Scores, Callable[[Scores], None]]:
    """Returns what is known of scores, and what keeps them.

    Args:
        file: JSON; None: nothing is kept.
        key: tells what the scores are of; those of anything else are left aside.
    """

    def keep(scores: Scores) -> None:
        if file is not None:
            write_text(file, json.dumps({"key": key, **asdict(scores)}))

    return (_read(file, key) if file is not None and file.is_file() else Scores()), keep


def _read(file: Path, key: str) -> Scores:
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return Scores()  # it was cut off, and is made anew
    if not isinstance(found, dict) or found.pop("key", None) != key:
        return Scores()
    return Scores(**found)


def key_of(*facts: object) -> str:
    """Returns a digest of facts that decide scores."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()
