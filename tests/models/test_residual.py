"""Which additions are residual, and which of their operands is the skip branch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.models.bases import create_base, meta_model
from qzoo.models.operators import find_operators
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.quantizer import UncalibratedWarning
from qzoo.quant.ranges import quantizers
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.recipe import Base
from qzoo.schema.resolution.call import with_call
from qzoo.schema.resolution.plan import Operator
from qzoo.schema.resolution.resolve import resolve, resolve_scheme
from tests.each import for_each

X = torch.randn(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def residual(model: nn.Module, example: Any = None) -> list[Operator]:
    return [operator for operator in find_operators(model, example) if operator.skip]


def names(model: nn.Module) -> list[str]:
    return [path for path in quantizers(model) if "residual" in path]


class Block(nn.Module):
    """A block with a branch `f` and a downsample; `run` is its forward."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.f = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
        self.downsample = nn.Conv2d(4, 4, 1)
        self.gate = nn.Conv2d(4, 4, 1)
        self.scale = nn.Parameter(torch.full((4, 1, 1), 0.5))
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def in_place(block: Any, x: Tensor) -> Tensor:
    shortcut = x
    x = block.f(x)
    x += shortcut
    return x


def after_downsample(block: Any, x: Tensor) -> Tensor:
    identity = x
    out = block.f(x)
    if block.downsample is not None:
        identity = block.downsample(x)
    out += identity
    return F.relu(out)


def identity_first(block: Any, x: Tensor) -> Tensor:
    identity = block.downsample(x)
    identity += block.f(x)
    return identity


def statement(block: Any, x: Tensor) -> Tensor:
    y = block.f(x)
    y.add_(x)
    return y


def squeeze_excite(block: Any, x: Tensor) -> Tensor:
    y = block.f(x)
    return y * torch.sigmoid(block.gate(y.mean((2, 3), keepdim=True))) + x


def drop_path(block: Any, x: Tensor) -> Tensor:
    return x + timm.layers.drop_path(block.scale * block.f(x), 0.5, block.training)


FORMS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "x + f(x)": (lambda block, x: x + block.f(x), "left"),
    "f(x) + x": (lambda block, x: block.f(x) + x, "right"),
    "x += shortcut": (in_place, "right"),
    "out += downsample(x)": (after_downsample, "right"),
    "identity += f(x)": (identity_first, "left"),
    "y.add_(x)": (statement, "right"),
    "torch.add": (lambda block, x: torch.add(x, block.f(x)), "left"),
    "other=": (lambda block, x: torch.add(block.f(x), other=x), "right"),
    "squeeze-excite": (squeeze_excite, "right"),
    "drop-path and layer-scale": (drop_path, "left"),
    "padded shortcut": (lambda block, x: block.f(x) + F.pad(x[:, :2], (0, 0, 0, 0, 1, 1)), "right"),
}


@pytest.mark.parametrize("form", FORMS)
class TestForms:
    def test_the_skip_is_the_shorter_way_back(self, form: str) -> None:
        run, skip = FORMS[form]
        (found,) = residual(nn.Sequential(Block(run)), X)
        assert (found.module, found.skip, found.main) == ("0", skip, {"left": "right", "right": "left"}[skip])

    @for_each("training", [False, True])
    def test_while_off_the_block_is_the_original(self, form: str, training: bool, silent: None) -> None:
        block = Block(FORMS[form][0]).train(training)
        torch.manual_seed(1)
        expected = block(X)
        quantize_in_place(block, with_call(resolve_scheme("int8"), residual="both"), X)
        torch.manual_seed(1)
        block.f[1].reset_running_stats()
        assert names(block) == ["residual_quantizer", "residual_main_quantizer"]
        assert torch.equal(block(X), expected)


@pytest.mark.parametrize("run", [
    lambda block, x: block.f(x) + 1,
    lambda block, x: block.f(x) + block.scale,
    lambda block, x: block.f(x) + block.f(x).mean((2, 3), keepdim=True),
    lambda block, x: block.f(x) - x,
    lambda block, x: block.f(x) * x,
])  # fmt: skip
def test_what_is_no_residual_addition(run: Any) -> None:
    assert not residual(Block(run), X)


