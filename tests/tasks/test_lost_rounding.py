"""Weights whose rounding another grid undoes are told of, and no others."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qzoo
from qzoo.runtimes.registry import runtime_named
from qzoo.tasks.adapt import adapt
from qzoo.tasks.lost_rounding import LostRoundingWarning
from tests.runtimes.conftest import digits, network

ORT = runtime_named("onnxruntime")


def rounded(symmetric: bool | str, bits: int = 4) -> nn.Module:
    weight = {"bits": bits, "symmetric": symmetric}
    rule = {"match": {"type": "weighted"}, "weight": weight}
    model = qzoo.quantize(network(), "int8_asym", residual="skip", example=digits(1), rules=[rule])
    qzoo.optimize(model, [digits()], {"round": "gptq"})
    return model


@pytest.mark.parametrize("runtime", ["openvino", "tensorrt"])
def test_weights_that_lose_their_rounding_are_told_of(runtime: str) -> None:
    title = runtime_named(runtime).title
    with pytest.warns(LostRoundingWarning) as told:
        adapt(rounded(symmetric=False), runtime_named(runtime), [digits()])
    assert [str(one.message) for one in told] == [
        "6 of 6 weights (0.weight, 3.conv1.weight, 3.conv2.weight, 4.conv1.weight, 4.conv2.weight and 1 more) lie on a "
        f"grid, as optimizing or training left them, and get another for {title}, on which they are rounded to the "
        "nearest: the model may lose accuracy. Let the recipe, or a rule, say `weight: {symmetric: true}`, and "
        "optimize or train that variant instead."
    ]


def test_fewer_bits_lose_the_rounding_too() -> None:
    with pytest.warns(LostRoundingWarning, match=r"say `weight: \{bits: 7\}`, and optimize"):
        adapt(rounded(symmetric=True, bits=8), ORT, [digits()], reduce_range=True)


@pytest.mark.parametrize(("symmetric", "runtime"), [(False, "onnxruntime"), (True, "openvino"), (True, "tensorrt")])
def test_a_rounding_that_stays_is_not_told_of(symmetric: bool, runtime: str) -> None:
    model = rounded(symmetric)
    weights = {key: value for key, value in model.state_dict().items() if key.endswith("conv1.weight")}
    found = adapt(model, runtime_named(runtime), [digits()])
    for key, value in weights.items():
        layer = found.get_submodule(key.removesuffix(".weight"))
        torch.testing.assert_close(layer.weight_quantizer(value), value)  # type: ignore[operator]


def test_weights_in_float_have_no_rounding_to_lose() -> None:
    rule = {"match": {"type": "weighted"}, "weight": {"bits": 4, "symmetric": False}}
    model = qzoo.quantize(network(), "int8_asym", residual="skip", example=digits(1), rules=[rule])
    adapt(qzoo.calibrate(model, [digits()]), runtime_named("openvino"), [digits()])
