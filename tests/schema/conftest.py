"""A recipe file of a few lines, to write faults into."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

HEAD = "base: {source: timm, architecture: resnet18}\ndataset: imagenet-1k\n"

WriteRecipe = Callable[[str], Path]


@pytest.fixture
def write_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WriteRecipe:
    """Writes `my.yaml` into the current folder: two lines of base and dataset, then the text."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> Path:
        path = Path("my.yaml")
        path.write_text(HEAD + text, encoding="utf-8")
        return path

    return write
