from __future__ import annotations

from pathlib import Path

import pytest
import torch

from qzoo.errors import WeightsError
from qzoo.models.bases import create_base, weights_facts
from qzoo.models.provenance import provenance
from qzoo.schema.recipe import Base


def test_published_weights_are_loaded(weights_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(weights_dir))
    base = Base(source="qzoo", architecture="resnet20_cifar10", weights="akamaster")
    model = create_base(base, pretrained=True)
    file = torch.load(weights_dir / "resnet20-12fca82f.th", "cpu", weights_only=True)["state_dict"]
    assert all(
        torch.equal(value, file[f"module.{key}"])
        for key, value in model.state_dict().items()
        if f"module.{key}" in file
    )
    assert not model.training
    assert provenance(model).base == base


def test_another_file_than_the_recipe_says() -> None:
    base = Base(source="qzoo", architecture="resnet8_digits", sha256="0123456789abcdef")
    with pytest.raises(WeightsError, match=r"resnet8_digits\.safetensors has SHA-256 .* expected 0123456789abcdef"):
        create_base(base, pretrained=True)


def test_facts_tell_whether_weights_are_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = weights_facts(Base(source="qzoo", architecture="resnet8_digits", weights="v1"))
    assert shipped.path is not None
    assert shipped.path.name == shipped.files[0] == "resnet8_digits.safetensors"
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    base = Base(source="qzoo", architecture="resnet20_cifar10", weights="akamaster")
    assert weights_facts(base).path is None
    monkeypatch.setenv("QZOO_WEIGHTS_DIR", str(tmp_path))
    (tmp_path / "resnet20-12fca82f.th").touch()
    assert weights_facts(base).path == tmp_path / "resnet20-12fca82f.th"
