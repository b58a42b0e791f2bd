"""A run stops where it leaves the finite numbers, says where, and keeps its last good checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import TrainingError
from qzoo.quant.ranges import get_ranges
from qzoo.tasks.finetune import finetune
from qzoo.tasks.training_run import CHECKPOINT_FILE, Run
from qzoo.training.checkpoint import CHECKPOINT, CheckpointInfo
from qzoo.training.loss import diagnose_gradients, diagnose_loss, first_not_finite, stopped
from qzoo.weights.artifact import read_artifact
from tests.training.conftest import STEPS, digits


class Spoils(nn.Module):
    """From a call on, gives NaN."""

    def __init__(self, good_calls: int) -> None:
        super().__init__()
        self.good_calls, self.calls = good_calls, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += self.training
        return x if self.calls <= self.good_calls else x * torch.nan


def network(good_calls: int) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), Spoils(good_calls), nn.ReLU(), nn.Linear(32, 10)).eval()
    return qzoo.calibrate(qzoo.quantize(model, "w4a8"), [digits()[0]])


def test_the_module_and_the_checkpoint_are_named(loader: Callable[[], Any], tmp_path: Path) -> None:
    model = network(good_calls=STEPS + 2)
    with pytest.raises(TrainingError) as caught:
        finetune(model, loader(), epochs=2, lr=0.01, run=Run(folder=tmp_path))
    path = tmp_path / CHECKPOINT_FILE
    assert f"Training stopped at step {STEPS + 2} of epoch 2: the output of 2 holds NaN or Inf." in str(caught.value)
    assert f"The last good checkpoint is {path}; --resume goes on from it." in str(caught.value)
    tensors, info = read_artifact(path, CHECKPOINT, CheckpointInfo)
    assert info.step == STEPS
    assert first_not_finite(tensors.items()) is None


def test_a_learning_rate_that_is_too_large_stops_the_run(loader: Callable[[], Any]) -> None:
    model = qzoo.create("resnet8_digits_w4a8", pretrained=True)
    with pytest.raises(TrainingError, match=r"There is no checkpoint yet\. Lower the learning rate \(--lr\)"):
        finetune(model, loader(), epochs=1, lr=1e38, momentum=0.0, scales="learned")


def test_a_range_that_is_not_finite_is_named_before_it_is_kept(
    trains: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qzoo.training import trainer

    def spoil(parameters: list[nn.Parameter]) -> None:
        with torch.no_grad():
            parameters[0].fill_(torch.inf)

    monkeypatch.setattr(trainer, "keep_scales_positive", spoil)
    with pytest.raises(TrainingError, match=r"conv1\.\w+_quantizer\.amax holds NaN or Inf"):
        trains(epochs=1, scales="learned")(tmp_path / "run", checkpoint_every=1)
    assert not (tmp_path / "run" / CHECKPOINT_FILE).exists()


def test_what_is_broken_is_found_in_this_order() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    assert diagnose_loss(model, torch.zeros(1, 2)) == "the loss itself is NaN or Inf"
    with torch.no_grad():
        model[0].weight.fill_(3e38)
    assert diagnose_loss(model, torch.ones(1, 2)) == "the output of 0 holds NaN or Inf"
    with torch.no_grad():
        model[1].bias.fill_(torch.inf)
    assert diagnose_loss(model, torch.ones(1, 2)) == "1.bias holds NaN or Inf"


def test_gradients_are_looked_at_from_the_output_on() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    assert diagnose_gradients(model) == "the gradient of 1.bias holds NaN or Inf"
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e38)
    assert diagnose_gradients(model) == "the gradients together overflow"


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_the_first_that_is_not_finite_is_named(value: float) -> None:
    fine, broken = torch.zeros(3), torch.tensor([0.0, value])
    assert first_not_finite([("a", fine), ("b", None), ("c", broken), ("d", broken)]) == "c"
    assert first_not_finite([("a", fine), ("b", torch.tensor(3)), ("c", torch.empty(0))]) is None
    assert first_not_finite([("a", torch.full((2,), 6e4, dtype=torch.float16))]) is None


class Pair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * torch.nan, x


class First(nn.Module):
    def forward(self, pair: tuple[Tensor, Tensor]) -> Tensor:
        return pair[0]


def test_the_innermost_module_is_named_before_those_around_it() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Sequential(Spoils(-1))), nn.Linear(2, 2)).train()
    assert diagnose_loss(model, torch.ones(1, 2)) == "the output of 1.1.0 holds NaN or Inf"
    # Of what is no tensor nothing can be said: the next that shows it is named.
    assert diagnose_loss(nn.Sequential(Pair(), First()), torch.ones(1, 2)) == "the output of 1 holds NaN or Inf"


def test_a_learned_range_is_named_like_a_weight() -> None:
    model = qzoo.create("resnet8_digits_w4a4", pretrained=True)
    parameter = model.conv1.weight_quantizer.learn("weight")
    with torch.no_grad():
        parameter.fill_(torch.nan)
    assert diagnose_loss(model, digits()[0][:2]) == "conv1.weight_quantizer.amax holds NaN or Inf"


def test_looking_leaves_no_hook_and_no_gradient() -> None:
    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise ValueError("as it does")

    model = nn.Sequential(nn.Linear(2, 2), Fails())
    with pytest.raises(ValueError, match="as it does"):
        diagnose_loss(model, torch.ones(1, 2))
    assert not any(module._forward_hooks for module in model.modules())
    model = nn.Sequential(nn.Linear(2, 2).train(), nn.ReLU().eval())
    diagnose_loss(model, torch.ones(1, 2))
    assert not any(module._forward_hooks for module in model.modules())
    assert [module.training for module in model] == [True, False]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_parameters_without_gradients_are_no_fault() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].weight.grad = torch.full_like(model[0].weight, torch.inf)
    assert diagnose_gradients(model) == "the gradient of 0.weight holds NaN or Inf"
    model.zero_grad()
    assert diagnose_gradients(model) == "the gradients together overflow"


def test_the_error_says_where_and_what_to_do() -> None:
    assert str(stopped("fc.weight holds NaN or Inf", step=12_345, epoch=2, kept="There is no checkpoint yet.")) == (
        "Training stopped at step 12,345 of epoch 3: fc.weight holds NaN or Inf. There is no checkpoint yet. "
        "Lower the learning rate (--lr), clip gradients (--set clip_gradient=1), or warm up (--set warmup_epochs=1)."
    )


def test_a_model_whose_training_was_stopped_can_be_trained_again(loader: Callable[[], Any]) -> None:
    model = qzoo.create("resnet8_digits_w4a4", pretrained=True)
    ranges = len(get_ranges(model))
    for _ in range(2):
        with pytest.raises(TrainingError):
            finetune(model, loader(), epochs=1, lr=1e38, momentum=0.0, scales="learned")
        assert len(get_ranges(model)) == ranges
