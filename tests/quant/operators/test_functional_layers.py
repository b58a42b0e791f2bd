"""Operators of a module's own forward that read a parameter: against the same arithmetic, written out."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qzoo
from qzoo.models.float_weights import FloatWeightsWarning
from qzoo.quant.ranges import get_ranges, quantizers
from tests.each import for_each

X = torch.randn(5, 8, generator=torch.Generator().manual_seed(0))


class Computes(nn.Module):
    """Computes an expression of an input and a weight."""

    def __init__(self, expression: Callable[..., Tensor], *shapes: tuple[int, ...]) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.expression = expression
        self.w = nn.Parameter(torch.randn(shapes[0], generator=generator))
        self.v = nn.Parameter(torch.randn(shapes[1], generator=generator)) if shapes[1:] else None

    def forward(self, x: Tensor) -> Tensor:
        return self.expression(x, self.w) if self.v is None else self.expression(x, self.w, self.v)


def on_grid(x: Tensor, amax: Tensor) -> Tensor:
    return (x * (127 / amax)).round().clamp(-128, 127) / (127 / amax)


def rows(weight: Tensor, axis: int | None) -> Tensor:
    """Returns a weight on a grid for each slice along an axis."""
    if axis is None:
        return on_grid(weight, weight.abs().max())
    amax = weight.abs().amax([dim for dim in range(weight.dim()) if dim != axis], keepdim=True)
    return on_grid(weight, amax)


EXPRESSIONS = {
    "linear": (F.linear, (4, 8), 0),
    "linear by keyword": (lambda x, w: F.linear(input=x, weight=w), (4, 8), 0),
    "matmul": (lambda x, w: x @ w, (8, 4), 1),
    "matmul from the left": (lambda x, w: (w @ x.T).T, (4, 8), 0),
    "transposed": (lambda x, w: x @ w.t(), (4, 8), 0),
    "addmm": (lambda x, w: torch.addmm(torch.ones(4), x, w), (8, 4), 1),
    "addmm_": (lambda x, w: torch.ones(len(x), 8).addmm_(x, w) + x, (8, 8), 1),
    "baddbmm": (lambda x, w: torch.baddbmm(torch.ones(1), x[:, None], w.expand(len(x), -1, -1))[:, 0], (8, 4), 1),
    "einsum": (lambda x, w: torch.einsum("bi,oi->bo", x, w), (4, 8), 0),
    "tensordot": (lambda x, w: torch.tensordot(x, w, dims=1), (8, 4), 1),
    "inner": (torch.inner, (4, 8), 0),
    "mv": (lambda x, w: torch.mv(w, x[0])[None], (4, 8), 0),
    "conv1d": (lambda x, w: F.conv1d(x[:, None], w).flatten(1), (3, 1, 4), 0),
    "conv_transpose1d": (lambda x, w: F.conv_transpose1d(x[..., None], w).flatten(1), (8, 3, 2), 1),
    "computed": (lambda x, w: F.linear(x, w / 2), (4, 8), 0),
    "a part": (lambda x, w: x @ w[:, 1:5], (8, 6), 1),
    "a vector": (lambda x, w: x @ w, (8,), None),
}


@for_each("name", EXPRESSIONS)
def test_input_and_weight_are_quantized_and_nothing_else(name: str) -> None:
    expression, shape, axis = EXPRESSIONS[name]
    float_model = Computes(expression, shape).eval()
    model = qzoo.quantize(float_model, "int8", example=X)
    with torch.no_grad(), pytest.warns(UserWarning, match="not calibrated"):
        assert torch.equal(model(X), float_model(X))
    qzoo.calibrate(model, [X])
    seen = X[:1] if name == "mv" else X
    expected = expression(on_grid(seen, seen.abs().max()), rows(float_model.w.detach(), axis))
    if name == "addmm_":
        expected = expected - on_grid(X, X.abs().max()) + X
    with torch.no_grad():
        torch.testing.assert_close(model(X), expected, rtol=1e-5, atol=1e-5)
    assert len(get_ranges(model)) == 2


def test_a_weight_that_is_read_in_two_ways_is_two_layers() -> None:
    model = Computes(lambda x, w: F.linear(x, w).relu() @ w, (4, 8)).eval()
    model = qzoo.calibrate(qzoo.quantize(model, "int8", example=X), [X])
    assert {name: tuple(amax.shape) for name, amax in get_ranges(model).items() if "weight" in name} == {
        "w_weight_quantizer.amax": (4, 1),
        "matmul_weight_quantizer.amax": (1, 8),
    }


def test_an_input_that_is_longer_than_the_example_is_quantized_to_its_end() -> None:
    class Steps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.w, self.u = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(3, 3))

        def forward(self, x: Tensor) -> Tensor:
            state = torch.zeros(len(x), 3)
            for t in range(x.shape[1] // 2):
                state = torch.tanh(x[:, 2 * t : 2 * t + 2] @ self.w + state @ self.u)
            return state

    float_model = Steps().eval()
    model = qzoo.calibrate(qzoo.quantize(float_model, "int8", example=X[:, :4]), [X])
    ranges, state = get_ranges(model), torch.zeros(5, 3)
    for t in range(4):
        x = on_grid(X[:, 2 * t : 2 * t + 2], ranges["w_input_quantizer.amax"])
        last = on_grid(state, ranges["u_input_quantizer.amax"])
        state = torch.tanh(x @ rows(float_model.w.detach(), 1) + last @ rows(float_model.u.detach(), 1))
    with torch.no_grad():
        torch.testing.assert_close(model(X), state, rtol=1e-5, atol=1e-5)


def test_recurrent_layers_have_quantized_weights_and_inputs() -> None:
    torch.manual_seed(0)
    float_model = nn.Sequential(nn.LSTM(8, 3, batch_first=True)).eval()
    x = torch.randn(2, 4, 8)
    model = qzoo.calibrate(qzoo.quantize(float_model, "int8", example=x), [x])
    for name in ("weight_ih_l0", "weight_hh_l0"):
        parameter = getattr(float_model[0], name)
        parameter.data = rows(parameter.data, 0)
    with torch.no_grad():
        expected, _ = float_model(on_grid(x, x.abs().max()))
        torch.testing.assert_close(model(x)[0], expected, rtol=1e-5, atol=1e-6)
    assert list(quantizers(model)) == [
        "0.ih_l0_input_quantizer",
        "0.ih_l0_weight_quantizer",
        "0.hh_l0_weight_quantizer",
    ]


class Decodes(nn.Module):
    """Attends to another sequence: the projection is read in parts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.decoder = nn.TransformerDecoderLayer(8, 2, 16, batch_first=True, dropout=0.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(x, x[:, :3] * 2)


class Halves(nn.Module):
    """Reads a parameter in halves."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w = nn.Parameter(torch.randn(8, 4))

    def forward(self, x: Tensor) -> Tensor:
        left, right = self.w.chunk(2, 1)
        return torch.tanh(x @ left) * (x @ right)


@for_each("made", [Decodes, Halves])
def test_parts_of_a_parameter_are_the_same_in_a_captured_graph(made: type[nn.Module]) -> None:
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(2))
    model = qzoo.calibrate(qzoo.quantize(made().eval(), "int8_vit", example=x), [x])
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected)
        torch.testing.assert_close(torch.export.export(model, (x,)).module()(x), expected)


def test_a_recurrent_layer_runs_in_a_model_that_is_compiled() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.LSTM(8, 3, batch_first=True)).eval()
    x = torch.randn(2, 4, 8)
    model = qzoo.calibrate(qzoo.quantize(model, "int8", example=x), [x])
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, backend="eager")(x)[0], model(x)[0])


def test_a_parameter_may_lie_anywhere_in_its_memory_and_be_no_parameter() -> None:
    model = qzoo.quantize(Halves().eval(), "int8", example=X)
    flat = torch.cat([torch.full((7,), 9.0), model.w.detach().flatten()])
    expected = Halves()(X)
    model.w.data = flat[7:].view_as(model.w)
    with torch.no_grad(), pytest.warns(UserWarning, match="not calibrated"):
        assert torch.equal(model(X), expected)
    qzoo.calibrate(model, [X])
    with torch.no_grad():
        given = torch.func.functional_call(model, {"w": model.w.detach().clone()}, (X,))
        assert torch.equal(given, model(X))


@for_each("options", [{"sparse": True}, {"max_norm": 1.0}])
def test_a_table_that_training_writes_to_stays_in_float_and_is_told_of(options: dict[str, object]) -> None:
    model = nn.Sequential(nn.Embedding(10, 4, **options), nn.Flatten(), nn.Linear(12, 2)).eval()
    with pytest.warns(FloatWeightsWarning, match=r"stay in float: 0\.weight"):
        found = qzoo.quantize(model, "int8", example=torch.zeros(1, 3, dtype=torch.int64))
    assert list(quantizers(found)) == ["2.input_quantizer", "2.weight_quantizer"]


class Auxiliary(nn.Module):
    """Computes its weights; in training another classifier comes first, of weights that have the same shape."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.w, self.aux = (nn.Parameter(torch.randn(3, 8)) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        aux = F.linear(x, F.normalize(self.aux)) if self.training else None
        return F.linear(x, F.normalize(self.w)), aux


def test_a_computed_weight_is_known_by_what_it_is_computed_from() -> None:
    model = qzoo.quantize(Auxiliary().eval(), "int8", example=X)
    qzoo.calibrate(model, [X])
    with torch.no_grad():
        expected = model(X)[0]
        found, aux = model.train()(X)
    assert torch.equal(found, expected)
    assert torch.equal(aux, F.linear(X, F.normalize(model.aux)).detach())


def test_rules_know_a_functional_layer_by_name_class_and_kind() -> None:
    model = Computes(lambda x, w, v: F.linear(x @ w, v), (8, 4), (3, 4)).eval()
    for match in ({"name": "w"}, {"op": "matmul"}):
        found = qzoo.quantize(model, "int8", rules=[{"match": match, "input": {"bits": 4}}], example=X)
        assert [found.w_input_quantizer.spec.bits, found.v_input_quantizer.spec.bits] == [4, 8]
    found = qzoo.quantize(model, "int8", skip=["v"], example=X)
    assert list(quantizers(found)) == ["w_input_quantizer", "w_weight_quantizer"]


def test_weights_that_no_rule_can_name_are_told_of_with_their_share() -> None:
    model = Computes(lambda x, w, v: (x @ w)[:, None].mul(v).sum(2), (8, 4), (3, 4)).eval()
    with pytest.warns(FloatWeightsWarning, match=r"^27\.3 % of the weights of Computes stay in float: v\. "):
        qzoo.quantize(model, "int8", example=X)
    shares = {one.path: (one.weights, one.macs) for one in qzoo.explain(model, "int8", example=X).float_weights}
    assert shares == {"v": (27.2727, None)}
