from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from timm.layers import StdConv2d
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional as F

from qzoo.errors import RuleError, UnsupportedError
from qzoo.models.bases import create_base, meta_model
from qzoo.models.quantize import quantize_in_place
from qzoo.models.select_layers import plan_quantizers
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.layers import WEIGHTED, QuantizedLayer
from qzoo.quant.quantizer import UncalibratedWarning
from qzoo.quant.ranges import get_ranges, quantizers
from qzoo.schema.reading.catalog import RecipeEntry
from qzoo.schema.recipe import Base, Recipe
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve, resolve_scheme

Quantize = Callable[..., nn.Module]

TIMM = ["test_resnet", "test_efficientnet", "test_convnext", "test_byobnet", "test_vit", "test_nfnet", "test_mambaout"]
TORCHVISION = ["resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5", "squeezenet1_1", "efficientnet_b0", "googlenet"]


def variant(**fields: Any) -> ResolvedVariant:
    base = Base(source="qzoo", architecture="resnet8_digits")
    recipe = Recipe.model_validate({"base": base, "dataset": "digits", "variants": {"mine": fields}})
    return resolve(RecipeEntry.from_recipe(recipe, "tiny"), "mine")


def quietly(model: nn.Module, x: Tensor) -> Tensor:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", UncalibratedWarning)
        return model(x)


@pytest.mark.parametrize(("source", "name"), [
    *[("timm", name) for name in TIMM], *[("torchvision", name) for name in TORCHVISION], ("qzoo", "resnet20_cifar10"),
])  # fmt: skip
class TestEveryLibrary:
    def test_stays_the_same_model_while_quantizers_are_off(self, source: str, name: str, quantized: Quantize) -> None:
        model, x = create_base(Base(source=source, architecture=name)), torch.randn(2, 3, 96, 96)
        if name == "test_vit":
            x = torch.randn(2, 3, 160, 160)
        float_class, float_state, expected = type(model), model.state_dict(), quietly(model, x)
        parameters = dict(model.named_parameters())
        quantized(model)
        state = model.state_dict()
        assert type(model) is float_class
        assert dict(model.named_parameters()) == parameters
        assert [key for key in state if "_quantizer." not in key] == list(float_state)
        assert torch.equal(quietly(model, x), expected)

    def test_every_quantizer_is_reached(self, source: str, name: str, quantized: Quantize) -> None:
        model, seen = quantized(create_base(Base(source=source, architecture=name)), amax=1.0), set()
        for path, quantizer in quantizers(model).items():
            quantizer.register_forward_hook(lambda *_, path=path: seen.add(path))
        size = 160 if name == "test_vit" else 96
        assert quietly(model, torch.randn(1, 3, size, size)).isfinite().all()
        assert seen == set(quantizers(model))

    def test_a_meta_model_has_the_same_plan(self, source: str, name: str) -> None:
        base, scheme = Base(source=source, architecture=name), resolve_scheme("int8")
        assert plan_quantizers(meta_model(base), scheme) == plan_quantizers(create_base(base), scheme)


class TestSubclasses:
    def test_all_fifty_layers_of_efficientnet_lite0(self, quantized: Quantize) -> None:
        model = quantized(timm.create_model("tf_efficientnet_lite0"))
        assert len(quantizers(model, "weight")) == 50
        assert sum(isinstance(layer, Conv2dSame) for layer in model.modules()) == 5
        layers = [layer for layer in model.modules() if isinstance(layer, WEIGHTED)]
        assert all(isinstance(layer, QuantizedLayer) for layer in layers)

    def test_padding_inside_the_layer_is_kept(self, quantized: Quantize) -> None:
        layer, x = Conv2dSame(3, 4, 3, stride=2), torch.randn(1, 3, 9, 7)
        weight = layer.weight.detach().clone()
        quantized(layer, amax=2.0)
        plain = Conv2dSame(3, 4, 3, stride=2)
        plain.load_state_dict(
            {"weight": fake_quantize(weight, layer.weight_quantizer.amax, grid()), "bias": layer.bias}
        )
        assert layer(x).shape == (1, 4, 5, 4)
        assert torch.equal(layer(x), plain(fake_quantize(x, torch.tensor(2.0), grid())))

    def test_weight_standardization_is_kept(self, quantized: Quantize) -> None:
        layer, x = StdConv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 8)
        weight = layer.weight.detach().clone()
        quantized(layer, amax=2.0)
        seen = fake_quantize(weight, layer.weight_quantizer.amax, grid())
        standardized = F.batch_norm(seen.reshape(1, 4, -1), None, None, training=True, momentum=0.0, eps=layer.eps)
        x_seen = fake_quantize(x, torch.tensor(2.0), grid())
        assert torch.equal(layer(x), F.conv2d(x_seen, standardized.reshape_as(weight), padding=layer.padding))

    @pytest.mark.parametrize("name", ["resnetv2_18", "test_nfnet"])
    def test_standardizing_models_are_quantized_throughout(self, name: str, quantized: Quantize) -> None:
        model = timm.create_model(name)
        count = sum(isinstance(layer, WEIGHTED) for layer in model.modules())
        assert len(quantizers(quantized(model), "weight")) == count > 10

    def test_a_users_own_layer_keeps_its_forward(self, quantized: Quantize) -> None:
        class Scaled(nn.Linear):
            def forward(self, x: Tensor, scale: float = 3.0) -> Tensor:
                return scale * F.linear(x, self.weight, self.bias)

        model, x = nn.Sequential(Scaled(4, 2)), torch.randn(5, 4)
        expected = model(x)
        quantized(model)
        assert isinstance(model[0], Scaled)
        assert torch.equal(quietly(model, x), expected)
        assert torch.equal(model[0](x, scale=6.0), 2 * expected)