def test_the_number_that_a_block_adds_does_not_move_the_residual_one() -> None:
    def run(block: Any, x: Tensor) -> Tensor:
        block.f[1].num_batches_tracked.add_(1)
        return (block.f(x) + 1e-3) + x

    (found,) = residual(Block(run), X)
    assert (found.site.position, found.number, found.residual_number) == (1, 2, 1)


class TestStructures:
    def test_a_reused_block_has_one_for_each_call(self) -> None:
        block = Block(lambda block, x: x + block.f(x))
        model = nn.Sequential(block, nn.Conv2d(4, 4, 1), block)
        found = residual(model, X)
        assert [(one.module, one.site.call, one.residual_number, one.calls) for one in found] == [
            ("0", 0, 1, 2),
            ("0", 1, 2, 2),
        ]
        quantize_in_place(model, with_call(resolve_scheme("int8"), residual="skip"), X)
        assert names(model) == ["0.residual_quantizer", "0.residual_quantizer_2"]

    def test_a_pass_that_fails_half_way_does_not_shift_the_next(self, silent: None) -> None:
        model = reused_twice()
        expected = model(X)
        middle, model[1] = model[1], nn.Conv2d(9, 9, 1)
        with pytest.raises(RuntimeError, match="channels"):
            model(X)
        model[1] = middle
        assert torch.equal(model(X), expected)

    def test_an_addition_in_the_models_own_forward(self) -> None:
        model = Block(after_downsample)
        quantize_in_place(model, with_call(resolve_scheme("int8"), residual="skip"), X)
        assert names(model) == ["residual_quantizer"]
        assert isinstance(model, Block)

    def test_nested_blocks(self) -> None:
        outer = Block(lambda block, x: block.f(x) + block.downsample(x))
        outer.f = nn.Sequential(Block(lambda block, x: x + block.f(x)))
        assert [one.module for one in residual(outer, X)] == ["f.0", ""]

    def test_parallel_branches_of_one_length(self) -> None:
        (found,) = residual(Block(lambda block, x: block.downsample(x) + block.gate(x)), X)
        assert found.skip == "left"


def reused_twice() -> Any:
    block = Block(lambda block, x: x + block.f(x)).eval()
    model = nn.Sequential(block, nn.Conv2d(4, 4, 1), block).eval()
    quantize_in_place(model, with_call(resolve_scheme("int8"), residual="skip"), X)
    block.residual_quantizer.set_amax(torch.tensor(0.1))
    block.residual_quantizer_2.set_amax(torch.tensor(3.0))
    return model


class TestTutorialsPattern:
    """NVIDIA's `quantize=True`: in each bottleneck on `identity`, after the downsample, before `out += identity`."""

    BLOCKS = [f"layer{stage}.{n}" for stage, count in enumerate((3, 4, 6, 3), start=1) for n in range(count)]

    def test_all_sixteen_places_of_resnet50(self) -> None:
        entry, variant = Catalog.load().find("resnet50_int8_residual")
        model = meta_model(entry.recipe.base)
        plan = quantize_in_place(model, resolve(entry, variant))  # type: ignore[arg-type]
        assert names(model) == [f"{block}.residual_quantizer" for block in self.BLOCKS]
        assert {(one.sites[0], one.operand) for one in plan.quantizers if one.role == "residual"} == {
            (("add", 0, 0), "right")
        }
        assert len(quantizers(model, "input")) == 55
        assert len(quantizers(model, "weight")) == 54

    def test_it_sees_the_identity_after_the_downsample(self, silent: None) -> None:
        model = create_base(Base(source="torchvision", architecture="resnet50"))
        quantize_in_place(model, with_call(resolve_scheme("int8"), residual="skip"))
        entered: dict[str, Tensor] = {}
        seen: dict[str, Tensor] = {}
        for name in self.BLOCKS:
            block: Any = model.get_submodule(name)
            block.register_forward_pre_hook(lambda _, args, name=name: entered.update({name: args[0].clone()}))
            block.residual_quantizer.register_forward_hook(lambda _, x, y, name=name: seen.update({name: x[0].clone()}))
            block.residual_quantizer.set_amax(torch.tensor(1.0))
        with torch.no_grad():
            model(torch.randn(1, 3, 64, 64))
            for name in self.BLOCKS:
                block, x = model.get_submodule(name), entered[name]
                assert torch.equal(seen[name], x if block.downsample is None else block.downsample(x)), name
                assert torch.equal(block(x), by_hand(block, x)), name


