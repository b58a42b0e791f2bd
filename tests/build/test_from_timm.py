from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from qzoo.build.bases import base_digest, create_base
from qzoo.errors import WeightsError
from qzoo.schema.recipe import Base
from qzoo.weights.base_weights import NewHeadWarning
from qzoo.weights.content import content_digest

TIMM = ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_vit", "test_nfnet"]


@pytest.mark.parametrize("name", TIMM)
def test_weights_are_loaded(name: str, timm_weights: Callable[[str], dict[str, Tensor]]) -> None:
    state = timm_weights(name)
    model = create_base(Base(source="timm", architecture=name), pretrained=True)
    assert content_digest(model.state_dict()) == content_digest(state)
    assert "state_dict" not in model.pretrained_cfg


@pytest.mark.parametrize("name", TIMM)
@pytest.mark.parametrize("classes", [7, 0])
def test_another_number_of_classes_is_the_same_base(
    name: str, classes: int, timm_weights: Callable[[str], dict[str, Tensor]]
) -> None:
    timm_weights(name)
    base = Base(source="timm", architecture=name)
    with pytest.warns(NewHeadWarning, match=rf"of {name} are left out: num_classes differs"):
        model = create_base(base, pretrained=True, num_classes=classes)
    assert model.num_classes == classes
    assert base_digest(model) == base_digest(create_base(base, pretrained=True))


@pytest.mark.parametrize("pretrained", [True, False])
def test_keywords_pass_through(
    pretrained: bool, timm_weights: Callable[[str], Any], caplog: pytest.LogCaptureFixture
) -> None:
    timm_weights("test_resnet")
    base, x = Base(source="timm", architecture="test_resnet"), torch.rand(1, 3, 64, 64)
    features = create_base(base, pretrained, features_only=True, out_indices=(1, 3))(x)
    assert [tuple(f.shape[2:]) for f in features] == [(16, 16), (4, 4)]
    assert create_base(base, pretrained, in_chans=1)(x[:, :1]).shape == (1, 1000)
    model = create_base(base, pretrained, drop_path_rate=0.5)
    rates = [m.drop_prob for m in model.modules() if hasattr(m, "drop_prob")]
    assert max(rates) == 0.5
    assert not [record for record in caplog.records if record.levelno > logging.WARNING]


@pytest.mark.parametrize(("change", "message"), [
    ({"fc.bias": torch.full((1000,), torch.nan)}, r"holds NaN or Inf in fc\.bias"),
    ({"fc.bias": torch.zeros(3)}, r"Can't load the weights of test_resnet .*size mismatch for fc\.bias"),
])  # fmt: skip
def test_bad_weights(
    change: dict[str, Tensor], message: str, timm_weights: Callable[[str], Any], tmp_path: Path
) -> None:

    state = timm_weights("test_resnet")
    save_file(state | change, next(tmp_path.glob("*.safetensors")))
    with pytest.raises(WeightsError, match=rf"(?s){message}"):
        create_base(Base(source="timm", architecture="test_resnet"), pretrained=True)


def test_another_file_than_the_recipe_says(timm_weights: Callable[[str], Any]) -> None:
    timm_weights("test_resnet")
    base = Base(source="timm", architecture="test_resnet", sha256="0123456789abcdef")
    with pytest.raises(WeightsError, match=r"has SHA-256 .* expected 0123456789abcdef"):
        create_base(base, pretrained=True)


def test_a_download_is_held_against_the_recipes_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    path = tmp_path / "model.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), path)
    monkeypatch.setattr("qzoo.build.from_timm.hf_hub_download", lambda repository, file: str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert create_base(Base(source="timm", architecture="test_resnet", sha256=sha256), pretrained=True)
    with pytest.raises(WeightsError, match=r"has SHA-256"):
        create_base(Base(source="timm", architecture="test_resnet", sha256="0" * 64), pretrained=True)
