"""What stands in for modules while a unit is learned, and that it is gone afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qzoo.optimization.reconstruction.learned_rounding import sides
from qzoo.optimization.reconstruction.stand_ins import FixedNorm, SoftRounding, fixed_norms, standing_in
from qzoo.quant.fake_quant import grid


@pytest.mark.parametrize("affine", [True, False])
def test_fixed_norm_is_batch_norm_in_evaluation_mode(affine: bool) -> None:
    norm = nn.BatchNorm2d(3, affine=affine).eval()
    for tensor in [*norm.parameters(), norm.running_mean, norm.running_var]:
        nn.init.uniform_(tensor, 0.5, 2)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(FixedNorm(norm)(x), norm(x))


class Norm(nn.BatchNorm2d):
    pass


def test_only_norms_that_do_no_more_are_replaced() -> None:
    net = nn.Sequential(nn.BatchNorm2d(3), Norm(3), nn.BatchNorm2d(3, track_running_stats=False))
    assert list(fixed_norms(nn.Sequential(net), ("0",))) == ["0.0"]


def test_modules_are_back_after_an_error() -> None:
    net = nn.Sequential(nn.Sequential(nn.ReLU()))
    before = net[0][0]

    def fail() -> None:
        with standing_in(net, {"0.0": nn.Identity()}):
            assert isinstance(net[0][0], nn.Identity)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert net[0][0] is before


def test_a_soft_weight_has_the_dtype_of_the_weight() -> None:
    weight = torch.tensor([0.25, 0.5])
    soft = SoftRounding(sides(weight, torch.tensor(0.7), grid(bits=4)))
    assert soft(weight.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(soft.rounded(), torch.tensor([0.3, 0.5]))  # 2.5 and 5 steps; a tie goes up
