from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from qzoo.errors import UnsupportedError
from qzoo.quant.calibration.collectors import MaxCollector
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.quantizer import Notice, TensorQuantizer, UncalibratedWarning
from qzoo.schema.quantizer import Calibrator, QuantizerSpec
from tests.each import for_each

X = torch.tensor([-3.0, -0.26, 0.0, 0.26, 3.0])


def calibrated(amax: float = 1.0, **spec: object) -> TensorQuantizer:
    quantizer = TensorQuantizer(QuantizerSpec(**spec))  # type: ignore[arg-type]
    quantizer.set_amax(torch.tensor(amax))
    return quantizer


def test_it_becomes_another_and_back() -> None:
    one, other = calibrated(1.0), calibrated(3.0, bits=4, unsigned="auto", calibrator=Calibrator(method="mse"))
    before = one(X).clone()
    kept = copy.deepcopy(one)
    one.become(other)
    assert torch.equal(one(X), other(X))
    assert (one.spec, one.state, one.grid) == (other.spec, "quantizing", other.grid)
    one.become(kept)
    assert torch.equal(one(X), before)
    assert one.unsigned is None


def test_off_passes() -> None:
    quantizer = TensorQuantizer(QuantizerSpec())
    assert quantizer.state == "off"
    assert not quantizer.calibrated
    assert quantizer(X) is X


def test_calibrating_passes_and_shows_the_collector() -> None:
    quantizer = TensorQuantizer(QuantizerSpec())
    quantizer.collector, quantizer.state = MaxCollector(), "calibrating"
    assert quantizer(X) is X
    assert (quantizer.collector.amin.item(), quantizer.collector.amax.item()) == (-3, 3)


def test_quantizing_is_the_function() -> None:
    quantizer = calibrated(bits=4)
    assert quantizer.state == "quantizing"
    assert torch.equal(quantizer(X), fake_quantize(X, torch.tensor(1.0), grid(bits=4)))


def test_auto_becomes_what_calibration_found() -> None:
    for found in (True, False):
        quantizer = TensorQuantizer(QuantizerSpec(unsigned="auto"))
        quantizer.set_amax(torch.tensor(1.0), unsigned=found)
        assert torch.equal(quantizer(X), fake_quantize(X, torch.tensor(1.0), grid(unsigned=found)))
        again = TensorQuantizer(QuantizerSpec(unsigned="auto"))
        again.load_state_dict(quantizer.state_dict())
        assert torch.equal(again(X), quantizer(X))


def test_a_state_dict_switches_it_on_and_one_without_a_range_off() -> None:
    one, other = calibrated(2.0), TensorQuantizer(QuantizerSpec())
    blank = copy.deepcopy(other.state_dict())
    other.load_state_dict(one.state_dict())
    assert other.state == "quantizing"
    assert torch.equal(other(X), one(X))
    other.load_state_dict(blank)
    assert other.state == "off"
    assert other(X) is X


@pytest.mark.parametrize(
    ("amax", "text"),
    [
        (torch.ones(2), r"amax has shape \(2,\); this quantizer's is \(\)"),
        (torch.tensor(-1.0), "amax has to be finite and at least 0"),
        (torch.tensor(torch.nan), "amax has to be finite and at least 0"),
        (torch.tensor(torch.inf), "amax has to be finite and at least 0"),
    ],
)
def test_ranges_that_are_none(amax: torch.Tensor, text: str) -> None:
    quantizer = calibrated(2.0)
    with pytest.raises(ValueError, match=text):
        quantizer.set_amax(amax)
    assert quantizer.amax == 2


