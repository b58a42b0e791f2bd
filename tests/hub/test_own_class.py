"""A hub model of somebody's own class: it loads where the class is registered, and brings no code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import qzoo
from qzoo.environment import packaged
from qzoo.errors import QzooError, UnknownNameError, WeightsError
from qzoo.models import own_models
from qzoo.models.architectures.resnet_digits import DigitsResNet
from tests.each import for_each
from tests.hub.conftest import logits

RECIPE = """\
base: {source: python, architecture: my_net, weights: resnet8_digits.safetensors}
dataset: digits
calibration: {images: 64}
variants: {int8: {}}
"""


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    monkeypatch.setattr(own_models, "_registered", {})
    weights = packaged("digits/resnet8_digits.safetensors")
    transform = qzoo.transform("resnet8_digits")
    return lambda: qzoo.register_model("my_net", DigitsResNet, transform=transform, weights=weights)


@pytest.fixture
def folder(tmp_path: Path, register: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """What was pushed by somebody who has the class."""
    register()
    (tmp_path / "mine.yaml").write_text(RECIPE)
    qzoo.push(f"{tmp_path / 'mine.yaml'}:int8", "me/mine", folder=tmp_path / "pushed", dry_run=True)
    monkeypatch.setattr(own_models, "_registered", {})
    return tmp_path / "pushed"


def test_it_loads_where_the_class_is_registered(folder: Path, register: Callable[[], None]) -> None:
    for call in (lambda: qzoo.create(str(folder), pretrained=True), lambda: qzoo.explain(str(folder))):
        with pytest.raises(UnknownNameError, match=r"pushed:\d+: base\.architecture: .*'my_net', and nobody gave its"):
            call()
    register()
    model = qzoo.create(str(folder), pretrained=True)
    assert isinstance(model, DigitsResNet)
    # Its weights are packed, so on their grid.
    mine = qzoo.create(str(folder.parent / "mine.yaml"), pretrained=True, variant="int8")
    assert torch.allclose(logits(model), logits(mine), atol=1e-3)
    assert qzoo.verify(str(folder)).reproduced


def test_the_card_says_that_the_class_is_not_among_the_files(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "`my_net`, a class of its author's own (weights `resnet8_digits.safetensors`), quantized with qzoo" in card
    assert 'qzoo.register_model("my_net", YOUR_CLASS)\nmodel = qzoo.create("hf-hub:me/mine"' in card
    assert "registers it by the name `my_net`, or says `--model FILE.py:CLASS`." in card
    assert "Its author states none" in card


@for_each("weights", ["/etc/passwd", "../up.pt", "~/x.pt", "a\\\\b.pt"])
def test_a_recipe_that_names_a_path_is_neither_pushed_nor_loaded(weights: str, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(RECIPE.replace("resnet8_digits.safetensors", f'"{weights}"'))
    with pytest.raises(WeightsError, match=r"bad\.yaml names a path as its base's weights, .*looked up in QZOO_WEIGHT"):
        qzoo.push(f"{tmp_path / 'bad.yaml'}:int8", "me/mine", folder=tmp_path / "out", dry_run=True)


def test_another_class_is_refused(folder: Path, register: Callable[[], None]) -> None:
    qzoo.register_model("my_net", lambda: DigitsResNet(num_classes=7))
    with pytest.raises(QzooError, match=r"model\.safetensors does not fit"):
        qzoo.create(str(folder), pretrained=True)
