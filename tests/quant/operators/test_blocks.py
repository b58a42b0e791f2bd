"""Quantizers at the operators of a block's own forward, on blocks of a few lines."""

from __future__ import annotations

import copy
import io
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.operators.blocks import quantize_operators
from qzoo.quant.operators.own_operators import Places
from qzoo.quant.quantizer import TensorQuantizer, UncalibratedWarning
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.schema.resolution.plan import Site

ADD = Site("add", 0, 0)
X = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def quantized(block: nn.Module, places: Places, amax: float | None = 0.5, calls: int = 1) -> Any:
    """Returns the block with a quantizer at each place; a range makes them quantize."""
    names = {name for operands in places.values() for name in operands.values()}
    made = {name: TensorQuantizer(QuantizerSpec()) for name in sorted(names)}
    for quantizer in made.values():
        if amax is not None:
            quantizer.set_amax(torch.tensor(amax))
    quantize_operators(block, made, places, calls)
    return block


def coarse(x: Tensor) -> Tensor:
    return fake_quantize(x, torch.tensor(0.5), grid())


class Block(nn.Module):
    """A block around one linear layer; `run` is its forward."""

    def __init__(self, run: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.f = nn.Linear(3, 3)
        self.run = run

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self.f, x)


def plus_is(f: Any, x: Tensor) -> Tensor:
    y = f(x)
    y += x
    return y


def identity_is(f: Any, x: Tensor) -> Tensor:
    identity = x.clone()
    identity += f(x)
    return identity


def statement(f: Any, x: Tensor) -> Tensor:
    y = f(x)
    y.add_(x)
    return y


def identity_statement(f: Any, x: Tensor) -> Tensor:
    identity = x.clone()
    torch.Tensor.add_(identity, f(x))
    return identity


FORMS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "x + f(x)": (lambda f, x: x + f(x), "left"),
    "f(x) + x": (lambda f, x: f(x) + x, "right"),
    "y += x": (plus_is, "right"),
    "identity += f(x)": (identity_is, "left"),
    "y.add_(x)": (statement, "right"),
    "identity.add_(y)": (identity_statement, "left"),
    "torch.add": (lambda f, x: torch.add(f(x), x), "right"),
    "other=": (lambda f, x: torch.add(input=f(x), other=x), "right"),
    "method, other=": (lambda f, x: x.add(other=f(x)), "left"),
}


@pytest.mark.parametrize("form", FORMS)
class TestForms:
    def test_the_chosen_operand_is_quantized_and_no_other(self, form: str) -> None:
        run, skip = FORMS[form]
        block = quantized(Block(run), {ADD: {skip: "residual_quantizer"}})
        assert torch.equal(block(X), coarse(X) + block.f(X))
        other = quantized(Block(run), {ADD: {"left" if skip == "right" else "right": "residual_main_quantizer"}})
        assert torch.equal(other(X), X + coarse(other.f(X)))

    def test_while_off_nothing_changes(self, form: str) -> None:
        block = Block(FORMS[form][0])
        expected, both = block(X), {"left": "add_left_quantizer", "right": "add_right_quantizer"}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UncalibratedWarning)
            assert torch.equal(quantized(block, {ADD: both}, amax=None)(X), expected)

    def test_the_gradient_is_that_of_the_quantizer(self, form: str) -> None:
        run, skip = FORMS[form]
        block = quantized(Block(run), {ADD: {skip: "residual_quantizer"}})
        x, ours = X.clone().requires_grad_(), torch.randn(4, 3)
        block(x).backward(ours)
        # What is clipped passes no gradient; the linear layer passes its own.
        expected = ours * (X.abs() <= 0.5) + ours @ block.f.weight
        assert (X.abs() > 0.5).any()
        torch.testing.assert_close(x.grad, expected)
        torch.testing.assert_close(block.f.weight.grad, ours.T @ X)

    def test_the_output_may_be_quantized(self, form: str) -> None:
        block = quantized(Block(FORMS[form][0]), {ADD: {"output": "add_output_quantizer"}})
        assert torch.equal(block(X), coarse(X + block.f(X)))


