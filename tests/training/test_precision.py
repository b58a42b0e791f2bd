"""Layers in bfloat16; quantizers, ranges and loss in float32; and how gradients of float16 are scaled."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.quant.fake_quant import fake_quantize
from qzoo.quant.ranges import quantizers
from qzoo.schema.finetune import FinetuneSpec
from qzoo.training.optimizer import Precision, in_memory_format
from qzoo.training.trainer import NotFinite, Trainer
from tests.training.conftest import digits

CPU = torch.device("cpu")


def trainer(**fields: Any) -> Trainer:
    spec = FinetuneSpec.model_validate({"epochs": 1, "lr": 0.01, "scales": "learned"} | fields)
    return Trainer(qzoo.create("resnet8_digits_w4a4", pretrained=True), spec, 10)


@pytest.mark.parametrize(("name", "dtype"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_layers_compute_in_the_precision(name: Any, dtype: torch.dtype) -> None:
    precision = Precision(name, CPU)
    with precision.autocast():
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype
    assert not precision.may_overflow


def test_quantizers_compute_in_float32_what_they_get() -> None:
    made, seen = trainer(precision="bfloat16"), {}
    ranges = {path: quantizer.amax.detach().clone() for path, quantizer in quantizers(made.model).items()}
    for path, quantizer in quantizers(made.model).items():
        # The optimizer writes to weights after the step.
        quantizer.register_forward_hook(
            lambda _, args, y, path=path: seen.update({path: (args[0].detach().clone(), y.detach())})
        )
    x, y = digits()
    made.step(x[:32], y[:32])
    assert seen.keys() == ranges.keys()
    assert {before.dtype for before, _ in seen.values()} == {torch.float32, torch.bfloat16}
    for path, (before, after) in seen.items():
        assert after.dtype == before.dtype
        exact = fake_quantize(before.float(), ranges[path], quantizers(made.model)[path].grid)
        assert torch.equal(after, exact.to(before.dtype)), path


def test_what_is_trained_stays_float32() -> None:
    made, (x, y) = trainer(precision="bfloat16", ema=0.9, distill={}), digits()
    ranges = [parameter.detach().clone() for parameter in made.ranges]
    _, loss, _ = made.step(x[:32], y[:32])
    assert loss.dtype == torch.float32
    assert any(not torch.equal(a, b) for a, b in zip(ranges, made.ranges, strict=True))
    parameters = [*made.model.parameters(), *made.result.parameters()]
    assert {parameter.dtype for parameter in parameters} == {torch.float32}
    assert {value.dtype for slots in made.optimizer.state.values() for value in slots.values()} == {torch.float32}
    assert {parameter.grad.dtype for parameter in made.model.parameters() if parameter.grad is not None} == {
        torch.float32
    }
    assert made.finish().conv1.input_quantizer.amax.dtype == torch.float32


def test_bfloat16_comes_close_to_float32() -> None:
    x, y = digits()
    losses = {name: float(trainer(precision=name).step(x[:64], y[:64])[1]) for name in ("float32", "bfloat16")}
    assert losses["float32"] != losses["bfloat16"]
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.2)


def test_float16_on_a_cpu_is_refused_by_the_trainer() -> None:
    with pytest.raises(UnsupportedError, match=r"precision float16 needs a GPU\. On the CPU say bfloat16 or float32\."):
        trainer(precision="float16")


def scaled(scale: float) -> Precision:
    """What float16 on a GPU is, but for the layers."""
    precision = Precision("float32", CPU)
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return precision


def gradient_of(precision: Precision, factor: float) -> tuple[nn.Parameter, torch.optim.Optimizer]:
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    precision.backward((weight * factor).sum())
    return weight, optimizer


def test_scaled_gradients_are_brought_back_before_the_step() -> None:
    precision = scaled(1024.0)
    weight, optimizer = gradient_of(precision, 3.0)
    assert weight.grad is not None
    assert weight.grad.tolist() == [3072.0, 3072.0]
    precision.unscale(optimizer)
    assert weight.grad.tolist() == [3.0, 3.0]
    precision.step(optimizer)
    assert weight.tolist() == [-0.5, 0.5]


def test_a_step_that_overflows_is_left_out_and_the_next_is_scaled_less() -> None:
    precision = scaled(2.0)
    assert precision.may_overflow
    weight, optimizer = gradient_of(precision, 3e38)
    precision.unscale(optimizer)
    precision.step(optimizer)
    assert weight.tolist() == [1.0, 2.0]
    assert precision.scaler.get_scale() == 1.0
    assert not precision.may_overflow


def test_a_scaler_goes_on_where_it_was() -> None:
    one, other = scaled(1024.0), scaled(2.0)
    for _ in range(3):
        _, optimizer = gradient_of(one, 3.0)
        one.step(optimizer)
    other.restore(one.tensors())
    assert other.scaler.state_dict() == one.scaler.state_dict()
    assert other.scaler.state_dict()["_growth_tracker"] == 3
    assert Precision("float32", CPU).tensors() == {}


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_run_survives_an_overflow_but_not_one_without_scaling(clip: float | None) -> None:
    made, (x, y) = trainer(clip_gradient=clip), digits()
    made.precision = scaled(2.0)

    def overflow(grad: Tensor) -> Tensor:
        return torch.full_like(grad, torch.inf)

    made.model.linear.bias.register_hook(overflow)
    before = [parameter.detach().clone() for parameter in made.model.parameters()]
    made.step(x[:16], y[:16])
    assert made.step_number == 1
    assert all(torch.equal(a, b) for a, b in zip(before, made.model.parameters(), strict=True))
    with pytest.raises(NotFinite):
        made.step(x[:16], y[:16])


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_memory_format_changes_no_value(channels_last: bool) -> None:
    conv = nn.Conv2d(3, 4, 3)
    before = conv.weight.detach().clone()
    assert in_memory_format(conv, channels_last) is conv
    assert torch.equal(conv.weight, before)
    assert conv.weight.is_contiguous(memory_format=torch.channels_last) is channels_last


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.ConvTranspose2d(4, 4, 2, groups=2), (2, 4, 3, 3)), (nn.Conv3d(2, 2, 2), (2, 2, 3, 3, 3))]
)
def test_tensors_of_five_dimensions_keep_their_layout(layer: nn.Module, shape: tuple[int, ...]) -> None:
    x = torch.linspace(-1, 1, 2 * math.prod(shape[1:])).reshape(shape)
    model = qzoo.quantize(nn.Sequential(layer, nn.Flatten()), "int8", example=x)
    qzoo.calibrate(model, [x])
    made = Trainer(model, FinetuneSpec(epochs=1, lr=0.01), 1)
    assert 5 in {tensor.dim() for tensor in made.model.state_dict().values()}
    assert math.isfinite(made.step(x, torch.tensor([0, 1]))[1])
