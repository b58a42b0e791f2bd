from __future__ import annotations

import torch

from qzoo.models import architectures


def test_maps_digits_to_ten_logits() -> None:
    model = architectures.create("resnet8_digits").eval()
    assert model(torch.randn(3, 1, 8, 8)).shape == (3, 10)


def test_without_classes_gives_features() -> None:
    model = architectures.create("resnet8_digits", num_classes=0).eval()
    assert model(torch.randn(3, 1, 8, 8)).shape == (3, 64)


def test_has_eight_layers_with_weights() -> None:
    model = architectures.create("resnet8_digits")
    assert sum(isinstance(m, torch.nn.Conv2d | torch.nn.Linear) for m in model.modules()) == 8
