"""A small residual net, learned: better than nearest rounding, the same each time, resumed to the bit."""

from __future__ import annotations

import signal
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import qzoo
from qzoo.errors import ArgumentError, CalibrationError, NotCalibratedError
from qzoo.models.architectures.resnet_cifar import BasicBlock
from qzoo.models.shared_quantizers import shared_quantizers
from qzoo.optimization.reconstruction.reconstruct import adaround, reconstruct
from qzoo.quant.fake_quant import fake_quantize
from qzoo.quant.ranges import get_ranges
from qzoo.quant.weights import quantized_weights
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Reconstruct, Round
from qzoo.training.interrupts import Interrupted

pytestmark = pytest.mark.usefixtures("one_thread")

SPEC = Reconstruct(iterations=30, batch_size=16, lr=0.03, range_lr=1e-3)


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    stage = nn.Sequential(BasicBlock(4, 4, 1), BasicBlock(4, 8, 2))
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), stage, nn.Flatten(), nn.Linear(72, 5)).eval()
    return qzoo.calibrate(qzoo.quantize(net, "w4a4", example=images()[0][:1]), images()), net


def images(count: int = 48) -> list[Tensor]:
    x = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return list(x.split(24))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def learned(**keywords: Any) -> tuple[nn.Module, list[Change]]:
    model, net = pair()
    changes = reconstruct(model, net, SPEC, images(), **keywords)
    return model, changes


@pytest.fixture(scope="module")
def done() -> tuple[nn.Module, list[Change]]:
    torch.set_num_threads(1)
    return learned()


def test_the_error_of_each_unit_falls(done: tuple[nn.Module, list[Change]]) -> None:
    changes = done[1]
    assert [one.path for one in changes] == ["0", "1.0", "1.1", "3"]
    assert sum(one.after or 9 for one in changes) < 0.95 * sum(one.before or 0 for one in changes)


def test_weights_are_values_of_their_grid(done: tuple[nn.Module, list[Change]]) -> None:
    for one in quantized_weights(done[0]).values():
        assert one.values is not None
        assert torch.equal(fake_quantize(one.values, one.quantizer.amax, one.quantizer.grid), one.values)


def test_weights_go_to_one_of_the_two_values_around_them(done: tuple[nn.Module, list[Change]]) -> None:
    before = quantized_weights(pair()[0])
    for path, one in quantized_weights(done[0]).items():
        start, amax = before[path].values, one.quantizer.amax
        assert start is not None
        assert one.values is not None
        step = amax / one.quantizer.grid.bound
        inside = start.abs() <= amax
        assert bool(((one.values - start).abs() <= step * 1.0001)[inside].all())


def test_ranges_of_activations_are_learned_and_those_of_weights_stay(done: tuple[nn.Module, list[Change]]) -> None:
    before, after = get_ranges(pair()[0]), get_ranges(done[0])
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert not any("weight_quantizer" in name for name in moved)
    assert not [name for name, _ in done[0].named_parameters() if "quantizer" in name]


def test_nothing_else_is_changed(done: tuple[nn.Module, list[Change]]) -> None:
    model = done[0]
    before, after = state(pair()[0]), state(model)
    keys = {one.key for one in quantized_weights(model).values()}
    others = [name for name in before if name not in keys and not name.endswith("amax")]
    assert all(torch.equal(before[name], after[name]) for name in others)
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert type(model.get_submodule("1.0.bn1")) is nn.BatchNorm2d


def test_the_same_seed_gives_the_same_bits(done: tuple[nn.Module, list[Change]]) -> None:
    again, changes = learned()
    assert equal(state(again), state(done[0]))
    assert changes == done[1]
    assert not equal(state(learned(seed=1)[0]), state(done[0]))


def test_interrupted_it_resumes_to_the_bit(done: tuple[nn.Module, list[Change]], tmp_path: Path) -> None:
    def pressing(items: Iterable[Any], count: int | None, what: Any) -> Iterator[Any]:
        for step, item in enumerate(items):
            if step == 70:  # in the third unit
                signal.raise_signal(signal.SIGINT)
            yield item

    with pytest.raises(Interrupted):
        learned(folder=tmp_path, progress=pressing)
    assert len(list(tmp_path.iterdir())) == 2

    counted: list[int | None] = []

    def counting(items: Iterable[Any], count: int | None, what: Any) -> Iterable[Any]:
        counted.append(count)
        return items

    again, changes = learned(folder=tmp_path, progress=counting)
    assert counted == [2 * 30 * 16]
    assert equal(state(again), state(done[0]))
    assert changes == done[1]


def test_a_damaged_file_is_learned_again(done: tuple[nn.Module, list[Change]], tmp_path: Path) -> None:
    learned(folder=tmp_path)
    file = sorted(tmp_path.iterdir())[2]
    file.write_bytes(file.read_bytes()[:100])
    assert equal(state(learned(folder=tmp_path)[0]), state(done[0]))


@pytest.mark.parametrize("other", [{"seed": 1}, {"key": "other images"}])
def test_results_of_something_else_are_not_taken(tmp_path: Path, other: dict[str, Any]) -> None:
    model, net = pair()
    short = SPEC.model_copy(update={"iterations": 1})
    reconstruct(model, net, short, images(), folder=tmp_path)
    reconstruct(pair()[0], net, short, images(), **{"folder": tmp_path} | other)
    assert len(list(tmp_path.iterdir())) == 8


