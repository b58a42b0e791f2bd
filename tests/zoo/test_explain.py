"""What `qzoo.explain` tells of a float model, of a quantized one and of a name."""

from __future__ import annotations

import json
import re

import pytest
import torch
from torch import Tensor, nn

import qzoo
from qzoo.quant.ranges import quantizers
from qzoo.schema.quantizer import QuantizerSpec


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)) + x


X = torch.rand(2, 4, 8, 8)


def network() -> nn.Module:
    return nn.Sequential(Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def test_of_a_float_model_it_tells_what_quantizing_makes() -> None:
    model = network().train()
    found = qzoo.explain(model, "int8", residual="skip", example=X)
    made = qzoo.quantize(model, "int8", residual="skip", example=X)
    assert {one.path: one.spec for one in found.quantizers} == {p: q.spec for p, q in quantizers(made).items()}
    conv = next(one for one in found.quantizers if one.path == "0.conv.input_quantizer")
    assert conv.rule is not None
    assert conv.rule.startswith("scheme int8 rules.0  ")
    assert conv.rule.rpartition(":")[0].endswith("int8.yaml")
    assert conv.fields["bits"] == conv.rule
    assert (conv.module, conv.role, conv.state, conv.amax) == ("0.conv", "input", None, None)
    assert (found.name, found.left_float) == ("int8", [])
    assert [(one.module, one.op) for one in found.float_operators or ()] == [("0", "relu")]
    assert model.training
    assert not quantizers(model)


def test_of_a_quantized_model_it_tells_what_stands_in_it() -> None:
    model = qzoo.calibrate(qzoo.quantize(network(), "int8", example=X), X)
    planned = {one.path: one.rule for one in qzoo.explain(network(), example=X).quantizers}
    model[3].input_quantizer.state = "off"
    model[0].conv.weight_quantizer.spec = QuantizerSpec(bits=4, per="channel")
    found = {one.path: one for one in qzoo.explain(model, example=X).quantizers}
    assert found["3.input_quantizer"].state == "off"
    assert found["3.input_quantizer"].amax == (model[3].input_quantizer.amax.item(),) * 2
    assert found.pop("0.conv.weight_quantizer").rule is None  # no rule made it so
    assert {path: one.rule for path, one in found.items()} == {path: planned[path] for path in found}
    assert {one.state for one in qzoo.explain(qzoo.quantize(network(), example=X)).quantizers} == {"off"}


def test_by_name_and_in_a_model_of_that_name_it_is_the_same() -> None:
    by_name, model = qzoo.explain("resnet18_int8_residual"), qzoo.create("resnet18_int8_residual")
    standing = qzoo.explain(model)
    assert (standing.name, standing.left_float, standing.float_operators) == (
        by_name.name, by_name.left_float, by_name.float_operators,
    )  # fmt: skip
    key = {one.path: (one.spec, one.rule, one.fields) for one in by_name.quantizers}
    assert {one.path: (one.spec, one.rule, one.fields) for one in standing.quantizers} == key


def test_what_does_not_run_by_itself_needs_an_example_for_operators_alone() -> None:
    class Odd(nn.Linear):
        def forward(self, x: Tensor, scale: Tensor) -> Tensor:
            return super().forward(x) * scale

    found = qzoo.explain(Odd(4, 2))
    assert (len(found.quantizers), found.float_operators) == (2, None)
    with pytest.raises(
        qzoo.UnsupportedError, match=r"found by running it once, which failed .* It takes x, scale\. Give them"
    ):
        qzoo.explain(Odd(4, 2), residual="skip")
    assert qzoo.explain(qzoo.quantize(Odd(4, 2))).float_operators is None


def test_a_model_that_no_rules_made_has_none() -> None:
    model = nn.Sequential(qzoo.TensorQuantizer(QuantizerSpec()), nn.Linear(4, 2))
    found = qzoo.explain(model)
    assert (found.name, found.left_float, found.float_operators) == ("Sequential", ["1"], None)
    assert [(one.path, one.rule, one.state) for one in found.quantizers] == [("0", None, "off")]


def test_is_read_in_a_terminal_and_by_programs() -> None:
    found = qzoo.explain("resnet50_int8")
    lines = repr(found).split("\n")
    assert len(lines) < 40
    assert max(map(len, lines)) < 180
    assert "conv1.input_quantizer" in lines[3]
    assert "int8.yaml:" in repr(found)
    content = json.loads(found.to_json())
    assert set(content) == {
        "name",
        "quantizers",
        "float",
        "float_rules",
        "float_weights",
        "float_operators",
        "ranges_from",
    }
    assert content["quantizers"][0]["spec"]["bits"] == 8


def test_a_scheme_goes_with_a_float_model() -> None:
    name = r"explain\(\) got scheme='int8' for a name, 'resnet50_int8'; it goes with a float module alone"
    with pytest.raises(qzoo.ArgumentError, match=name):
        qzoo.explain("resnet50_int8", "int8")
    with pytest.raises(qzoo.ArgumentError, match=r"got scheme='int8' for a quantized model"):
        qzoo.explain(qzoo.quantize(network(), "int8", example=X), "int8")


def test_what_a_rule_leaves_in_float_has_the_rule_and_what_none_speaks_of_has_none() -> None:
    found = qzoo.explain("resnet50_mixed_example")
    assert found.left_float == ["fc"]
    assert re.fullmatch(
        r"variants\.mixed_example\.rules\.0  recipes/resnet/resnet50\.yaml:\d+", found.float_rules["fc"]
    )
    assert qzoo.explain("torchvision/swin_t:int8").float_rules == {}


def test_a_layer_that_nobody_calls_is_told_of_as_a_layer() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.qkv = nn.Linear(4, 6)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.qkv.weight)

    found = qzoo.explain(nn.Sequential(Reads()), "int8", example=torch.zeros(1, 4))
    assert [(one.module, one.role, one.path) for one in found.quantizers] == [
        ("0.qkv", "input", "0.qkv_input_quantizer"),
        ("0.qkv", "weight", "0.qkv_weight_quantizer"),
    ]
    assert not found.left_float
