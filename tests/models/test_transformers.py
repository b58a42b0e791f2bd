"""Classifiers of Hugging Face's transformers, of small configurations: quantized, calibrated, exported, and the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor, nn

import qzoo
from tests.natural_images import natural_images

SIZE, CLASSES = 32, 10
COMMON: dict[str, Any] = {"image_size": SIZE, "num_labels": CLASSES}
ENCODER = COMMON | {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64, "patch_size": 8,
}  # fmt: skip
SWIN = COMMON | {"patch_size": 2, "embed_dim": 32, "depths": [2], "num_heads": [2], "window_size": 4}
CONVNEXT = COMMON | {"hidden_sizes": [16, 32], "depths": [1, 2], "num_stages": 2}
MODELS: dict[str, Callable[[], nn.Module]] = {
    "ViT": lambda: transformers.ViTForImageClassification(transformers.ViTConfig(**ENCODER)),
    "DeiT": lambda: transformers.DeiTForImageClassification(transformers.DeiTConfig(**ENCODER)),
    "Swin": lambda: transformers.SwinForImageClassification(transformers.SwinConfig(**SWIN)),
    "ConvNeXt": lambda: transformers.ConvNextForImageClassification(transformers.ConvNextConfig(**CONVNEXT)),
    "MobileNetV2": lambda: transformers.MobileNetV2ForImageClassification(
        transformers.MobileNetV2Config(depth_multiplier=0.25, **COMMON)
    ),
}


def made(name: str) -> nn.Module:
    """Returns a model with random weights that tells images apart: of their own initialization all logits are alike."""
    torch.manual_seed(0)
    model = MODELS[name]()
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        model.train()(natural_images(64, SIZE, 1))
    return model.eval()


def quantized(name: str, images: Any) -> nn.Module:
    model = qzoo.quantize(made(name), "int8_vit", example=natural_images(1, SIZE))
    return qzoo.calibrate(model, images)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", MODELS)
def test_with_quantizers_off_it_is_the_float_model(name: str) -> None:
    model, x = made(name), natural_images(4, SIZE)
    off = qzoo.quantize(model, "int8_vit", example=x)
    with pytest.warns(qzoo.quant.quantizer.UncalibratedWarning):
        assert torch.equal(logits(off, x), logits(model, x))


@pytest.mark.parametrize("name", MODELS)
def test_nothing_but_norms_and_embeddings_stays_in_float(name: str) -> None:
    model = made(name)
    of_layers = sum(
        p.numel() for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d) for p in [layer.weight]
    )
    found = qzoo.quantize(model, "int8_vit", example=natural_images(1, SIZE))
    assert sum(layer.weight.numel() for layer in found.modules() if "weight_quantizer" in layer._modules) == of_layers


@pytest.mark.parametrize("name", MODELS)
def test_batches_of_keywords_give_the_same_ranges(name: str) -> None:
    x, labels = natural_images(8, SIZE), torch.zeros(8, dtype=torch.int64)
    by_tensor, by_dict = quantized(name, [x]), quantized(name, [{"pixel_values": x, "labels": labels}])
    ranges = [
        {key: value for key, value in one.state_dict().items() if "_quantizer." in key} for one in (by_tensor, by_dict)
    ]
    assert ranges[0].keys() == ranges[1].keys()
    assert all(torch.equal(value, ranges[1][key]) for key, value in ranges[0].items())
    assert qzoo.evaluate(by_dict, [{"pixel_values": x, "labels": logits(by_dict, x).argmax(1)}]).top1 == 100


@pytest.mark.runtimes
@pytest.mark.parametrize("name", MODELS)
def test_what_is_exported_predicts_the_same(name: str, tmp_path: Path) -> None:
    images = natural_images(200, SIZE)
    model = quantized(name, [natural_images(64, SIZE, 2)])
    report = qzoo.export(model, tmp_path / "a.onnx", images=[images])
    assert report.parity is not None
    assert len(logits(model, images).argmax(1).unique()) > 2, "the model tells images apart"
    assert report.parity.first_diverging is None
    assert report.parity.agreement_plain >= 99
    assert report.parity.agreement >= 99 or report.parity.overflows
