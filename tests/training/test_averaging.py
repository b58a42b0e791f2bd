"""The moving average of a model, against one written out in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import get_ranges, quantizers
from qzoo.schema.finetune import FinetuneSpec, Scales
from qzoo.training.averaging import Average
from qzoo.training.scales import learn_scales
from qzoo.training.trainer import Trainer
from tests.training.conftest import digits


def moving(decay: float, values: list[Tensor]) -> Tensor:
    average = values[0].double()
    for value in values[1:]:
        average = decay * average + (1 - decay) * value.double()
    return average


@given(st.floats(0.01, 0.999), st.lists(st.floats(-100, 100), min_size=1, max_size=8))
def test_it_is_the_moving_average(decay: float, values: list[float]) -> None:
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    average = Average(model, decay)
    for value in values:
        with torch.no_grad():
            model[0].weight.fill_(value)
            model[1].running_var.fill_(abs(value))
        average.update(model)
    expected = float(moving(decay, [torch.tensor(value) for value in values]))
    assert float(average.module[0].weight.detach()) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    of_var = float(moving(decay, [torch.tensor(abs(value)) for value in values]))
    assert float(average.module[1].running_var) == pytest.approx(of_var, rel=1e-4, abs=1e-4)


def learned() -> nn.Module:
    model = qzoo.create("resnet8_digits_w4a4", pretrained=True)
    learn_scales(model, Scales(), None)
    return model


def test_learned_ranges_are_averaged_and_what_stands_still_stays() -> None:
    model = learned()
    average, first = Average(model, 0.75), model.conv1.weight_quantizer.amax.detach().clone()
    others = {key: value for key, value in get_ranges(model).items() if key.endswith("unsigned")}
    average.update(model)
    with torch.no_grad():
        model.conv1.weight_quantizer.amax.mul_(2)
    average.update(model)
    torch.testing.assert_close(average.module.conv1.weight_quantizer.amax.detach(), 1.25 * first)
    assert others
    assert all(torch.equal(average.module.state_dict()[key], value) for key, value in others.items())
    # A weight that never changed comes out bit for bit.
    assert torch.equal(average.module.conv1.weight, model.conv1.weight)


def test_zero_points_that_stand_still_are_no_average() -> None:
    model = qzoo.calibrate(qzoo.quantize(qzoo.create("resnet8_digits", pretrained=True), "int8_asym"), digits()[0][:16])
    zero_point = model.conv1.input_quantizer.zero_point
    average = Average(model, 0.9)
    for value in range(-128, 128):
        zero_point.fill_(value)
        average.update(model)
        assert int(average.module.conv1.input_quantizer.zero_point) == value


def test_the_average_is_a_model_of_its_own() -> None:
    model = learned()
    average = Average(model, 0.5)
    mine = {id(value) for value in [*model.parameters(), *model.buffers()]}
    assert not mine & {id(value) for value in [*average.module.parameters(), *average.module.buffers()]}
    assert average.module.state_dict().keys() == model.state_dict().keys()
    assert all(quantizer.learned for quantizer in quantizers(average.module).values())


def test_it_goes_on_where_it_was() -> None:
    model, x = learned(), digits()[0][:16]
    one, other = Average(model, 0.9), None
    for step in range(4):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.01)
        if step == 2:
            kept = {key: value.clone() for key, value in one.tensors().items()}
            other = Average(copy.deepcopy(model), 0.9)
            other.restore(kept)
        for average in (one, other):
            if average is not None:
                average.update(model)
    assert other is not None
    assert one.tensors().keys() == other.tensors().keys()
    assert all(torch.equal(value, other.tensors()[key]) for key, value in one.tensors().items())
    assert torch.equal(one.module.eval()(x), other.module.eval()(x))


def test_the_result_of_a_training_is_the_average_of_its_steps() -> None:
    spec = FinetuneSpec.model_validate({"epochs": 1, "lr": 0.05, "ema": 0.6, "scales": "learned"})
    trainer, (x, y) = Trainer(qzoo.create("resnet8_digits_w4a4", pretrained=True), spec, 10), digits()
    seen: list[dict[str, Tensor]] = []
    for step in range(5):
        trainer.step(x[32 * step : 32 * (step + 1)], y[32 * step : 32 * (step + 1)])
        seen.append({key: value.clone() for key, value in trainer.model.state_dict().items()})
    expected = {key: moving(0.6, [state[key] for state in seen]) for key in seen[0] if "num_batches" not in key}
    final = trainer.finish().state_dict()
    assert final.keys() == seen[0].keys()
    for key, value in expected.items():
        torch.testing.assert_close(final[key].double(), value, rtol=1e-5, atol=1e-6)


def test_what_is_evaluated_in_between_is_not_remembered() -> None:
    spec = FinetuneSpec.model_validate({"epochs": 1, "lr": 0.05, "ema": 0.5, "scales": "learned"})
    trainer, (x, y) = Trainer(qzoo.create("resnet8_digits_w4a4", pretrained=True), spec, 10), digits()
    for _ in range(3):
        trainer.step(x[:32], y[:32])
        with torch.inference_mode():
            seen = trainer.result.eval()(x[:8])
        # A quantized weight that was cached before the last update would give something else.
        fresh = qzoo.create("resnet8_digits_w4a4", pretrained=True)
        fresh.load_state_dict(trainer.result.state_dict())
        with torch.inference_mode():
            torch.testing.assert_close(seen, fresh.eval()(x[:8]), rtol=0, atol=1e-5)
