"""What zero points bring: logits of nets whose activations are hardly ever negative, and never far below 0."""

from __future__ import annotations

from statistics import median

import pytest
import torch
import torchvision
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import get_ranges, quantizers, set_ranges
from tests.each import for_each
from tests.natural_images import natural_images


def sqnr(reference: Tensor, found: Tensor) -> float:
    """Of logits, in dB."""
    return float(10 * torch.log10(reference.square().sum() / (reference - found).square().sum()))


def small() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, bias=False), nn.BatchNorm2d(16), nn.SiLU()]
    for activation in (nn.SiLU(), nn.Hardswish(), nn.GELU()):
        layers += [nn.Conv2d(16, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), activation]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10))


@torch.no_grad()
def with_statistics(net: nn.Module, images: Tensor) -> nn.Module:
    """The net, with the statistics of batch norm that the images have, as a trained one has them."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean of all batches
    net.train()(images)
    return net.eval()


@torch.no_grad()
def gain(net: nn.Module, size: int, seed: int = 0) -> float:
    """How many dB the logits of int8_asym lie above those of int8, in the median of 32 images.

    In the sum of a net with random weights the few images decide that exceed all that were calibrated on.
    """
    images = natural_images(48, size, seed)
    seen, fresh = images[:16], images[16:]
    net = with_statistics(net, seen)
    reference, noise = net(fresh), []
    for scheme in ("int8", "int8_asym"):
        found = qzoo.calibrate(qzoo.quantize(net, scheme), seen)(fresh)
        noise.append(median(sqnr(one, other) for one, other in zip(reference, found, strict=True)))
    return noise[1] - noise[0]


def test_zero_points_bring_two_decibels() -> None:
    torch.manual_seed(0)
    assert gain(torchvision.models.mobilenet_v3_small(), 64) >= 2


@pytest.mark.slow
@for_each("seed", range(3))
def test_of_an_efficientnet_three(seed: int) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(seed)
    assert gain(timm.create_model("efficientnet_b0"), 128, seed) >= 3


@for_each("scheme", ["int8_asym", "int8_per_tensor"])
def test_a_scheme_says_where_there_are_zero_points(scheme: str) -> None:
    found = quantizers(qzoo.quantize(small(), scheme))
    assert {path for path, one in found.items() if one.zero_point is None} == {
        path for path in found if path.endswith("weight_quantizer")
    }
    per_tensor = {one.amax.dim() == 0 for path, one in found.items() if path.endswith("weight_quantizer")}
    assert per_tensor == {scheme == "int8_per_tensor"}


@for_each(
    ("calibrator", "symmetric"),
    [("max", False), ("mse", False), ("entropy", False), ({"percentile": 99.9}, False), ("mse", "auto")],
)
def test_weights_and_activations_of_few_bits_are_calibrated_by_every_method(
    calibrator: object, symmetric: object
) -> None:
    images = natural_images(8, 16)
    net = with_statistics(small(), images)
    fields = {"symmetric": symmetric, "bits": 4, "calibrator": calibrator}
    of_weight = fields | ({"calibrator": "max"} if calibrator == "entropy" else {})  # which takes long for channels
    rules = [{"match": {"type": "weighted"}, "weight": of_weight, "input": fields}]
    model = qzoo.calibrate(qzoo.quantize(net, "int8", rules=rules), images)
    again = qzoo.quantize(net, "int8", rules=rules)
    set_ranges(again, get_ranges(model))
    with torch.no_grad():
        assert torch.equal(again(images), model(images))
        assert sqnr(net(images), model(images)) > 0


def test_ranges_are_the_same_in_any_order_and_number_of_batches() -> None:
    images = natural_images(9, 16)
    net = with_statistics(small(), images)

    def ranges(batches: list[Tensor]) -> dict[str, Tensor]:
        return get_ranges(qzoo.calibrate(qzoo.quantize(net, "int8_asym", calibrator="mse"), batches))

    one = ranges([images[:4], images[4:8]])
    other = ranges([images[4:8], images[:4]])
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_reference_binning_is_refused_before_any_image_is_seen() -> None:
    model = qzoo.quantize(small(), "int8_asym", calibrator="mse")
    with pytest.raises(qzoo.CalibrationError, match=r"`binning: reference` counts magnitudes alone.* Say `binning: al"):
        qzoo.calibrate(model, iter(lambda: pytest.fail("an image was seen"), None), binning="reference")


def test_a_new_head_gets_a_zero_point_of_its_own() -> None:
    net = nn.Sequential(nn.Linear(4, 3), nn.SiLU(), nn.Linear(3, 2)).eval()
    rules = [{"match": {"type": "weighted"}, "weight": {"symmetric": False}}]
    model = qzoo.calibrate(qzoo.quantize(net, "int8", rules=rules), torch.randn(8, 4))
    model[2] = nn.Linear(3, 5)
    with pytest.warns(UserWarning, match="2 was replaced after the model was quantized"):
        qzoo.calibrate(model, torch.randn(8, 4))
    assert model[2].weight_quantizer.zero_point.shape == (5, 1)
