"""`nn.MultiheadAttention`, quantized: against attention written out by hand, however it is called."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.models.quantize import float_copy
from qzoo.quant.ranges import get_ranges, quantizers
from tests.each import for_each

X = torch.randn(3, 6, 16, generator=torch.Generator().manual_seed(0))
MEMORY = torch.randn(3, 4, 16, generator=torch.Generator().manual_seed(1))
PADDED = torch.tensor([[False] * 6, [False] * 4 + [True] * 2, [False] * 3 + [True] * 3])
CAUSAL = torch.full((6, 6), -math.inf).triu(1)


class Attends(nn.Module):
    """Calls attention in one way."""

    def __init__(self, batch_first: bool = True, **how: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=batch_first)
        nn.init.normal_(self.attention.in_proj_bias, std=0.1)
        self.how, self.memory = how, None

    def forward(self, x: Tensor) -> Tensor:
        memory = x if self.memory is None else self.memory
        return self.attention(x, memory, memory, **self.how)[0]


def quantized(model: nn.Module) -> nn.Module:
    return qzoo.calibrate(qzoo.quantize(model.eval(), "int8_vit", example=X), [X])


def on_grid(x: Tensor, amax: Tensor, low: int = -128, high: int = 127) -> Tensor:
    """Returns `x` rounded to the grid, with the gradient of what it is rounded from, as far as the range goes."""
    rounded = (x.detach() * (high / amax)).round().clamp(low, high) / (high / amax)
    passed = torch.where(x.abs() <= amax, x, x.detach())
    return passed + (rounded - passed).detach()


def by_hand(model: nn.Module, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
    """Attention of 4 heads, of quantized operands, out of the formula of Vaswani et al. 2017."""
    own, ranges = dict(model.attention.named_parameters()), get_ranges(model)

    def rounded(name: str, value: Tensor, high: int = 127) -> Tensor:
        return on_grid(value, ranges[f"attention.{name}_quantizer.amax"], 0 if high == 255 else -128, high)

    def heads(y: Tensor) -> Tensor:
        return y.unflatten(-1, (4, 4)).transpose(1, 2)

    weight, bias = rounded("in_proj_weight", own["in_proj_weight"]), own["in_proj_bias"]
    q = F.linear(rounded("in_proj_input", x), weight[:16], bias[:16])
    k, v = F.linear(rounded("in_proj_input", memory), weight[16:], bias[16:]).chunk(2, -1)
    scores = rounded("sdpa_query", heads(q) / 2) @ rounded("sdpa_key", heads(k)).transpose(-2, -1)
    scores = scores if mask is None else scores + mask
    mixed = rounded("sdpa_softmax", scores.softmax(-1), 255) @ rounded("sdpa_value", heads(v))
    mixed = rounded("out_proj_input", mixed.transpose(1, 2).flatten(2))
    return F.linear(mixed, rounded("out_proj_weight", own["out_proj.weight"]), own["out_proj.bias"])


def padding(mask: Tensor) -> Tensor:
    return torch.zeros(3, 1, 1, 6).masked_fill(mask[:, None, None], -math.inf)


WAYS = {
    "self": ({"need_weights": False}, None),
    "weights": ({}, None),
    "padded": ({"need_weights": False, "key_padding_mask": PADDED}, padding(PADDED)),
    "padded weights": ({"key_padding_mask": PADDED}, padding(PADDED)),
    "causal": ({"need_weights": False, "attn_mask": CAUSAL, "is_causal": True}, CAUSAL),
    "causal weights": ({"attn_mask": CAUSAL.isinf()}, CAUSAL),
}


@for_each("way", WAYS)
@pytest.mark.filterwarnings("ignore:Support for mismatched")
def test_attention_is_that_written_out_by_hand_however_it_is_called(way: str) -> None:
    model = quantized(Attends(need_weights=False))
    model.how, mask = WAYS[way]
    with torch.no_grad():
        torch.testing.assert_close(model(X), by_hand(model, X, X, mask), rtol=0, atol=0.02)  # a step, where one flips
        assert float((model(X) - by_hand(model, X, X, mask)).abs().mean()) < 1e-4


def test_of_other_keys_the_parts_of_the_projection_are_those_of_the_whole() -> None:
    model = quantized(Attends(need_weights=False))
    model.memory = MEMORY
    with torch.no_grad():
        assert float((model(X) - by_hand(model, X, MEMORY)).abs().mean()) < 1e-4


class Attends2(nn.Module):
    """Calls torch's function of attention by itself, twice, and multiplies besides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.one, self.two = (nn.MultiheadAttention(16, 4) for _ in range(2))
        self.need_weights = False

    def forward(self, x: Tensor) -> Tensor:
        for own in (self.one, self.two):
            out = own.out_proj
            weights = (own.in_proj_weight, own.in_proj_bias, None, None, False, 0.0, out.weight, out.bias)
            x = F.multi_head_attention_forward(x, x, x, 16, 4, *weights, need_weights=self.need_weights)[0]
        return (30 * x) @ x.transpose(1, 2)


