"""What batch norms remember as an objective, against NumPy and numerical differences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from qzoo.data_free.batch_norms import batch_norms
from qzoo.data_free.remembered import DIVERSITY, SMALLEST, RememberedStatistics, entropy, moment_loss

seeds = st.integers(0, 1000)


def network(seed: int = 0) -> nn.Module:
    """Two convolutions with batch norm, and a classifier, in float64."""
    torch.manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.BatchNorm2d(3),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 5),
    ).double()  # fmt: skip
    for norm in (made[1], made[4]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.1, 2)
    return made.eval()


def images(count: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(count, 2, 7, 7, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def objective(model: nn.Module) -> RememberedStatistics:
    return RememberedStatistics(model, batch_norms(model, images(1)))


@given(seed=seeds)
def test_loss_is_as_in_the_formula(seed: int) -> None:
    model, x = network(seed), images(3, seed)
    losses = []
    with torch.no_grad():
        for norm, given_to_it in ((model[1], model[0](x)), (model[4], model[:4](x))):
            values = given_to_it.numpy().transpose(1, 0, 2, 3).reshape(given_to_it.shape[1], -1)
            mean, variance = norm.running_mean.numpy(), norm.running_var.numpy() + SMALLEST
            of_means = (values.mean(1) - mean) ** 2
            of_deviations = (np.sqrt(values.var(1) + SMALLEST) - np.sqrt(variance)) ** 2
            losses.append(np.mean((of_means + of_deviations) / variance))
        prediction = model(x).softmax(1).mean(0).numpy()
        found = objective(model)
        by_hand = np.mean(losses) + DIVERSITY * (1 + np.sum(prediction * np.log(prediction)) / np.log(5))
        assert float(found.loss(found.statistics(x))) == pytest.approx(by_hand, rel=1e-9)


def test_gradient_is_that_of_numerical_differences() -> None:
    found, x = objective(network()), images(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda given_to_it: found.loss(found.statistics(given_to_it)), x)


@given(seed=seeds)
def test_statistics_of_parts_make_those_of_all(seed: int) -> None:
    found, x = objective(network(seed)), images(6, seed)
    with torch.no_grad():
        whole, parts = found.statistics(x), [found.statistics(part) for part in x.split(2)]
    for one, *some in zip(whole, *parts, strict=True):
        torch.testing.assert_close(torch.stack(some).mean(0), one)


def test_images_with_the_statistics_that_are_remembered_have_no_loss() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2)).double()
    x = images(5)
    model[0].running_mean.copy_(x.mean((0, 2, 3)))
    model[0].running_var.copy_(x.var((0, 2, 3), correction=0))
    found = objective(model.eval())
    assert float(found.loss(found.statistics(x))) == pytest.approx(0, abs=1e-12)


@given(scale=st.floats(0.1, 10))
def test_loss_does_not_depend_on_the_unit_of_values(scale: float) -> None:
    one, other = ([torch.tensor([value * unit]) for value, unit in
                   ((0.3, scale**power), (5.0, scale ** (2 * power)), (2.0, scale ** (2 * power)))]
                  for power in (0, 1))  # fmt: skip
    assert float(moment_loss(*one)) == pytest.approx(float(moment_loss(*other)), rel=1e-2)


@given(seed=seeds, classes=st.integers(2, 9))
def test_entropy_is_that_of_numpy(seed: int, classes: int) -> None:
    weights = np.random.default_rng(seed).random(classes)
    p = weights / weights.sum()
    assert float(entropy(torch.from_numpy(p))) == pytest.approx(-np.sum(p * np.log(p)))


def test_a_model_that_predicts_no_classes_is_matched_without_diversity() -> None:
    model = network()[:5]
    found = objective(model)
    statistics = found.statistics(images())
    assert len(statistics) == 4
    assert bool(found.loss(statistics) > 0)
