from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qzoo.data_free.batch_norms import UntrainedStatisticsWarning, batch_norms
from qzoo.errors import CalibrationError, UnsupportedError

EXAMPLE = torch.zeros(1, 3, 8, 8)


def trained(features: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(features)
    assert norm.running_mean is not None
    norm.running_mean.uniform_(-1, 1)
    return norm


class Twice(nn.Module):
    """One batch norm for two tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last = trained(3), trained(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shared(x) + self.shared(2 * x))  # type: ignore[no-any-return]


def test_finds_all_that_are_evaluated() -> None:
    timm = pytest.importorskip("timm")
    # Its batch norms hold their activation too, and its auxiliary ones are torch's.
    model = timm.create_model("tf_efficientnet_lite0").eval()
    for norm in (one for one in model.modules() if isinstance(one, nn.BatchNorm2d)):
        norm.running_mean.fill_(0.5)
    found = batch_norms(model, torch.zeros(1, 3, 64, 64))
    assert [one.path for one in found.values()] == [
        path for path, one in model.named_modules() if isinstance(one, nn.BatchNorm2d)
    ]


def test_leaves_out_what_is_shared() -> None:
    assert [one.path for one in batch_norms(Twice(), EXAMPLE).values()] == ["last"]


def test_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 1), trained(3)).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    batch_norms(model, EXAMPLE)
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_refuses_a_network_without_any() -> None:
    with pytest.raises(UnsupportedError, match=r"Sequential evaluates no batch norm.*Calibrate it on.*`synthetic`"):
        batch_norms(nn.Sequential(nn.Conv2d(3, 3, 1), nn.GroupNorm(1, 3)), EXAMPLE)


def test_refuses_one_that_remembers_nothing() -> None:
    with pytest.raises(UnsupportedError, match="evaluates no batch norm"):
        batch_norms(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)), EXAMPLE)


def test_tells_of_those_that_were_never_trained() -> None:
    model = nn.Sequential(trained(3), nn.BatchNorm2d(3))
    with pytest.warns(UntrainedStatisticsWarning, match=r"1 of 2 batch norms have mean 0 and variance 1.*\(1\)"):
        found = batch_norms(model, EXAMPLE)
    assert [one.path for one in found.values()] == ["0"]


@pytest.mark.parametrize(("value", "what"), [(-1.0, "negative variances"), (float("nan"), "NaN or Inf")])
def test_refuses_impossible_statistics(value: float, what: str) -> None:
    model = nn.Sequential(trained(3), trained(3))
    model[1].running_var[1] = value  # type: ignore[index]
    with pytest.raises(CalibrationError, match=f"The running statistics of 1 hold {what}.*Load the float weights"):
        batch_norms(model, EXAMPLE)
