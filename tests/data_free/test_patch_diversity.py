"""Similarities of patches, against NumPy and SciPy, and where attention is found."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gaussian_kde
from torch import Tensor, nn

from qzoo.data_free.patch_diversity import BANDWIDTH, PatchDiversity, kernel_density, similarity_entropy
from tests.each import for_each

seeds = st.integers(0, 1000)


def transformer(depth: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=8, depth=depth, num_classes=5).eval()


def patches(seed: int, count: int = 7) -> Tensor:
    return torch.randn(2, count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(seed=seeds)
def test_density_is_that_of_scipy(seed: int) -> None:
    values = np.random.default_rng(seed).uniform(-1, 1, 40)
    estimate = kernel_density(torch.from_numpy(values)[None])[0].numpy()
    places = np.linspace(-1 - 4 * BANDWIDTH, 1 + 4 * BANDWIDTH, 2 * len(estimate) + 1)[1::2]
    expected = gaussian_kde(values, bw_method=BANDWIDTH / values.std(ddof=1))(places)
    np.testing.assert_allclose(estimate, expected, rtol=1e-6, atol=1e-9)


@given(seed=seeds)
def test_entropy_is_the_integral(seed: int) -> None:
    x = patches(seed).numpy()
    for image, found in zip(x, similarity_entropy(torch.from_numpy(x)), strict=True):
        unit = image / np.linalg.norm(image, axis=1, keepdims=True)
        values = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
        places = np.linspace(-1.4, 1.4, 4001)
        density = gaussian_kde(values, bw_method=BANDWIDTH / values.std(ddof=1))(places)
        by_hand = -np.trapezoid(density * np.log(density + 1e-300), places)
        assert float(found) == pytest.approx(by_hand, abs=0.02)


def test_gradient_is_that_of_numerical_differences() -> None:
    assert torch.autograd.gradcheck(lambda x: similarity_entropy(x).sum(), patches(0, 5).requires_grad_())


def test_patches_that_are_alike_are_less_diverse() -> None:
    alike = torch.ones(1, 9, 5) + 0.01 * torch.randn(1, 9, 5)
    assert float(similarity_entropy(alike)) < float(similarity_entropy(torch.randn(1, 9, 5))) - 1


def test_every_attention_is_seen_fused_or_not() -> None:
    x = torch.randn(2, 3, 32, 32)
    found = []
    for fused in (True, False):
        model = transformer(depth=3)
        for module in model.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = fused
        with torch.no_grad():
            found.append(torch.stack(PatchDiversity(model).statistics(x)))
    assert found[0].shape == (3,)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


@for_each("name", ["cait_xxs24_224", "swin_tiny_patch4_window7_224"])
def test_tokens_of_a_whole_image_don_t_count_and_windows_do(name: str) -> None:
    torch.manual_seed(0)
    settings = {"img_size": 32, "depth": 2} if "cait" in name else {"img_size": 32, "window_size": 4, "depths": (1, 1)}
    model = timm.create_model(name, **settings).eval()
    with torch.no_grad():
        found = torch.stack(PatchDiversity(model).statistics(torch.randn(2, 3, 32, 32)))
    assert len(found) == 2
    assert bool(found.isfinite().all())


def test_a_convolutional_network_has_none() -> None:
    assert PatchDiversity(nn.Conv2d(3, 2, 3)).statistics(torch.zeros(1, 3, 8, 8)) == []