def test_a_unit_that_is_not_finite_keeps_nearest_rounding() -> None:
    model, net = pair()
    with torch.no_grad():
        # What the float model has there can't be reached: the error is infinite.
        net.get_submodule("1.1.bn2").weight[0] = torch.inf
    before = state(model)
    changes = {one.path: one for one in reconstruct(model, net, SPEC, images())}
    assert "keeps its rounding and its ranges" in changes["1.1"].note
    assert changes["1.1"].after is None
    assert not changes["1.0"].note
    assert torch.equal(state(model)["1.1.conv1.weight"], before["1.1.conv1.weight"])


def test_fewer_images_than_a_batch_are_enough() -> None:
    model, net = pair()
    changes = reconstruct(model, net, SPEC, [images()[0][:5]])
    assert all(one.before is not None and one.after is not None and one.after <= one.before for one in changes)


def test_no_images_are_refused() -> None:
    with pytest.raises(CalibrationError, match="there are no images"):
        reconstruct(*pair(), SPEC, [])


def test_a_model_without_ranges_is_refused() -> None:
    net = pair()[1]
    with pytest.raises(NotCalibratedError, match="learn how to round"):
        reconstruct(qzoo.quantize(net, "w4a4"), net, SPEC, images())


def test_ranges_stay_where_they_are_not_to_be_learned() -> None:
    model, net = pair()
    before = get_ranges(model)
    reconstruct(model, net, SPEC.model_copy(update={"learn_ranges": False}), images())
    assert equal(get_ranges(model), before)


def test_adaround_learns_layers_and_leaves_ranges_alone() -> None:
    model, net = pair()
    before = get_ranges(model)
    changes = adaround(model, net, Round(method="adaround", iterations=30, batch_size=16, lr=0.03), images())
    assert len(changes) == 6
    assert sum(one.after or 9 for one in changes) < 0.95 * sum(one.before or 0 for one in changes)
    assert equal(get_ranges(model), before)


def test_own_targets_are_what_the_float_unit_makes_of_quantized_inputs(done: tuple[nn.Module, list[Change]]) -> None:
    model, net = pair()
    changes = reconstruct(model, net, SPEC.model_copy(update={"targets": "own"}), images())
    # The error of earlier units is none of a later one's.
    assert (changes[2].before or 9) < (done[1][2].before or 0)


def test_weights_that_operators_of_a_block_read_are_learned_as_well() -> None:
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=4).eval()
    x = [torch.randn(8, 3, 8, 8)]
    model = qzoo.calibrate(qzoo.quantize(net, "w4a8", example=x[0]), x)
    before = state(model)["encoder.layers.encoder_layer_0.self_attention.in_proj_weight"]
    changes = reconstruct(model, net, SPEC, x)
    assert (changes[1].after or 9) < (changes[1].before or 0)
    weights = quantized_weights(model)
    one = weights["encoder.layers.encoder_layer_0.self_attention.in_proj_weight_quantizer"]
    assert one.values is not None
    assert not torch.equal(one.values, before)
    assert torch.equal(fake_quantize(one.values, one.quantizer.amax, one.quantizer.grid), one.values)


@pytest.mark.parametrize("unit", ["block", "layer"])
def test_quantizers_of_one_tensor_keep_one_range(unit: Any) -> None:
    _, net = pair()
    residual = {"placement": "both", "bits": 4, "symmetric": False}
    rules = [{"match": {"type": "weighted"}, "input": {"symmetric": False}}]
    model = qzoo.quantize(net, "w4a4", residual=residual, rules=rules, example=images()[0][:1])
    qzoo.calibrate(model, images())
    groups = shared_quantizers(model, images()[0][:1])
    assert groups
    for _, *others in groups:
        for path in others:  # as of another calibrator
            model.get_submodule(path).zero_point.fill_(1)
    reconstruct(model, net, SPEC.model_copy(update={"unit": unit}), images())
    ranges = get_ranges(model)
    for name in ("amax", "zero_point"):
        assert all(len({float(ranges[f"{path}.{name}"]) for path in group}) == 1 for group in groups), name


class Inverted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.expand, self.depthwise, self.project = (
            nn.Conv2d(4, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 4, 1)
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(torch.relu(self.depthwise(torch.relu(self.expand(x)))))


def test_a_block_with_a_depthwise_convolution_is_learned_channels_last() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), Inverted()).eval()
    model = qzoo.calibrate(qzoo.quantize(net, "w4a4", example=images()[0][:1]), images())
    seen: dict[str, set[bool]] = {"0": set(), "1.depthwise": set()}
    for path, laid_out in seen.items():

        def see(_: nn.Module, given: tuple[Tensor], y: Tensor, laid_out: set[bool] = laid_out) -> None:
            if y.requires_grad:
                laid_out.add(given[0].is_contiguous(memory_format=torch.channels_last))

        model.get_submodule(path).register_forward_hook(see)
    changes = reconstruct(model, net, SPEC, images())
    assert seen == {"0": {False}, "1.depthwise": {True}}
    assert all((one.after or 9) <= (one.before or 0) for one in changes)


def test_a_float_model_of_other_modules_is_refused() -> None:
    model, net = pair()
    renamed = nn.Sequential(OrderedDict([("first", net[0]), ("rest", net[1:])]))  # type: ignore[index]
    with pytest.raises(ArgumentError, match="no module '0', which the quantized model has"):
        reconstruct(model, renamed, SPEC, images())
