"""What a unit is given and is to give, against the models themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import CalibrationError
from qzoo.optimization.reconstruction.unit_inputs import UnitInputs, unit_inputs
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


def inputs(own: bool, folder: Path) -> tuple[UnitInputs, Net, Net]:
    model, net = pair()
    model.third_runs = net.third_runs = 0
    with (
        evaluation_mode(model),
        unit_inputs(model, net, ("second",), batches(), 7, own_targets=own, folder=folder) as found,
    ):
        kept = [rows.clone() for rows in (found.floats, found.quantized, found.targets)]
        assert len(list(folder.glob("*/*"))) == 3
    return UnitInputs(found.given, *kept, found.rows, found.dtype), model, net


@pytest.mark.parametrize("own", [False, True])
def test_inputs_and_targets_are_what_the_models_have_there(own: bool, tmp_path: Path) -> None:
    found, model, net = inputs(own, tmp_path)
    x = torch.cat(batches())
    with torch.no_grad():
        before, quantized = torch.relu(net.first(x)), torch.relu(model.first(x))
        targets = net.second(quantized if own else before)
    torch.testing.assert_close(found.floats, before)
    torch.testing.assert_close(found.quantized, quantized)
    torch.testing.assert_close(found.targets, targets)


def test_models_run_no_further_than_the_unit_and_files_are_gone_afterwards(tmp_path: Path) -> None:
    _, model, net = inputs(False, tmp_path)
    assert (model.third_runs, net.third_runs) == (0, 0)
    assert not list(tmp_path.iterdir())


def test_images_of_several_sizes_are_refused(tmp_path: Path) -> None:
    model, net = pair()
    several = [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 9, 9)]
    with (
        pytest.raises(CalibrationError, match=r"rows of \(4, 7, 7\) after some of \(4, 6, 6\)"),
        unit_inputs(model, net, ("second",), several, 4, own_targets=False, folder=tmp_path),
    ):
        pass
