"""A published folder of some KB that names a model of any size: nothing is made or fetched unless its artifacts fit."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import qzoo
from qzoo.commands.calibrate import calibrate_variants
from qzoo.commands.evaluate import quantized_model
from qzoo.commands.settings import Settings
from qzoo.commands.verify import verify
from qzoo.errors import WeightsError
from qzoo.hub import client as hub
from qzoo.hub.manifest import Manifest
from qzoo.hub.released_model import facts_of, open_folder
from qzoo.models import from_timm
from qzoo.models.base_model import BaseModel
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.resolution.resolve import resolve
from qzoo.weights.artifact import versions
from qzoo.weights.ranges import RangesInfo, save_ranges
from qzoo.zoo import pretrained
from qzoo.zoo.name_lookup import find
from qzoo.zoo.pretrained import UnpinnedWeightsWarning

GIANT = "vit_giant_patch14_224"
"""Of timm: a billion parameters."""


def folder_of(folder: Path, architecture: str, sha256: str = "", **ranges: torch.Tensor) -> Path:
    """Fills a folder with a recipe, ranges and a manifest that are signed as they should be."""
    folder.mkdir(parents=True, exist_ok=True)
    recipe = folder / "recipe.yaml"
    pin = f", sha256: {sha256}" if sha256 else ""
    recipe.write_text(
        f"base: {{source: timm, architecture: {architecture}{pin}}}\n"
        "dataset: imagenet-1k\nvariants: {int8: {scheme: int8}}\n"
    )
    entry = Catalog.load().hub_entry(recipe, architecture, str(folder))
    variant = resolve(entry, "int8")
    facts: dict[str, Any] = {
        "name": variant.name, "version": variant.version, "recipe_sha256": variant.digest, "base_sha256": "0" * 64,
        **versions(),
    }  # fmt: skip
    info = RangesInfo(**facts, calibration_images=1024, calibration_sha256="")
    save_ranges(folder / "ranges.safetensors", ranges or {"conv1.input_quantizer.amax": torch.tensor(1.0)}, info)
    files = {name: facts_of(folder / name) for name in ("recipe.yaml", "ranges.safetensors")}
    manifest = Manifest(base=architecture, variant="int8", files=files, **facts)  # type: ignore[arg-type]
    (folder / "manifest.json").write_text(manifest.to_json())
    return folder


WAYS: dict[str, Callable[[str], Any]] = {
    "create": lambda name: qzoo.create(name, pretrained=True),
    "float": lambda name: qzoo.create(name, pretrained="float"),
    "random": qzoo.create,
    "classes": lambda name: qzoo.create(name, pretrained=True, num_classes=7),
    "evaluate": lambda name: quantized_model(find(name).resolved, Path(name) / "ranges.safetensors"),
    "calibrate": lambda name: calibrate_variants([find(name)], Settings(), output=Path(name) / "x.ranges.safetensors"),
    "export": lambda name: qzoo.export(name, Path(name) / "x.onnx", "onnxruntime"),
}


@pytest.mark.parametrize("way", WAYS)
def test_ranges_of_another_model_are_noticed_before_anything_is_made_or_fetched(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = from_timm.create

    def only_outlines(base: Any, pretrained: bool, keywords: dict[str, Any]) -> BaseModel:
        made = make(base, False, keywords)
        assert not pretrained, "weights were asked for"
        assert all(tensor.is_meta for tensor in made.model.parameters()), "memory was taken"
        return made

    monkeypatch.setattr(from_timm, "create", only_outlines)
    name = str(folder_of(tmp_path / "x", "resnet18"))
    with pytest.raises(WeightsError, match=r"ranges\.safetensors does not fit: \d+ tensors of the model are missing"):
        WAYS[way](name)


def test_verify_notices_it_too(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no receipt for resnet18_int8"):
        verify(str(folder_of(tmp_path / "x", "resnet18")))


PROGRAM = """
import resource, sys, warnings
import timm, qzoo
from qzoo.errors import WeightsError
qzoo.create("timm/resnet18", scheme="int8")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    qzoo.create(sys.argv[1], pretrained=True)
except WeightsError as error:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, error)
"""


@pytest.mark.slow
def test_a_billion_parameters_take_no_memory(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "x", GIANT)
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(folder)], capture_output=True, text=True, check=True)
    kilobytes, _, message = done.stdout.partition(" ")
    assert "ranges.safetensors does not fit" in message
    assert int(kilobytes) < 100_000  # it was 0.77 to 4.73 GB


def test_unpinned_weights_of_a_published_model_are_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained, "check_fit", lambda *_: None)
    monkeypatch.setattr(pretrained, "create_base", lambda *_, **__: pytest.fail("enough"))
    name = str(folder_of(tmp_path / "x", "resnet18"))
    said = rf"The recipe of {re.escape(name)} has no base\.sha256, .* timm/resnet18 .* write the SHA-256 under base"
    with pytest.warns(UnpinnedWeightsWarning, match=said) as told, pytest.raises(pytest.fail.Exception):
        qzoo.create(name, pretrained=True)
    assert len(told) == 1
    # With a SHA-256 there is nothing to say: a warning would be an error here.
    with pytest.raises(pytest.fail.Exception, match="enough"):
        qzoo.create(str(folder_of(tmp_path / "y", "resnet18", sha256="0123abcd")), pretrained=True)


def test_what_is_pinned_elsewhere_is_not_said() -> None:
    for name in ("resnet8_digits_int8", "resnet50_int8", "timm/resnet18"):
        pretrained.warn_of_unpinned(find(name))


def test_a_file_larger_than_its_kind_can_be_is_not_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = open_folder(folder_of(tmp_path / "x", "resnet18"), "hf-hub:me/x")
    facts = made.manifest.files["ranges.safetensors"].model_copy(update={"bytes": 15_000_000_000})
    manifest = made.manifest.model_copy(update={"files": {**made.manifest.files, "ranges.safetensors": facts}})
    monkeypatch.setattr(hub, "_manifest", lambda _: replace(made, manifest=manifest))
    monkeypatch.setattr(hub, "_download", lambda *_, **__: pytest.fail("fetched"))
    said = r"ranges\.safetensors of hf-hub:me/x has 15,000 MB; such a file has at most 64 MB\. It is not fetched"
    with pytest.raises(WeightsError, match=said):
        hub.fetch(hub.parse_address("me/x"), ["ranges.safetensors"])