@pytest.mark.parametrize("relu", [lambda x: F.relu(x, inplace=True), torch.relu_, torch.Tensor.relu_])
@pytest.mark.parametrize("place", ["input", "output"])
def test_who_holds_what_is_written_in_place_sees_the_quantized_result(relu: Any, place: str) -> None:
    def run(f: Any, x: Tensor) -> Tensor:
        y = f(x)
        relu(y)
        return y

    block = quantized(Block(run), {Site("relu", 0, 0): {place: "relu_quantizer"}})
    assert torch.equal(block(X), coarse(block.f(X)).relu())


class TestCounting:
    def test_numbers_and_integers_are_told_apart(self) -> None:
        counter = torch.tensor(0)

        def run(f: Any, x: Tensor) -> Tensor:
            counter.add_(1)
            return x + f(x)

        block = quantized(Block(run), {ADD: {"left": "residual_quantizer"}})
        assert torch.equal(block(X), coarse(X) + block.f(X))
        assert counter == 1

    @pytest.mark.parametrize("training", [True, False])
    def test_what_children_add_does_not_count(self, training: bool) -> None:
        block = Block(lambda f, x: f(x) + x)
        block.f = nn.Sequential(Block(lambda f, x: x + 2 * f(x)), nn.BatchNorm1d(3))
        quantized(block, {ADD: {"right": "residual_quantizer"}}).train(training)
        plain = copy.deepcopy(block.f)
        assert torch.equal(block(X), plain(X) + coarse(X))

    def test_blocks_within_blocks_count_apart(self) -> None:
        inner = Block(lambda f, x: x + f(x))
        outer = Block(lambda f, x: (x * 2 + f(x)) + x)
        outer.f = inner
        quantized(outer, {Site("add", 0, 1): {"right": "residual_quantizer"}})
        quantized(inner, {ADD: {"left": "residual_quantizer"}})
        assert torch.equal(outer(X), (X * 2 + (coarse(X) + inner.f(X))) + coarse(X))

    def test_each_call_of_a_reused_block_has_its_own(self) -> None:
        block = Block(lambda f, x: x + f(x))
        places = {Site("add", call, 0): {"left": f"residual_quantizer_{call + 1}"} for call in (0, 1)}
        quantized(block, places, amax=0.5, calls=2)
        block.residual_quantizer_2.set_amax(torch.tensor(0.25))
        for _ in range(2):
            assert torch.equal(block(X), coarse(X) + block.f(X))
            assert torch.equal(block(X), fake_quantize(X, torch.tensor(0.25), grid()) + block.f(X))


class Faulty(nn.Module):
    """A child that fails when told to."""

    fails = False

    def forward(self, x: Tensor) -> Tensor:
        if self.fails:
            raise ArithmeticError("told to")
        return x * 3


@pytest.mark.parametrize("caught", [True, False])
def test_an_exception_inside_a_child_leaves_nothing_behind(caught: bool) -> None:
    def run(f: Any, x: Tensor) -> Tensor:
        try:
            y = f(x)
        except ArithmeticError:
            if not caught:
                raise
            y = x * 3
        return y + x

    block = Block(run)
    block.f = nn.Sequential(Faulty())
    quantized(block, {ADD: {"right": "residual_quantizer"}})
    expected = X * 3 + coarse(X)
    block.f[0].fails = True
    if caught:
        assert torch.equal(block(X), expected)
    else:
        with pytest.raises(ArithmeticError, match="told to"):
            block(X)
    block.f[0].fails = False
    assert torch.equal(block(X), expected)


def test_threads_do_not_see_each_others_operators() -> None:
    block = Block(lambda f, x: x + f(x))
    places = {Site("add", call, 0): {"left": f"residual_quantizer_{call + 1}"} for call in (0, 1)}
    model = nn.Sequential(quantized(block, places, calls=2), block)
    block.residual_quantizer_2.set_amax(torch.tensor(0.25))
    barrier, inputs, got = threading.Barrier(4), [X * n for n in range(1, 5)], {}
    with torch.no_grad():
        expected = [model(x) for x in inputs]

    def work(n: int) -> None:
        with torch.no_grad():
            barrier.wait()
            got[n] = [model(inputs[n]) for _ in range(50)]

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(y, expected[n]) for n in range(4) for y in got[n])


