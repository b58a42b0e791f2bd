"""Fake-quant models under `torch.compile`: whole graphs, and what may differ and what may not.

Quantizers are step functions, so a compiler that sums in another order moves single values by a whole step: equality
holds for `aot_eager`, which computes as eager does, and agreement of predictions for inductor.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models import MobileNetV2, ResNet, SwinTransformer, VisionTransformer
from torchvision.models.resnet import Bottleneck

import qzoo
from qzoo.data import open_split
from qzoo.quant.ranges import quantizers

pytestmark = pytest.mark.slow

# Few blocks of each kind: what a compiler makes of one it makes of the next, and takes as long again for it.
MODELS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "resnet": (lambda: ResNet(Bottleneck, [2, 1, 1, 1]), "int8", "skip"),
    "mobilenet": (
        lambda: MobileNetV2(inverted_residual_setting=[[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 1, 2]]), "int8", "both"
    ),
    "swin": (lambda: SwinTransformer([4, 4], 48, [2, 1], [3, 6], [7, 7]), "int8_vit", "skip"),
    "vit": (lambda: VisionTransformer(64, 16, 2, 3, 48, 96), "int8_vit", "skip"),
    "timm vit": (lambda: qzoo.create("timm/test_vit", img_size=64, depth=2), "int8_vit", "both"),
    "timm swin": (lambda: qzoo.create("timm/swin_tiny_patch4_window7_224", img_size=64, window_size=4, embed_dim=48,
                                      depths=(2, 1), num_heads=(3, 6)), "int8_vit", "none"),
    "timm resnet": (lambda: qzoo.create("timm/test_resnet", zero_init_last=False), "int8_vit", "both"),
    "timm convnext": (lambda: qzoo.create("timm/test_convnext", depths=(1, 1, 2, 1)), "int8_vit", "both"),
}  # fmt: skip
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs g++")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def calibrated(name: str) -> nn.Module:
    make, scheme, residual = MODELS[name]
    torch.manual_seed(0)
    model = qzoo.quantize(make().eval(), scheme, residual=residual, example=IMAGES[:1])
    return qzoo.calibrate(model, IMAGES)


@pytest.mark.parametrize("name", MODELS)
def test_equal_under_aot_eager(name: str) -> None:
    model = calibrated(name)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    with torch.no_grad():
        assert torch.equal(compiled(IMAGES), model(IMAGES))
        assert torch.equal(compiled(IMAGES.flip(0)), model(IMAGES.flip(0)))


@needs_compiler
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "timm vit", "timm swin"])
def test_close_under_inductor_with_quantizers_off(name: str) -> None:
    model = calibrated(name)
    for quantizer in quantizers(model).values():
        quantizer.state = "off"
    compiled = torch.compile(model, fullgraph=True)
    with torch.no_grad():
        expected, got = model(IMAGES), compiled(IMAGES)
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
