"""Running statistics of batch norm: which there are, when they stand still, and what processes make of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.schema.finetune import FinetuneSpec
from qzoo.training import averaging
from qzoo.training.averaging import (
    Statistics,
    average_statistics,
    batch_norms,
    desynchronize,
    synchronize,
    training_mode,
)
from qzoo.training.trainer import Trainer
from tests.training.conftest import digits


def statistics(model: nn.Module) -> list[Tensor]:
    buffers = [(n.running_mean, n.running_var, n.num_batches_tracked) for n in batch_norms(model)]
    return [buffer.clone() for three in buffers for buffer in three if buffer is not None]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_norms_without_running_statistics_are_left_out() -> None:
    model = nn.Sequential(
        nn.BatchNorm2d(2), nn.BatchNorm1d(2, track_running_stats=False), nn.GroupNorm(1, 2), nn.LayerNorm(2),
        nn.InstanceNorm2d(2, track_running_stats=True), nn.Sequential(nn.BatchNorm3d(2)),
    )  # fmt: skip
    assert [*batch_norms(model)] == [model[0], model[5][0]]


def test_frozen_norms_compute_as_in_evaluation_while_all_else_trains() -> None:
    norm, dropout = nn.BatchNorm1d(3), nn.Dropout(0.5)
    model, x = nn.Sequential(norm, dropout).eval(), torch.randn(16, 3) * 3 + 1
    expected = norm(x)
    training_mode(model, frozen=True)
    assert model.training
    assert dropout.training
    assert torch.equal(norm(x), expected)
    norm(x).square().sum().backward()
    assert norm.weight.grad is not None
    training_mode(model, frozen=False)
    assert norm.training
    assert not torch.allclose(norm(x), expected)


@pytest.mark.parametrize(("epoch", "moving"), [(None, 4), (0, 0), (1, 2), (9, 4)])
def test_statistics_move_until_the_epoch_and_never_after(epoch: int | None, moving: int) -> None:
    spec, (x, y) = FinetuneSpec(epochs=2, lr=0.01, freeze_bn_epoch=epoch), digits()
    trainer = Trainer(qzoo.create("resnet8_digits_w4a4", pretrained=True), spec, steps_per_epoch=2)
    moved = []
    for step in range(4):
        before, weight = statistics(trainer.model), trainer.model.conv1.weight.detach().clone()
        trainer.step(x[32 * step : 32 * (step + 1)], y[32 * step : 32 * (step + 1)])
        moved.append(not same(before, statistics(trainer.model)))
        assert not torch.equal(weight, trainer.model.conv1.weight)
        # What evaluates the model in between must not thaw it, nor freeze it.
        trainer.model.eval()
    assert moved == [step < moving for step in range(4)]


def test_one_process_has_nothing_to_average_or_to_synchronize() -> None:
    model = nn.Sequential(nn.BatchNorm2d(2))
    before = statistics(model)
    average_statistics(model)
    assert same(before, statistics(model))
    assert synchronize(model) == []
    assert type(model[0]) is nn.BatchNorm2d


def test_several_processes_come_to_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nn.Sequential(nn.BatchNorm2d(2), nn.BatchNorm2d(2, track_running_stats=False))
    with torch.no_grad():
        model[0].running_mean.copy_(torch.tensor([1.0, 2.0]))
        model[0].running_var.fill_(4.0)

    def add_those_of_two_others(buffer: Tensor) -> None:
        buffer.add_(7.0)

    monkeypatch.setattr(averaging, "world_size", lambda: 3)
    monkeypatch.setattr(averaging.dist, "all_reduce", add_those_of_two_others)
    average_statistics(model)
    torch.testing.assert_close(model[0].running_mean, torch.tensor([8 / 3, 3.0]))
    torch.testing.assert_close(model[0].running_var, torch.full((2,), 11 / 3))


def test_norms_of_a_cpu_are_not_synchronized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averaging, "world_size", lambda: 2)
    model = nn.Sequential(nn.BatchNorm2d(2))
    assert synchronize(model) == []
    assert type(model[0]) is nn.BatchNorm2d


class Own(nn.BatchNorm2d):
    pass


class OnGpu(nn.Parameter):
    is_cuda = True


def test_synchronized_norms_stay_the_same_objects_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(averaging, "world_size", lambda: 2)
    model = nn.Sequential(nn.BatchNorm2d(2), Own(2), nn.BatchNorm1d(2))
    for norm in model:
        norm.weight = OnGpu(torch.ones(2))
    first, before = model[0], {key: value.clone() for key, value in model.state_dict().items()}
    names = set(vars(first))
    norms = synchronize(model)
    assert norms == [first]
    assert [type(norm) for norm in model] == [nn.SyncBatchNorm, Own, nn.BatchNorm1d]
    assert model.state_dict().keys() == before.keys()
    desynchronize(norms)
    assert model[0] is first
    assert type(first) is nn.BatchNorm2d
    assert set(vars(first)) == names
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    first.train()(torch.randn(4, 2, 3, 3))


def test_statistics_can_be_put_back() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4, track_running_stats=False)).train()
    statistics = Statistics(model)
    model(torch.randn(8, 3))
    statistics.remember()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model(torch.full((8, 3), torch.nan))
    assert model[1].running_mean.isnan().all()
    statistics.put_back()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert float(model[1].num_batches_tracked) == 1


def test_a_model_without_statistics_has_nothing_to_put_back() -> None:
    statistics = Statistics(nn.Linear(2, 2))
    statistics.remember()
    statistics.put_back()
