"""Classifiers of Hugging Face's transformers: quantized, calibrated, exported, and the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from benchmarks.coverage.of_transformers import CLASSIFIERS, SIZE
from tests.natural_images import natural_images


def made(name: str) -> nn.Module:
    """Returns a model with random weights that tells images apart: of their own initialization all logits are alike."""
    torch.manual_seed(0)
    model = CLASSIFIERS[name]()
    for layer in model.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    images, classifier = natural_images(64, SIZE, 1), [one for one in model.modules() if isinstance(one, nn.Linear)][-1]
    with torch.no_grad():
        model.train()(images)
        found = model.eval()(images).logits
        if len(found.argmax(1).unique()) < 3:
            classifier.bias -= found.mean(0)
    return model


def quantized(name: str, images: Any) -> nn.Module:
    model = qzoo.quantize(made(name), "int8_vit", example=natural_images(1, SIZE))
    return qzoo.calibrate(model, images)


def logits(model: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return model(x).logits  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_with_quantizers_off_it_is_the_float_model(name: str) -> None:
    model, x = made(name), natural_images(4, SIZE)
    off = qzoo.quantize(model, "int8_vit", example=x)
    with pytest.warns(qzoo.quant.quantizer.UncalibratedWarning):
        assert torch.equal(logits(off, x), logits(model, x))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_nothing_but_norms_and_embeddings_stays_in_float(name: str) -> None:
    model = made(name)
    of_layers = sum(
        p.numel() for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d) for p in [layer.weight]
    )
    found = qzoo.quantize(model, "int8_vit", example=natural_images(1, SIZE))
    assert sum(layer.weight.numel() for layer in found.modules() if "weight_quantizer" in layer._modules) == of_layers


@pytest.mark.parametrize("name", CLASSIFIERS)
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
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_what_is_exported_predicts_the_same(name: str, tmp_path: Path) -> None:
    images = natural_images(200, SIZE)
    model = quantized(name, [natural_images(64, SIZE, 2)])
    report = qzoo.export(model, tmp_path / "a.onnx", images=[images])
    assert report.parity is not None
    assert len(logits(model, images).argmax(1).unique()) > 2, "the model tells images apart"
    assert report.parity.first_diverging is None
    assert report.parity.agreement_plain >= 99
    assert report.parity.agreement >= 99 or report.parity.overflows
