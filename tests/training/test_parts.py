"""The smaller parts of a training: where scales start, the loss, batch norm, averages, curve, interrupts."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.quant.learned_scale import initial_amax
from qzoo.quant.ranges import get_ranges, quantizers
from qzoo.schema.finetune import Distillation, FinetuneSpec, Scales
from qzoo.schema.training import rows_as_csv
from qzoo.training.averaging import Average
from qzoo.training.batch_norm import batch_norms, training_mode
from qzoo.training.curve import Curve
from qzoo.training.interrupts import noticing_interrupts
from qzoo.training.loss import Teacher, distillation, loss_of
from qzoo.training.precision import Precision
from qzoo.training.scales import learn_scales, settle_scales
from qzoo.training.trainer import Execution, NotFinite, Trainer
from tests.training.conftest import digits

SPEC = FinetuneSpec(epochs=1, lr=0.01)


def model(name: str = "resnet8_digits_w4a4") -> nn.Module:
    return qzoo.create(name, pretrained=True)


def test_learning_starts_at_the_calibrated_ranges_and_settles_to_them() -> None:
    one, before = model(), get_ranges(model())
    parameters = learn_scales(one, Scales(), None)
    assert len(parameters) == len(quantizers(one)) == len(before) - sum("unsigned" in key for key in before)
    settle_scales(one)
    after = get_ranges(one)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_fixed_ranges_stay_buffers() -> None:
    one = model()
    assert learn_scales(one, Scales(learn=False), None) == []
    assert not any(name.endswith("amax") for name, _ in one.named_parameters())


def test_lsqs_start_is_measured_layer_after_layer() -> None:
    one, x = model(), digits()[0][:64]
    statistics = one.bn1.running_mean.clone()
    learn_scales(one, Scales(init="lsq"), x)
    weight = one.conv1.weight_quantizer
    assert torch.equal(weight.amax, initial_amax(one.conv1.weight, weight.grid, (1, 2, 3)))
    first = one.conv1.input_quantizer
    assert torch.equal(first.amax, initial_amax(x, first.grid, (0, 1, 2, 3)))
    assert torch.equal(one.bn1.running_mean, statistics)
    assert not any(quantizer._forward_pre_hooks for quantizer in quantizers(one).values())


def test_the_range_of_a_frozen_weight_learns_too() -> None:
    one = model()
    learn_scales(one, Scales(), None)
    one.conv1.weight.requires_grad_(False)
    for _ in range(2):  # the second time, a cached value would have no gradient
        one.zero_grad()
        one(digits()[0][:4]).square().sum().backward()
        assert one.conv1.weight_quantizer.amax.grad is not None


def test_fp8_has_no_steps_to_learn() -> None:
    one = model("resnet8_digits_fp8")
    with pytest.raises(UnsupportedError, match=r"^conv1.input_quantizer: .*e4m3 has no steps to learn.*scales: fixed"):
        learn_scales(one, Scales(), None)
    assert not any(quantizer.learned for quantizer in quantizers(one).values())


def test_the_loss_is_that_of_the_labels_and_of_the_teacher() -> None:
    logits, teachers, labels = torch.randn(8, 5), torch.randn(8, 5), torch.arange(8) % 5
    plain = functional.cross_entropy(logits, labels, label_smoothing=0.1)
    smoothed = SPEC.model_copy(update={"label_smoothing": 0.1})
    assert torch.equal(loss_of(logits, labels, smoothed), plain)
    assert torch.equal(loss_of(logits, labels, smoothed, teachers), plain)
    goal = Distillation(weight=0.25, temperature=3)
    both = loss_of(logits, labels, smoothed.model_copy(update={"distill": goal}), teachers)
    divergence = (teachers / 3).softmax(1) * ((teachers / 3).log_softmax(1) - (logits / 3).log_softmax(1))
    torch.testing.assert_close(both, 0.75 * plain + 0.25 * 9 * divergence.sum(1).mean())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_loss_is_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(4, 3, dtype=dtype)
    assert loss_of(logits, torch.zeros(4, dtype=torch.int64), SPEC).dtype == torch.float32
    assert distillation(logits, logits, Distillation()).dtype == torch.float32


def test_a_teacher_is_not_trained() -> None:
    teacher = Teacher(nn.Linear(2, 2).train())
    assert not teacher(torch.ones(1, 2)).requires_grad
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_stand_still(frozen: bool) -> None:
    one, x = model(), digits()[0][:32]
    before = [norm.running_mean.clone() for norm in batch_norms(one) if norm.running_mean is not None]
    training_mode(one, frozen)
    one(x)
    after = [norm.running_mean for norm in batch_norms(one) if norm.running_mean is not None]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True)) is frozen
    assert one.training


def test_statistics_are_frozen_from_the_epoch_on() -> None:
    spec = SPEC.model_copy(update={"epochs": 2, "freeze_bn_epoch": 1})
    trainer, (x, y) = Trainer(model(), spec, steps_per_epoch=1), digits()
    for moves in (True, False):
        before = trainer.model.bn1.running_mean.clone()
        trainer.step(x[:64], y[:64])
        assert torch.equal(before, trainer.model.bn1.running_mean) is not moves


def test_an_average_is_the_moving_average() -> None:
    one = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average, expected = Average(one, decay=0.9), None
    for value in (1.0, 2.0, 4.0):
        with torch.no_grad():
            one[0].weight.fill_(value)
            one[1].running_mean.fill_(-value)
        average.update(one)
        expected = value if expected is None else 0.9 * expected + 0.1 * value
    assert expected is not None
    torch.testing.assert_close(average.module[0].weight, torch.full((2, 2), expected))
    torch.testing.assert_close(average.module[1].running_mean, torch.full((2,), -expected))


def test_the_average_is_the_result_with_buffers_for_ranges() -> None:
    spec = SPEC.model_copy(update={"ema": 0.5, "scales": Scales()})
    trainer, (x, y) = Trainer(model(), spec, 10), digits()
    for _ in range(3):
        trainer.step(x[:64], y[:64])
    averaged = {key: value.clone() for key, value in trainer.result.state_dict().items()}
    assert not torch.equal(averaged["conv1.weight"], trainer.model.conv1.weight)
    final = trainer.finish()
    assert all(torch.equal(value, averaged[key]) for key, value in final.state_dict().items())
    assert not any(name.endswith("amax") for name, _ in final.named_parameters())
    assert not final.training


def test_gradients_are_clipped_together() -> None:
    def moved(**changes: float) -> float:
        spec = FinetuneSpec.model_validate({"epochs": 1, "lr": 1.0, "momentum": 0, "weight_decay": 0} | changes)
        trainer, (x, y) = Trainer(model(), spec, 10), digits()
        before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
        trainer.step(x[:64], y[:64])
        pairs = zip(before, trainer.model.parameters(), strict=True)
        return math.sqrt(sum(float((one - other.detach()).square().sum()) for one, other in pairs))

    assert moved(clip_gradient=1e-3) == pytest.approx(1e-3, rel=1e-3)
    assert moved() > 2e-3


def test_bfloat16_layers_with_float32_quantizers_and_ranges() -> None:
    spec = SPEC.model_copy(update={"precision": "bfloat16", "scales": Scales()})
    trainer, (x, y) = Trainer(model(), spec, 10), digits()
    seen: dict[str, torch.dtype] = {}
    trainer.model.layer1.conv1.register_forward_hook(lambda _, args, out: seen.update(layer=out.dtype))
    _, loss, _ = trainer.step(x[:64], y[:64])
    assert (seen["layer"], loss.dtype) == (torch.bfloat16, torch.float32)
    assert {parameter.dtype for parameter in trainer.model.parameters()} == {torch.float32}
    assert all(parameter.grad is not None for parameter in trainer.ranges)


def test_float16_needs_a_gpu() -> None:
    with pytest.raises(UnsupportedError, match=r"precision float16 needs a GPU. On the CPU say bfloat16 or float32"):
        Precision("float16", torch.device("cpu"))


def test_compiled_steps_are_those_of_eager(monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: compiler(model, backend="aot_eager"))
    spec, (x, y) = SPEC.model_copy(update={"scales": Scales()}), digits()
    losses = []
    for execution in (Execution(), Execution(compile=True)):
        trainer = Trainer(model(), spec, 10, execution=execution)
        losses.append([float(trainer.step(x[:32], y[:32])[1]) for _ in range(3)])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_step_that_is_not_finite_changes_nothing() -> None:
    trainer, (x, y) = Trainer(model(), SPEC, 10), digits()
    before = {key: value.clone() for key, value in trainer.model.named_parameters()}
    with pytest.raises(NotFinite, match="the images hold NaN or Inf"):
        trainer.step(x[:8] * torch.nan, y[:8])
    assert all(torch.equal(value, before[key]) for key, value in trainer.model.named_parameters())


def test_the_curve_has_means_over_the_steps_since_the_last_row(tmp_path: Path) -> None:
    curve = Curve(steps_per_epoch=4, epochs=1, folder=tmp_path)
    for loss, correct in ((1.0, 2), (3.0, 4)):
        curve.add(torch.tensor(loss), torch.tensor(correct), images=4)
    curve.close_row(2, lr=0.1)
    curve.add(torch.tensor(0.5), torch.tensor(4), images=4)
    curve.settle()
    assert curve.pending == (2.0, 4, 4)
    curve.close_row(4, lr=0.05, top1=97.5)
    curve.write()
    assert [(row.loss, row.train_top1, row.epoch) for row in curve.rows] == [(2.0, 75.0, 0.5), (0.5, 100.0, 1.0)]
    assert (tmp_path / "training.csv").read_text() == rows_as_csv(curve.rows)
    assert rows_as_csv(curve.rows).splitlines()[2] == "4,1.0,0.05,0.5,100.0,97.5"


@pytest.mark.parametrize(("steps", "epochs"), [(10, 1), (390, 8), (10_009, 90)])
def test_a_run_has_about_as_many_rows_as_a_picture_shows(steps: int, epochs: int) -> None:
    curve = Curve(steps, epochs)
    due = sum(curve.is_due(step) for step in range(1, steps * epochs + 1))
    assert min(steps, 90) <= due <= 270


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_signal_is_noted_a_second_ends_the_work(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with noticing_interrupts() as interrupts:
        assert not interrupts.asked
        os.kill(os.getpid(), number)
        assert interrupts.asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) == before