class TestRules:
    def test_a_rule_that_matches_nothing_names_the_nearest(self) -> None:
        model = nn.ModuleDict({"stem": nn.Conv2d(1, 1, 1), "head": nn.Linear(1, 1), "heads": nn.Linear(1, 1)})
        rules = variant(rules=[{"match": {"name": "haed"}, "input": False}])
        with pytest.raises(
            RuleError, match=r"rules\.0 of tiny_mine matches nothing: 'haed'\. Nearest: 'head', 'heads'"
        ):
            quantize_in_place(model, rules)
        assert not quantizers(model)

    def test_the_nearest_are_three_at_most(self) -> None:
        model = nn.ModuleDict({f"block{n}": nn.Linear(1, 1) for n in range(9)})
        with pytest.raises(RuleError) as error:
            quantize_in_place(model, variant(rules=[{"match": {"name": "blok1"}, "input": False}]))
        assert str(error.value).count("'block") == 3

    def test_a_rule_decides_over_the_scheme(self) -> None:
        model = create_base(Base(source="qzoo", architecture="resnet8_digits"))
        rules = [{"match": {"name": "linear"}, "input": False, "weight": False},
                 {"match": {"name": "layer1.*"}, "weight": {"bits": 4}}]  # fmt: skip
        plan = quantize_in_place(model, variant(rules=rules))
        assert plan.left_float == ["linear"]
        assert model.layer1.conv1.weight_quantizer.spec.bits == 4
        assert model.layer2.conv1.weight_quantizer.spec.bits == 8

    def test_a_model_without_layers_is_refused(self) -> None:
        with pytest.raises(RuleError, match=r"int8 quantizes nothing of this ReLU: it has 0 layers that can be"):
            quantize_in_place(nn.ReLU(), resolve_scheme("int8"))

    def test_twice_is_refused(self, quantized: Quantize) -> None:
        model = quantized(nn.Linear(2, 2))
        with pytest.raises(UnsupportedError, match=r"quantized already\. Start again from the float one\."):
            quantized(model)

    def test_rules_of_operators_are_carried_out(self) -> None:
        model = create_base(Base(source="torchvision", architecture="densenet121"))
        rules = [{"match": {"op": "cat", "type": "_DenseBlock"}, "input": {"bits": 8}},
                 {"match": {"op": "cat", "name": "*denselayer1"}, "output": {"bits": 4}}]  # fmt: skip
        plan = quantize_in_place(model, variant(rules=rules))
        at_operators = [q.path for q in plan.quantizers if q.sites]
        blocks = [f"features.denseblock{n}" for n in range(1, 5)]
        assert [path for path in at_operators if "_input_" in path] == [f"{b}.cat_input_quantizer" for b in blocks]
        assert {path for path in at_operators if "_output_" in path} == {
            f"{block}.denselayer1.cat_output_quantizer" for block in blocks
        }
        assert all(path in quantizers(model) for path in at_operators)
        assert list(model.features.denseblock1) == [f"denselayer{n}" for n in range(1, 7)]

    @pytest.mark.parametrize(("fields", "message"), [
        ({"residual": "skip"}, r"variants\.mine\.residual of tiny_mine speaks of residual additions"),
        ({"rules": [{"match": {"op": "matmull"}, "input": {"bits": 8}}]}, r"no operator 'matmull'\. The model's: relu"),
    ])  # fmt: skip
    def test_what_the_model_does_not_evaluate_is_an_error_and_nothing_changes(
        self, fields: dict[str, Any], message: str
    ) -> None:
        model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        with pytest.raises(RuleError, match=message):
            quantize_in_place(model, variant(**fields))
        assert not quantizers(model)


class TestDevicesAndDtypes:
    def test_quantizers_land_where_their_layer_is(self, quantized: Quantize) -> None:
        with torch.device("meta"):
            model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
        devices = {path: quantizer.amax.device.type for path, quantizer in quantizers(quantized(model)).items()}
        assert len(devices) == 5
        assert set(devices.values()) == {"meta"}

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_ranges_stay_float32(self, dtype: torch.dtype, quantized: Quantize) -> None:
        model = quantized(create_base(Base(source="qzoo", architecture="resnet8_digits")), amax=0.1)
        before = get_ranges(model)
        model.to(dtype)
        after = get_ranges(model)
        assert model.conv1.weight.dtype == dtype
        assert all(after[key].dtype == torch.float32 and torch.equal(after[key], before[key]) for key in before)
        with torch.no_grad():
            y = model(torch.rand(2, 1, 8, 8, dtype=dtype))
        assert y.dtype == dtype
        assert y.isfinite().all()

    def test_half_and_back_is_the_same_quantizer(self, quantized: Quantize) -> None:
        model = quantized(nn.Linear(4, 2), amax=0.1)
        x = torch.randn(3, 4)
        expected = model.input_quantizer(x)
        model.half().float()
        assert torch.equal(model.input_quantizer(x), expected)
