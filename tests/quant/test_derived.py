from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import prune, spectral_norm, weight_norm
from torchvision.models import resnet18
from torchvision.models.feature_extraction import create_feature_extractor

import qzoo
from qzoo.quant.derived import copy_model
from qzoo.training.averaging import Average

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def computed(kind: str) -> nn.Module:
    layer = nn.Conv2d(3, 4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # torch's own, of the older weight norm
        change = {
            "pruned": lambda: prune.l1_unstructured(layer, "weight", 0.5),
            "weight norm": lambda: weight_norm(layer),
            "spectral norm": lambda: spectral_norm(layer),
        }
        change[kind]()
    model = nn.Sequential(layer, nn.ReLU(), nn.Conv2d(4, 2, 1)).eval()
    model(X)
    model.last = model(X)  # a tensor with a history, kept by somebody
    return model


@pytest.mark.parametrize("kind", ["pruned", "weight norm", "spectral norm"])
def test_tensors_that_were_computed_are_copied(kind: str) -> None:
    model = computed(kind)
    twin = copy_model(model)
    assert torch.equal(twin(X), model(X))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert model(X).abs().sum() > 0
    quantized = qzoo.calibrate(qzoo.quantize(model, "int8"), [X])
    with torch.no_grad():
        right, found = model(X), quantized(X)
    assert 0 < float((found - right).abs().max()) < 0.1 * float(right.abs().max())
    torch.testing.assert_close(Average(quantized, 0.9).module(X), quantized(X))


def test_a_feature_extractor_stays_in_its_mode() -> None:
    extractor = create_feature_extractor(resnet18(), ["layer2"])
    for training in (False, True):
        extractor.train(training)
        twin = copy_model(extractor)
        assert {module.training for module in twin.modules()} == {training}
        assert twin.graph is not extractor.graph
    x = torch.rand(1, 3, 32, 32)
    quantized = qzoo.quantize(extractor.eval(), "int8")
    assert not quantized.training
    qzoo.calibrate(quantized, [x])
    with torch.no_grad():
        off = quantized(x)["layer2"] - extractor(x)["layer2"]
    assert 0 < float(off.abs().max()) < 0.5


def test_frozen_parts_stay_frozen() -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.BatchNorm2d(3))).train()
    model[1].eval()
    assert [module.training for module in copy_model(model).modules()] == [True, True, False, False]