def test_products_after_attention_keep_their_quantizers_whichever_way_it_is_computed() -> None:
    model = quantized(Attends2())
    with torch.no_grad():
        expected = model(X)
        model.need_weights = True
        assert float((model(X) - expected).abs().mean() / expected.abs().mean()) < 0.01
    assert len(quantizers(model)) == 18


class Instead(nn.Module):
    """Computes with weights of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(16, 16))

    def forward(self, x: Tensor, *_: object, **__: object) -> tuple[Tensor, None]:
        return x @ self.w, None


@for_each("replace", ["attention", "attention.out_proj"])
def test_attention_that_is_replaced_is_told_of(replace: str) -> None:
    model = quantized(Reads())
    if replace == "attention":
        model.attention = Instead()
    else:
        model.attention.out_proj = nn.Linear(16, 16)
    with pytest.raises(UnsupportedError, match=r"quantizers that int8_vit gave this model are gone: attention\."):
        qzoo.evaluate(model, [X])


@for_each(("batch_first", "need_weights"), [(True, True), (True, False), (False, True), (False, False)])
def test_with_quantizers_off_nothing_changes(batch_first: bool, need_weights: bool) -> None:
    float_model = Attends(batch_first, need_weights=need_weights).eval()
    model = qzoo.quantize(float_model, "int8_vit", example=X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is not calibrated
        assert torch.equal(model(X), float_model(X))
        assert torch.equal(model.train()(X), float_model.train()(X))


def test_gradients_reach_every_projection() -> None:
    model = quantized(Attends(need_weights=False)).train()
    twin = copy.deepcopy(model)
    model(X).square().sum().backward()
    by_hand(twin, X, X).square().sum().backward()
    others = dict(twin.named_parameters())
    for name, parameter in model.named_parameters():
        # Steps may flip, in a softmax computed otherwise, so the bulk is compared.
        off = (parameter.grad - others[name].grad).abs().mean() / others[name].grad.abs().mean()
        assert float(off) < 1e-5, name


class Reads(nn.Module):
    """Has one layer that an operator computes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.head = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return quantized(Reads())


def test_copies_files_and_graphs_compute_the_same(model: nn.Module) -> None:
    with torch.no_grad():
        expected = model(X)
        again = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.export.export(model, (X,)).module()]
        assert all(torch.equal(one(X), expected) for one in again)
        assert torch.equal(torch.compile(model, fullgraph=True, backend="aot_eager")(X), expected)
    with torch.inference_mode():
        assert torch.equal(model(X), expected)


def test_a_float_copy_is_the_float_model_with_nothing_left_of_quantizers(model: nn.Module) -> None:
    plain, untouched = float_copy(model), Reads().eval()
    assert torch.equal(plain(X), untouched(X))
    for one, other in zip(plain.modules(), untouched.modules(), strict=True):
        assert type(one) is type(other)
        assert not one._forward_pre_hooks
        assert not one._forward_hooks
        assert not [name for name in vars(one) if name.startswith("operator_") or name.endswith(("_parent", "_caches"))]


def test_ranges_and_full_checkpoints_bring_it_back(model: nn.Module, tmp_path) -> None:  # type: ignore[no-untyped-def]
    qzoo.save(model, tmp_path / "ranges.safetensors")
    fresh = qzoo.load(qzoo.quantize(Reads().eval(), "int8_vit", example=X), tmp_path / "ranges.safetensors")
    with torch.no_grad():
        assert torch.equal(fresh(X), model(X))


def test_a_sensitivity_analysis_knows_its_projections_as_layers(model: nn.Module) -> None:
    found = {layer.name: layer.rule for layer in qzoo.sensitivity(model, [X], mend=0).layers}
    assert found["attention.in_proj"] == {"match": {"name": "attention.in_proj"}, "input": False, "weight": False}
    assert {"attention.out_proj", "attention.sdpa_softmax_quantizer", "head"} <= found.keys()


def test_a_weight_that_changes_is_quantized_anew(model: nn.Module) -> None:
    model = copy.deepcopy(model)
    with torch.no_grad():
        before = model(X)
        model.attention.in_proj_weight.mul_(0.5)
        assert not torch.equal(model(X), before)
    assert len(quantizers(model)) == 10
