from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from qzoo.data_free.batch_norms import BatchNorm, batch_norms
from qzoo.data_free.matched_norms import MatchedBatchNorms, matched


@given(
    st.integers(1, 5),
    st.integers(0, 2**31),
    st.floats(0.1, 1e3),
    st.floats(-10, 10),
)
def test_channels_get_the_mean_and_the_variance_that_are_remembered(
    channels: int, seed: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(shift, scale, (16, channels, 5, 3)).astype(np.float32)
    mean, variance = rng.normal(size=channels), rng.uniform(0, 4, channels)
    norm = BatchNorm("norm", torch.tensor(mean).float(), torch.tensor(variance).float())
    made = matched(torch.from_numpy(x), norm).double().numpy()
    np.testing.assert_allclose(made.mean((0, 2, 3)), mean, atol=1e-3)
    np.testing.assert_allclose(made.var((0, 2, 3)), variance, atol=4e-3, rtol=4e-3)


def test_values_keep_their_order() -> None:
    x = torch.linspace(-1, 1, 24).view(4, 1, 6)
    made = matched(x, BatchNorm("norm", torch.tensor([3.0]), torch.tensor([2.0])))
    assert bool((made.flatten().diff() > 0).all())


def test_a_constant_channel_stays_at_its_mean() -> None:
    made = matched(torch.full((4, 1, 2), 7.0), BatchNorm("norm", torch.tensor([3.0]), torch.tensor([2.0])))
    assert made.tolist() == torch.full((4, 1, 2), 3.0).tolist()


def test_a_network_gives_what_scale_and_shift_of_its_batch_norms_say() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.BatchNorm2d(2)).eval()
    last = net[4]
    assert isinstance(last, nn.BatchNorm2d)
    for norm in (net[1], last):
        for tensor in (norm.running_mean, norm.bias.data):  # type: ignore[union-attr]
            tensor.uniform_(-1, 1)  # type: ignore[operator, union-attr]
        norm.running_var.uniform_(0.5, 2)  # type: ignore[operator, union-attr]
        norm.weight.data.uniform_(-2, 2)  # type: ignore[union-attr]
    x = 5 * torch.randn(32, 3, 10, 10)
    with torch.no_grad(), MatchedBatchNorms(batch_norms(net, x[:1])):
        made = net(x)
    assert last.running_var is not None
    deviation = last.weight.abs() * (last.running_var / (last.running_var + last.eps)).sqrt()
    torch.testing.assert_close(made.mean((0, 2, 3)), last.bias.detach(), atol=1e-4, rtol=0)
    torch.testing.assert_close(made.std((0, 2, 3), correction=0), deviation.detach(), atol=1e-4, rtol=1e-4)
    assert not torch.equal(made, net(x))  # outside of the context nothing is scaled
