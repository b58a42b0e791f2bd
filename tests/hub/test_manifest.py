from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from qzoo.errors import WeightsError
from qzoo.hub.manifest import FileFacts, Manifest, read_manifest
from tests.each import for_each

GOOD = Manifest(
    name="x_int8", base="x", variant="int8", version=1, recipe_sha256="a" * 64, base_sha256="b" * 64, qzoo="0.1.0",
    torch="2.15.0", files={"recipe.yaml": FileFacts(bytes=10, sha256="c" * 64)},
)  # fmt: skip


def written(path: Path, **changes: Any) -> Path:
    """A manifest whose digest is right where the content is valid."""
    path.write_text(json.dumps(json.loads(GOOD.to_json()) | changes))
    return path


def test_comes_back_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(GOOD.to_json())
    assert read_manifest(tmp_path / "manifest.json", "me/x") == GOOD


FACTS = {"bytes": 1, "sha256": "c" * 64}


@for_each(
    "changes",
    [
        {"files": {"../../etc/passwd": FACTS}},
        {"files": {"model.pt": FACTS}},
        {"files": {"recipe.yaml": FACTS | {"bytes": -1}}},
        {"files": {"model.safetensors": FACTS | {"bytes": 10**15}}},
        {"files": {}},
        {"version": 2},
        {"name": "y_int8"},
        {"format": "qzoo-published/2"},
        {"code": "import os"},
        {"digest": "0" * 64},
        {"digest": None},
    ],
)
def test_what_is_no_sound_manifest_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"The manifest\.json of me/x is damaged.*Fetch it again"):
        read_manifest(written(tmp_path / "manifest.json", **changes), "me/x")


@pytest.mark.parametrize("text", ["[]", "null", "{", "[" * 100_000, "\x00"])
def test_what_is_no_json_object_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=r"The manifest\.json of me/x is damaged"):
        read_manifest(tmp_path / "manifest.json", "me/x")


def test_a_missing_or_huge_one_is_no_model(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    with pytest.raises(WeightsError, match=r"me/x holds no qzoo model: its manifest\.json is missing, empty"):
        read_manifest(path, "me/x")
    with path.open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(WeightsError, match="too large"):
        read_manifest(path, "me/x")