def by_hand(block: Any, x: Tensor) -> Tensor:
    """The forward of NVIDIA's bottleneck with `quantize=True`, written out."""
    out = block.relu(block.bn1(block.conv1(x)))
    out = block.relu(block.bn2(block.conv2(out)))
    out = block.bn3(block.conv3(out))
    identity = x if block.downsample is None else block.downsample(x)
    return F.relu(out + fake_quantize(identity, torch.tensor(1.0), grid()))


@pytest.mark.parametrize(
    ("name", "blocks"), [("resnet18", 8), ("resnet34", 16), ("resnet101", 33), ("resnext50_32x4d", 16)]
)
def test_the_siblings_have_the_same_pattern(name: str, blocks: int) -> None:
    model = meta_model(Base(source="torchvision", architecture=name))
    found = residual(model)
    assert [one.module for one in found] == [path for path, m in model.named_modules() if hasattr(m, "downsample")]
    assert {one.skip for one in found} == {"right"}
    assert len(found) == blocks


class TestExamples:
    def test_a_model_that_takes_no_likely_image_needs_an_example(self) -> None:
        class Odd(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.conv = nn.Conv2d(4, 4, 1)

            def forward(self, x: Tensor, scale: Tensor) -> Tensor:
                return self.conv(x) * scale + x

        message = (
            r"What Odd computes is found by running it once, which failed \(TypeError: .*'scale'\)\. "
            r"It takes x, scale\. Give them, as a tuple or"
        )
        with pytest.raises(UnsupportedError, match=message):
            residual(Odd())
        assert len(residual(Odd(), (X, torch.ones(1)))) == 1

    def test_nor_does_one_without_layers(self) -> None:
        with pytest.raises(UnsupportedError, match="it has no convolution or linear layer to tell its input from"):
            residual(nn.ReLU())

    def test_the_model_is_left_in_the_mode_it_was_in(self) -> None:
        model = nn.Sequential(Block(in_place), nn.Dropout()).train()
        model[0].f[1].eval()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        residual(model, X)
        assert [module.training for module in (model, model[0], model[0].f[1], model[1])] == [True, True, False, True]
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_childs_hook_adds_is_the_childs(when: str) -> None:
    block, x = Hooked(), torch.randn(2, 4, 5, 5)
    block.conv.register_forward_pre_hook(lambda _, args: (args[0] + 1,))
    if when == "after":
        block.conv.register_forward_hook(lambda _, args, output: output + 0.1)
    model = qzoo.quantize(block, residual="skip", example=x)
    seen: list[Tensor] = []
    model.residual_quantizer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    qzoo.calibrate(model, x)
    assert torch.equal(seen[0], x)


class Rewritten(Hooked):
    """Adds what its layer gives, twice, and writes over it; `to_the_layer`: after the layer has read it, too."""

    def __init__(self, to_the_layer: bool) -> None:
        super().__init__()
        self.to_the_layer = to_the_layer

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        z = x + y
        z = z + self.conv(y if self.to_the_layer else x)
        y.mul_(2)
        return z


def calibrated(block: nn.Module) -> nn.Module:
    model = qzoo.quantize(block, residual="both", example=torch.randn(1, 4, 5, 5))
    return qzoo.calibrate(model, torch.randn(2, 4, 5, 5))


def test_what_is_added_may_be_written_to_afterwards_as_in_float() -> None:
    block = Rewritten(to_the_layer=False)
    for model in (block, calibrated(block)):
        model(torch.randn(2, 4, 5, 5)).sum().backward()
        assert model.conv.weight.grad.isfinite().all()


def test_what_a_layer_read_may_not_be_as_in_float() -> None:
    block = Rewritten(to_the_layer=True)
    for model in (block, calibrated(block)):
        loss = model(torch.randn(2, 4, 5, 5)).sum()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def _identity(block: Any, x: Tensor) -> Tensor:
    return nn.Identity()(x)


UNCHANGED = {
    "sum": lambda block, x: sum([x, block.gate(x)]),
    "sum, the other way round": lambda block, x: sum([block.gate(x), x]),
    "times one, plus nothing": lambda block, x: (x * 1 + 0) + block.gate(x),
    "divided by one": lambda block, x: block.gate(x) + (x - 0.0) / 1.0,
    "to and contiguous": lambda block, x: x.contiguous().to(x.dtype) + block.gate(x),
    "a clone that is written to": lambda block, x: x.clone().add_(block.gate(x)),
    "identity": lambda block, x: _identity(block, x) + block.gate(x),
    "dropout": lambda block, x: F.dropout(F.dropout2d(x, training=False), training=False) + block.gate(x),
    "views": lambda block, x: x.view(x.shape).reshape(x.shape).flatten(1).view_as(x) + block.gate(x),
    "there and back": lambda block, x: x.permute(0, 2, 3, 1).permute(0, 3, 1, 2) + block.gate(x),
    "out of a list": lambda block, x: torch.stack([x, x])[0] + block.gate(x),
    "positive": lambda block, x: +x.float() + block.gate(x),
    "axes swapped and swapped back": lambda block, x: x.swapdims(1, 2).swapdims(1, 2) + block.gate(x).sigmoid(),
    "cut and put together": lambda block, x: torch.hstack(torch.hsplit(x, 2)) + block.gate(x),
    "turned round and back": lambda block, x: x.fliplr().fliplr().flipud().flipud() + block.gate(x),
    "repeated once": lambda block, x: x.repeat_interleave(1, 0).repeat_interleave(1, 1) + block.gate(x),
    "true_divide": lambda block, x: torch.true_divide(x, 1).divide(1).multiply(1).subtract(0) + block.gate(x),
    "an operator of aten": lambda block, x: torch.ops.aten.add.Tensor(block.gate(x), torch.ops.aten.clone.default(x)),
}


@for_each("name", UNCHANGED)
def test_what_changes_nothing_is_no_step(name: str) -> None:
    block = Block(UNCHANGED[name]).eval()
    (addition,) = residual(block, X)
    quantize_in_place(block, with_call(resolve_scheme("int8"), residual="skip"), X)
    seen: list[Tensor] = []
    block.residual_quantizer.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", UncalibratedWarning)
        block(X)
    assert torch.equal(seen[0], X), addition


WEIGHED = {
    "arithmetic against a layer": lambda block, x: (x * 0.5 + 0.1) + block.gate(x),
    "an activation against a layer": lambda block, x: F.relu(x) + block.gate(x),
    "two activations against a layer": lambda block, x: F.relu(x).sigmoid() + block.gate(x),
    "pooling against two layers": lambda block, x: F.avg_pool2d(x, 1).relu() * 2 + block.downsample(block.gate(x)),
}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", WEIGHED)
def test_layers_with_weights_weigh_more(name: str, turned: bool) -> None:
    def run(block: Any, x: Tensor) -> Tensor:
        return WEIGHED[name](block, x)

    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.downsample = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            branch, skip = self.gate(x), (x * 0.5 + 0.1)
            return branch + skip

    model = Turned() if turned else Block(run)
    (addition,) = residual(model.eval(), X)
    assert addition.skip == ("right" if turned else "left")
