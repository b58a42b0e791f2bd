from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from PIL import Image
from torch import Tensor, nn

from qzoo.data import loader, open_split
from qzoo.errors import UnknownNameError, WeightsError
from qzoo.models.bases import base_digest, base_train_transform, base_transform, create_base, meta_model
from qzoo.schema.recipe import Base
from tests.each import for_each

TIMM = ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_vit", "test_nfnet"]


class TestNames:
    @for_each(("name", "message"), [
        ("qzoo:resnet20_cifar", r"qzoo has no architecture 'resnet20_cifar'\. Did you mean 'resnet20_cifar10'\?"),
        ("torchvision:resnet5", r"torchvision has no classifier 'resnet5'\. Did you mean 'resnet\d"),
        ("torchvision:fcn_resnet50", r"torchvision has no classifier 'fcn_resnet50'"),
        ("timm:test_resnit", r"timm has no model 'test_resnit'\. Did you mean 'test_resnet'\?"),
        ("qzoo:resnet20_cifar10:x", r"'resnet20_cifar10' has no weights 'x'\. Known: akamaster"),
        ("torchvision:resnet50:IMAGENET_V2", r"resnet50 has no weights 'IMAGENET_V2'\. Did you mean 'IMAGENET1K_V2'\?"),
        ("timm:resnet18:a1_in1", r"resnet18 has no weights 'a1_in1'\. Did you mean 'a1_in1k'\?"),
        ("timm:resnet18.a1_in1", r"resnet18 has no weights 'a1_in1'\. Did you mean 'a1_in1k'\?"),
    ])  # fmt: skip
    @for_each("pretrained", [True, False])
    def test_unknown_ones_are_answered_with_the_nearest(self, name: str, message: str, pretrained: bool) -> None:
        source, architecture, weights = (*name.split(":"), None)[:3]
        with pytest.raises(UnknownNameError, match=message):
            create_base(Base(source=source, architecture=architecture, weights=weights), pretrained)

    @pytest.mark.parametrize(("source", "name"), [("timm", "botnet50ts_256"), ("qzoo", "resnet110_cifar10")])
    def test_an_architecture_without_weights(self, source: str, name: str) -> None:
        with pytest.raises(UnknownNameError, match=rf"no (float )?weights for '{name}'\. "):
            create_base(Base(source=source, architecture=name), pretrained=True)

    def test_nothing_on_this_machine(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        message = (
            r"Can't load the weights of test_resnet from timm/test_resnet.*put test_resnet\.r160_in1k\.safetensors"
        )
        with pytest.raises(WeightsError, match=message):
            create_base(Base(source="timm", architecture="test_resnet"), pretrained=True)


class TestDigest:
    base = Base(source="qzoo", architecture="resnet8_digits", weights="v1")

    def test_is_a_fixed_number(self) -> None:
        assert (
            base_digest(create_base(self.base, pretrained=True))
            == "d2bf076a88c62eba76760e82ce1aa2e3a03cd47c1b6ff6d88188a9bc41fda550"
        )

    def test_is_the_same_quantized_and_calibrated(self, quantized: Callable[..., nn.Module]) -> None:
        model = create_base(self.base, pretrained=True)
        digest = base_digest(model)
        assert base_digest(quantized(model, amax=1.0)) == digest

    def test_does_not_count_batches(self) -> None:
        model = create_base(self.base, pretrained=True)
        digest = base_digest(model)
        model.bn1.num_batches_tracked += 5
        assert base_digest(model) == digest

    @pytest.mark.parametrize("key", ["conv1.weight", "bn1.running_mean", "layer3.bn2.bias", "linear.bias"])
    def test_changes_with_any_weight(self, key: str) -> None:
        model = create_base(self.base, pretrained=True)
        digest, tensor = base_digest(model), model.state_dict()[key]
        tensor.view(-1)[-1] = torch.nextafter(tensor.view(-1)[-1], torch.tensor(9.0))
        assert base_digest(model) != digest


class TestTransforms:
    @pytest.mark.parametrize(("base", "size"), [
        ({"source": "qzoo", "architecture": "resnet20_cifar10"}, 32),
        ({"source": "torchvision", "architecture": "resnet50", "weights": "IMAGENET1K_V1"}, 224),
        ({"source": "timm", "architecture": "test_resnet"}, 160),
    ])  # fmt: skip
    def test_evaluation_takes_images_and_batches(self, base: dict[str, str], size: int) -> None:
        transform = base_transform(Base.model_validate(base))
        shape = (size, size) if base["source"] == "qzoo" else (300, 260)
        colour = torch.tensor([200, 100, 50], dtype=torch.uint8)
        of_image = transform(Image.new("RGB", shape, tuple(colour.tolist())))
        of_batch = transform(colour.view(1, 3, 1, 1).expand(2, 3, *shape))
        assert (of_image.shape, of_batch.shape) == ((3, size, size), (2, 3, size, size))
        torch.testing.assert_close(of_batch[0], of_image, atol=1e-3, rtol=0)

    def test_evaluation_is_the_librarys_own(self, data_root: Path) -> None:
        image = open_split("imagenet-mini", "val", data_root).image(3)
        ours = base_transform(Base(source="timm", architecture="tf_efficientnet_lite0"))(image)
        config = timm.data.resolve_data_config({}, model=timm.create_model("tf_efficientnet_lite0"))
        assert torch.equal(ours, timm.data.create_transform(**config)(image))
        theirs = torchvision.models.ResNet50_Weights.IMAGENET1K_V1.transforms()(image)
        base = Base(source="torchvision", architecture="resnet50", weights="IMAGENET1K_V1")
        assert torch.equal(base_transform(base)(image), theirs)

    @pytest.mark.parametrize(("base", "size", "mean"), [
        ({"source": "torchvision", "architecture": "inception_v3"}, 299, 0.485),
        ({"source": "timm", "architecture": "tf_efficientnet_lite0"}, 224, 0.5),
    ])  # fmt: skip
    def test_training_takes_size_and_mean_from_the_weights(
        self, base: dict[str, str], size: int, mean: float, tmp_path: Path
    ) -> None:
        augmentation = base_train_transform(Base.model_validate(base), "imagenet-1k", seed=3)
        white = augmentation(Image.new("RGB", (320, 300), "white"), 0)
        assert white.shape == (3, size, size)
        torch.testing.assert_close(white[0].mean(), torch.tensor((1 - mean) / (0.229 if mean == 0.485 else 0.5)))
        assert augmentation.seed == 3

    def test_training_digits_differ_from_evaluated_ones_and_repeat_themselves(self) -> None:
        base, split = Base(source="qzoo", architecture="resnet8_digits"), open_split("digits", "train")

        def images(seed: int, batch_size: int) -> Tensor:
            transform = base_train_transform(base, "digits", seed)
            return torch.cat([x for x, _ in loader(split, transform, batch_size, range(40))])

        plain = base_transform(base)(split.images[:40])
        assert images(0, 40).shape == plain.shape
        assert not torch.equal(images(0, 40), plain)
        assert not torch.equal(images(0, 40), images(1, 40))
        assert torch.equal(images(0, 40), images(0, 7))


@pytest.mark.parametrize(("source", "name"), [("timm", "tf_efficientnet_lite0"), ("torchvision", "regnet_x_400mf")])
def test_a_meta_model_has_names_and_shapes_but_no_weights(source: str, name: str) -> None:
    base = Base(source=source, architecture=name)
    model = meta_model(base)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert [(k, v.shape) for k, v in model.state_dict().items()] == [
        (k, v.shape) for k, v in create_base(base).state_dict().items()
    ]