def test_quantizers_that_share_a_notice_warn_once() -> None:
    notice = Notice()
    first, second = (TensorQuantizer(QuantizerSpec(), notice=notice) for _ in range(2))
    with pytest.warns(UncalibratedWarning, match=r"This model is not calibrated: its activations stay in float\."):
        first(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        second(X)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_range_stays_float32(dtype: torch.dtype) -> None:
    quantizer = calibrated(1 / 3)
    assert quantizer.to(dtype).amax.dtype == torch.float32
    assert quantizer.amax == torch.tensor(1 / 3)
    assert quantizer(X.to(dtype)).dtype == dtype


def test_the_range_is_float32_whatever_the_default() -> None:
    try:
        torch.set_default_dtype(torch.float16)
        assert TensorQuantizer(QuantizerSpec()).amax.dtype == torch.float32
    finally:
        torch.set_default_dtype(torch.float32)


def test_memory_given_to_a_meta_model_is_no_range() -> None:
    with torch.device("meta"):
        quantizer = TensorQuantizer(QuantizerSpec(unsigned="auto"))
    quantizer.to_empty(device="cpu")
    quantizer.load_state_dict({}, strict=False)
    assert not quantizer.calibrated
    assert quantizer.state == "off"


@pytest.mark.parametrize("learned", [False, True])
def test_memory_given_to_a_meta_model_is_no_zero_point_nor_sign(learned: bool) -> None:
    for spec in (QuantizerSpec(symmetric=False), QuantizerSpec(unsigned="auto")):
        quantizer = TensorQuantizer(spec)
        quantizer.set_amax(torch.tensor(1.0), True, torch.tensor(85) if spec.has_zero_point else None)
        if learned:
            quantizer.learn("activation")
        # What `to_empty` finds in its memory, said here: anything.
        quantizer.to("meta")._apply(lambda empty: torch.ones_like(empty, device="cpu"))
        assert not quantizer.calibrated
        assert not any(found for found in (quantizer.unsigned, quantizer.zero_point) if found is not None)


def test_a_state_dict_without_its_range_leaves_the_state() -> None:
    quantizer = calibrated()
    quantizer.state = "off"
    quantizer.load_state_dict({}, strict=False)
    assert quantizer.state == "off"


@pytest.mark.parametrize(
    ("quantizer", "text"),
    [
        (TensorQuantizer(QuantizerSpec()), "TensorQuantizer(8bit per-tensor max, amax=?, off)"),
        (calibrated(0.12345678), "TensorQuantizer(8bit per-tensor max, amax=0.1235, quantizing)"),
        (calibrated(format="e4m3"), "TensorQuantizer(e4m3 per-tensor max, amax=1, quantizing)"),
        (
            calibrated(bits=4, unsigned=True, calibrator=Calibrator(method="percentile", percentile=99.9)),
            "TensorQuantizer(unsigned 4bit per-tensor percentile 99.9, amax=1, quantizing)",
        ),
    ],
)
def test_prints_as_one_line(quantizer: TensorQuantizer, text: str) -> None:
    assert repr(quantizer) == text


def test_prints_the_least_and_the_largest_of_many_ranges() -> None:
    quantizer = TensorQuantizer(QuantizerSpec(per="channel"), (3, 1))
    quantizer.set_amax(torch.tensor([[1.0], [0.5], [2.0]]))
    assert repr(quantizer) == "TensorQuantizer(8bit per-channel max, amax=0.5..2 (3), quantizing)"
    assert "amax=?" in repr(TensorQuantizer(QuantizerSpec()).to("meta"))


SPECS = [QuantizerSpec(bits=4), QuantizerSpec(bits=3, unsigned="auto"), QuantizerSpec(bits=8, per="channel")]


def with_range(spec: QuantizerSpec) -> TensorQuantizer:
    shape = (5,) if spec.per == "channel" else ()
    quantizer = TensorQuantizer(spec, shape)
    quantizer.set_amax(torch.linspace(0.5, 1.5, 5) if shape else torch.tensor(1 / 3), unsigned=True)
    return quantizer


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_learning_and_settling_change_no_value_and_no_name(spec: QuantizerSpec) -> None:
    quantizer = with_range(spec)
    before, y, buffers = copy.deepcopy(quantizer.state_dict()), quantizer(X), {*dict(quantizer.named_buffers())}

    def is_the_same() -> bool:
        state = quantizer.state_dict()
        return state.keys() == before.keys() and all(torch.equal(state[key], before[key]) for key in before)

    parameter = quantizer.learn("weight")
    assert quantizer.amax is parameter
    assert parameter.requires_grad
    assert {*dict(quantizer.named_buffers())} == buffers - {"amax"}
    assert is_the_same()
    assert torch.equal(quantizer(X).detach(), y)
    quantizer.settle()
    assert {*dict(quantizer.named_buffers())} == buffers
    assert [*quantizer.parameters()] == []
    assert is_the_same()
    assert torch.equal(quantizer(X), y)
    # Twice is as good as once.
    quantizer.settle()
    assert is_the_same()


def test_what_was_learned_is_settled() -> None:
    quantizer = calibrated(1.0)
    parameter = quantizer.learn("activation")
    (quantizer(X).square().sum()).backward()
    torch.optim.SGD([parameter], lr=0.1).step()
    learned = float(parameter.detach())
    assert learned != 1.0
    quantizer.settle()
    assert float(quantizer.amax) == learned
    # What becomes of the parameter afterwards is of no account.
    with torch.no_grad():
        parameter.fill_(9.0)
    assert float(quantizer.amax) == learned
    quantizer.set_amax(torch.tensor(2.0))
    assert float(quantizer.learn("activation").detach()) == 2.0


def test_without_gradients_a_learned_range_quantizes_as_before() -> None:
    quantizer = calibrated(1.0, bits=4)
    quantizer.learn("activation")
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            assert not quantizer(X).requires_grad
    assert quantizer(X).requires_grad


@for_each("dtype", [torch.float16, torch.bfloat16, torch.float64])
@for_each("spec", SPECS, ids=str)
def test_a_learned_range_stays_float32(dtype: torch.dtype, spec: QuantizerSpec) -> None:
    quantizer = with_range(spec)
    parameter = quantizer.learn("activation")
    before = parameter.detach().clone()
    nn.Sequential(quantizer).to(dtype)
    assert isinstance(quantizer.amax, nn.Parameter)
    assert quantizer.amax.dtype == torch.float32
    assert torch.equal(quantizer.amax.detach(), before)
    y = quantizer(X.to(dtype).reshape(1, 5))
    y.float().sum().backward()
    assert y.dtype == dtype
    assert quantizer.amax.grad is not None
    assert quantizer.amax.grad.dtype == torch.float32


def test_an_optimizer_keeps_hold_of_a_range_whose_model_changes_dtype() -> None:
    quantizer = calibrated(1.0)
    parameter = quantizer.learn("activation")
    quantizer.bfloat16()
    assert quantizer.amax is parameter


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_learned_quantizer_can_be_copied_saved_and_loaded(spec: QuantizerSpec) -> None:
    quantizer = with_range(spec)
    quantizer.learn("activation")
    copied = copy.deepcopy(quantizer)
    assert copied.learned == "activation"
    assert isinstance(copied.amax, nn.Parameter)
    assert copied.amax is not quantizer.amax
    state = {key: value.clone() for key, value in quantizer.state_dict().items()}
    state["amax"] *= 2
    settled = TensorQuantizer(spec, tuple(quantizer.amax.shape))
    for other in (copied, settled):
        other.load_state_dict(state)
        assert torch.equal(other.amax.detach(), state["amax"])
        assert (other.state, other.grid) == ("quantizing", quantizer.grid)
    assert isinstance(copied.amax, nn.Parameter)
    assert torch.equal(quantizer.amax.detach() * 2, state["amax"])
    assert torch.equal(copied(X).detach(), settled(X))


@pytest.mark.parametrize(
    ("quantizer", "why"),
    [
        (TensorQuantizer(QuantizerSpec()), "it has no range yet"),
        (calibrated(format="e4m3"), "e4m3 has no steps to learn"),
        (calibrated(format="e5m2"), "e5m2 has no steps to learn"),
    ],
)
def test_ranges_that_can_not_be_learned(quantizer: TensorQuantizer, why: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        quantizer.learn("weight")
    assert str(caught.value) == f"The range of this quantizer can't be learned: {why}."
    assert quantizer.learned is None
    assert [*quantizer.parameters()] == []