def by_pickle(module: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


class SumOfTwo(nn.Sequential):
    """Adds what two members make of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return self[0](x) + self[-1](x)


class Through(nn.Sequential):
    """Runs its members one after the other, and adds its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + x


class Dense(nn.ModuleDict):
    """Adds what each member makes of its input, as torchvision's dense blocks go through theirs."""

    def forward(self, x: Tensor) -> Tensor:
        made = [layer(x) for name, layer in self.items() if name in self]
        return made[0] + made[len(self) - 1]


class Listed(nn.ModuleList):
    """A list with a forward of its own."""

    def forward(self, x: Tensor) -> Tensor:
        made = [layer(x) for layer in self]
        return made[0] + made[len(self) - 1]


def containers() -> list[nn.Module]:
    one, two = nn.Linear(3, 3), nn.Linear(3, 3)
    return [SumOfTwo(one, two), Through(one, two), Dense({"a": one, "b": two}), Listed([one, two])]


@pytest.mark.parametrize("container", containers(), ids=lambda container: type(container).__name__)
class TestContainers:
    def test_its_quantizers_are_no_members(self, container: Any) -> None:
        expected, members = container(X), list(container.children())
        block = quantized(copy.deepcopy(container), {ADD: {"right": "residual_quantizer"}}, amax=1e6)
        assert len(block) == 2
        assert [*block.keys()] == ["a", "b"] if isinstance(block, nn.ModuleDict) else len([*block]) == 2
        assert not any(isinstance(member, TensorQuantizer) for member in block)
        # The range is so wide that the addition loses its right operand.
        lost = {"Through": X}.get(type(container).__name__, members[1](X))
        torch.testing.assert_close(block(X), expected - lost)

    def test_copies_have_them_too(self, container: Any) -> None:
        block = quantized(copy.deepcopy(container), {ADD: {"right": "residual_quantizer"}})
        for again in (copy.deepcopy(block), by_pickle(block)):
            assert isinstance(again, type(container))
            assert torch.equal(again(X), block(X))
            again.residual_quantizer.set_amax(torch.tensor(0.1))
            assert not torch.equal(again(X), block(X))


def test_a_slice_of_a_container_is_one_without_operators() -> None:
    block = quantized(Through(nn.Linear(3, 3), nn.Linear(3, 3)), {ADD: {"right": "residual_quantizer"}})
    assert torch.equal(block[:1](X), block[0](X) + X)


class TestCopies:
    @pytest.mark.parametrize("again", [copy.deepcopy, by_pickle])
    def test_are_quantized_blocks_of_their_own(self, again: Any) -> None:
        block = quantized(Skip(3, 3), {ADD: {"left": "residual_quantizer"}})
        other = again(nn.Sequential(block))[0]
        assert type(other) is type(block)
        assert torch.equal(other(X), block(X))
        other.residual_quantizer.set_amax(torch.tensor(0.1))
        assert torch.equal(other(X), fake_quantize(X, torch.tensor(0.1), grid()) + other.linear(X))

    def test_a_state_dict_carries_the_range(self) -> None:
        block = quantized(Skip(3, 3), {ADD: {"left": "residual_quantizer"}})
        other = quantized(Skip(3, 3), {ADD: {"left": "residual_quantizer"}}, amax=None)
        assert set(block.state_dict()) == {"linear.weight", "linear.bias", "residual_quantizer.amax"}
        other.load_state_dict(block.state_dict())
        assert torch.equal(other(X), block(X))

    @pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
    def test_another_dtype(self, dtype: torch.dtype) -> None:
        block = quantized(Skip(3, 3), {ADD: {"left": "residual_quantizer"}}).to(dtype)
        x = X.to(dtype)
        assert block.residual_quantizer.amax.dtype == torch.float32
        assert torch.equal(block(x), coarse(x) + block.linear(x))
        assert block(x).dtype == dtype


class Skip(nn.Module):
    """A block that can be pickled."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.linear(x)
