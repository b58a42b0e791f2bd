"""Steps on weights and activations with zero points: what comes of them lies on the grid, and is nearer to float."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from tests.each import for_each

RULES = [
    {
        "match": {"type": "weighted"},
        "weight": {"bits": 3, "per": "channel", "symmetric": False, "calibrator": "max"},
        "input": {"bits": 4, "symmetric": False, "calibrator": "mse"},
    }
]


def network() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Conv2d(8, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(128, 5))
    with torch.no_grad():
        for layer in (net[0], net[2], net[5]):
            layer.weight.add_(0.3 * layer.weight.abs().max())  # off centre
    return net.eval()


@pytest.fixture(scope="module")
def images() -> list[Tensor]:
    return list(torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(1)).split(16))


@for_each(
    "steps",
    [
        {"round": "gptq"},
        {"round": {"method": "adaround", "iterations": 150}},
        {"reconstruct": {"unit": "layer", "iterations": 150}},
        {"round": "gptq", "reconstruct": {"unit": "layer", "iterations": 150}},
    ],
)
def test_they_serve_there_too(steps: dict[str, Any], images: list[Tensor]) -> None:
    net = network()
    model = qzoo.calibrate(qzoo.quantize(net, "int8", rules=RULES), images)
    x = torch.cat(images)
    with torch.no_grad():
        wanted, ranges_alone = net(x), (model(x) - net(x)).square().mean()
        qzoo.optimize(model, images, steps)
        assert float((model(x) - wanted).square().mean()) < float(ranges_alone)
    for layer in (model[0], model[2], model[5]):
        quantizer = layer.weight_quantizer
        assert bool((quantizer.zero_point != 4).all())
        assert torch.equal(quantizer(layer.weight), layer.weight)
        values = layer.weight.detach() * (7 / quantizer.amax) + quantizer.zero_point
        assert float((values - values.round()).abs().max()) < 1e-3
        assert 0 <= float(values.round().min()) <= float(values.round().max()) <= 7
