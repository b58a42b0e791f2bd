"""Fake-quant models under `torch.compile`: whole graphs, and what may differ and what may not.

Quantizers are step functions, so a compiler that sums in another order moves single values by a whole step: equality
holds for `aot_eager`, which computes as eager does, and agreement of predictions for inductor.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.data import open_split
from qzoo.quant.ranges import quantizers

pytestmark = pytest.mark.slow

MODELS = [
    ("torchvision/resnet50", "int8", "skip"),
    ("torchvision/mobilenet_v2", "int8", "both"),
    ("torchvision/swin_t", "int8_vit", "skip"),
    ("torchvision/vit_b_16", "int8_vit", "skip"),
    ("timm/vit_tiny_patch16_224", "int8_vit", "both"),
    ("timm/swin_tiny_patch4_window7_224", "int8_vit", "none"),
]
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope="module")
def photos(data_root: Path) -> Tensor:
    split = open_split("imagenet-1k", "val", data_root / "imagenet-mini")
    step = len(split) // 8
    return split.batch(range(0, 8 * step, step), qzoo.transform("tf_efficientnet_lite0"))


def calibrated(name: str, scheme: str, residual: str, images: Tensor) -> nn.Module:
    torch.manual_seed(0)
    model = qzoo.quantize(qzoo.create(name), scheme, residual=residual, example=images[:1])
    return qzoo.calibrate(model, images)


@pytest.mark.parametrize(("name", "scheme", "residual"), MODELS)
def test_equal_under_aot_eager(name: str, scheme: str, residual: str, photos: Tensor) -> None:
    model = calibrated(name, scheme, residual, photos[:2])
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(photos[:2]), model(photos[:2]))


@needs_compiler
@pytest.mark.parametrize(("name", "scheme", "residual"), [MODELS[0], MODELS[1], MODELS[4], MODELS[5]])
def test_close_under_inductor_with_quantizers_off(name: str, scheme: str, residual: str, photos: Tensor) -> None:
    model = calibrated(name, scheme, residual, photos[:2])
    for quantizer in quantizers(model).values():
        quantizer.state = "off"
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        expected, got = model(photos[:2]), compiled(photos[:2])
    assert float((got - expected).abs().max()) <= 1e-4 * max(1.0, float(expected.abs().max()))


@needs_compiler
def test_predictions_agree_under_inductor_on_real_weights_and_images(data_root: Path) -> None:
    """A gap of one image in 200 is half a percent; 99% is what is promised."""
    model = qzoo.create("tf_efficientnet_lite0_int8_residual", pretrained=True)
    split = open_split("imagenet-1k", "val", data_root / "imagenet-mini")
    transform = qzoo.transform("tf_efficientnet_lite0")
    compiled, same, seen = torch.compile(model, fullgraph=True), 0, 0
    with torch.no_grad():
        for start in range(0, 200, 25):
            images = split.batch(range(start * 6, start * 6 + 25), transform)
            same += int((compiled(images).argmax(1) == model(images).argmax(1)).sum())
            seen += len(images)
    assert same / seen >= 0.99
