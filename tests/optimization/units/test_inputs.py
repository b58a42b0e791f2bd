"""What a unit is given and is to give, against the models themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import CalibrationError
from qzoo.optimization.units.calls import PLACE, Given
from qzoo.optimization.units.find import Unit
from qzoo.optimization.units.inputs import UnitWalk
from qzoo.quant.eval_mode import evaluation_mode


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 3)
        self.third_runs = 0
        self.third.register_forward_pre_hook(self._count)

    def _count(self, *_: object) -> None:
        self.third_runs += 1

    def forward(self, x: Tensor) -> Tensor:
        return self.third(torch.relu_(self.second(torch.relu_(self.first(x)))))


def batches() -> list[Tensor]:
    return list(torch.randn(7, 3, 8, 8, generator=torch.Generator().manual_seed(0)).split(3))


def pair() -> tuple[Net, Net]:
    torch.manual_seed(0)
    net = Net().eval()
    return qzoo.calibrate(qzoo.quantize(net, "w4a4", example=batches()[0]), batches()), net  # type: ignore[return-value]


def unit(path: str, follows: bool = False) -> Unit:
    return Unit((path,), given=Given((PLACE,), {}), follows=follows)


@contextmanager
def walking(own: bool, folder: Path) -> Iterator[tuple[UnitWalk, Net, Net]]:
    model, net = pair()
    with (
        evaluation_mode(model),
        closing(UnitWalk(model, net, batches(), 7, own_targets=own, folder=folder)) as walk,
    ):
        yield walk, model, net


@pytest.mark.parametrize("own", [False, True])
@torch.no_grad()
def test_inputs_and_targets_are_what_the_models_have_there(own: bool, tmp_path: Path) -> None:
    with walking(own, tmp_path) as (walk, model, net):
        found, x = walk.at(unit("second")), torch.cat(batches())
        before, quantized = torch.relu(net.first(x)), torch.relu(model.first(x))
        torch.testing.assert_close(found.floats, before)
        torch.testing.assert_close(found.quantized, quantized)
        torch.testing.assert_close(found.targets, net.second(quantized if own else before))
        assert (found.rows, found.sizes) == (1, (3, 3, 1))


@pytest.mark.parametrize("own", [False, True])
@torch.no_grad()
def test_a_unit_behind_another_is_given_what_that_gives(own: bool, tmp_path: Path) -> None:
    with walking(own, tmp_path) as (walk, model, net):
        walk.at(unit("first"))
        model.first.weight.mul_(1.5)  # it was learned
        model.third_runs = net.third_runs = 0
        found, x = walk.at(unit("second", follows=True)), torch.cat(batches())
        torch.testing.assert_close(found.floats, net.first(x))
        torch.testing.assert_close(found.quantized, model.first(x))
        torch.testing.assert_close(found.targets, net.second(found.quantized if own else found.floats))


def test_models_run_no_further_than_the_unit_and_files_are_gone_afterwards(tmp_path: Path) -> None:
    with walking(False, tmp_path) as (walk, model, net):
        model.third_runs = net.third_runs = 0
        walk.at(unit("first"))
        walk.at(unit("second", follows=True))
        assert len(list(tmp_path.glob("*/*"))) == 3  # those of the unit before are gone
        assert (model.third_runs, net.third_runs) == (0, 0)
    assert not list(tmp_path.iterdir())


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    model, net = pair()
    several = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 9, 9)]
    with (
        closing(UnitWalk(model, net, several, 4, folder=tmp_path)) as walk,
        pytest.raises(CalibrationError, match=r"rows of \(4, 7, 7\) after some of \(4, 6, 6\)"),
    ):
        walk.at(unit("second"))
    assert not list(tmp_path.iterdir())
