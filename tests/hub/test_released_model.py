from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

import qzoo
from qzoo.commands.release.push import push
from qzoo.errors import RecipeError, WeightsError
from qzoo.hub.manifest import MANIFEST, FileFacts
from qzoo.hub.released_model import ReleasedModel, facts_of, fault_of, is_hub_folder, open_folder

NAME = "resnet8_digits_int8"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    push(NAME, "me/model", folder=folder, dry_run=True)
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    return shutil.copytree(good, tmp_path / "model")


def changed(folder: Path, name: str, content: bytes) -> ReleasedModel:
    """The folder with another file, of which the manifest is told: only what the file says can be wrong."""
    (folder / name).write_bytes(content)
    manifest = open_folder(folder).manifest
    files = {**manifest.files, name: facts_of(folder / name)}
    (folder / MANIFEST).write_text(manifest.model_copy(update={"files": files}).to_json())
    return open_folder(folder)


def test_is_a_name_for_its_variant(folder: Path) -> None:
    assert is_hub_folder(str(folder))
    entry = open_folder(folder).entry()
    assert (entry.name, entry.where) == ("resnet8_digits", str(folder))
    x = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        found = qzoo.create(str(folder), pretrained=True)(x)
        assert torch.equal(found, qzoo.create(NAME, pretrained=True)(x))


@pytest.mark.parametrize("name", ["nothing", "", "~nobody_of_that_name", "x" * 5000, "a\0b"])
def test_other_names_are_no_folder(name: str) -> None:
    assert not is_hub_folder(name)


def test_a_file_that_the_manifest_does_not_name_is_not_there(folder: Path) -> None:
    (folder / "receipt.safetensors").write_bytes(b"anything")
    published = open_folder(folder)
    files = {name: facts for name, facts in published.manifest.files.items() if name != "receipt.safetensors"}
    published = dataclasses.replace(published, manifest=published.manifest.model_copy(update={"files": files}))
    assert published.file("receipt.safetensors") is None


def test_what_is_wrong_with_a_file_is_said(folder: Path) -> None:
    path, published = folder / "recipe.yaml", open_folder(folder)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    sizes = f"{len(whole) - 1:,} bytes, expected {len(whole):,}"
    with pytest.raises(
        WeightsError, match=rf"recipe\.yaml of \S+model has {sizes}: it is truncated or another file\. F"
    ):
        published.entry()
    path.write_bytes(b"#" + whole[1:])
    with pytest.raises(WeightsError, match=r"is corrupt: its SHA-256 is not the one in the manifest\. Fetch it again"):
        published.entry()
    path.unlink()
    with pytest.raises(WeightsError, match=r"recipe\.yaml of \S+model is missing\. Fetch it again"):
        published.entry()
    path.mkdir()
    assert fault_of(path, FileFacts(bytes=0, sha256="0" * 64)) == "is missing"


def test_a_recipe_that_is_not_the_manifest_s_is_refused(folder: Path) -> None:
    text = (folder / "recipe.yaml").read_bytes()
    assert b"bits: 8" in text
    published = changed(folder, "recipe.yaml", text.replace(b"bits: 8", b"bits: 7", 1))
    with pytest.raises(WeightsError, match="is not the one that its manifest speaks of"):
        published.entry()


def test_a_mistake_in_a_published_recipe_has_file_line_and_field(folder: Path) -> None:
    text = (folder / "recipe.yaml").read_text()
    assert "bits: 8" in text
    line = text[: text.index("bits: 8")].count("\n") + 1
    published = changed(folder, "recipe.yaml", text.replace("bits: 8", "bitz: 8", 1).encode())
    with pytest.raises(RecipeError, match=rf"model:{line}: schemes\.int8\.rules\.0\.\w+\.bitz: "):
        published.entry()


def test_a_recipe_of_hostile_size_is_refused_unread(folder: Path) -> None:
    published = changed(folder, "recipe.yaml", b"#" * 4_000_001)
    with pytest.raises(WeightsError, match=r"it has no recipe\.yaml of a sensible size"):
        published.entry()
