from __future__ import annotations

import copy
import io
import types
from unittest import mock

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from qzoo.errors import UnsupportedError
from qzoo.quant.calibration.collecting import calibrate_weights
from qzoo.quant.derived import underive
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.layers import QuantizedLayer, channel_shape, quantize_layer
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.quantizer import QuantizerSpec
from tests.each import for_each

LAYERS = {
    "conv1d": (lambda: nn.Conv1d(3, 4, 3), (2, 3, 8)),
    "conv2d": (lambda: nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (2, 3, 8, 8)),
    "conv3d": (lambda: nn.Conv3d(2, 4, 3), (2, 2, 5, 5, 5)),
    "grouped": (lambda: nn.Conv2d(4, 8, 3, groups=4), (2, 4, 8, 8)),
    "transpose1d": (lambda: nn.ConvTranspose1d(3, 4, 3), (2, 3, 8)),
    "transpose2d": (lambda: nn.ConvTranspose2d(4, 6, 3, groups=2), (2, 4, 8, 8)),
    "transpose3d": (lambda: nn.ConvTranspose3d(2, 4, 3), (2, 2, 4, 4, 4)),
    "linear": (lambda: nn.Linear(6, 5), (2, 6)),
}
POOLS = {
    f"{type(pool).__name__}": (pool, (1, 2, 8, 8, 8)[: 2 + dims])
    for dims, pools in {
        1: [nn.AvgPool1d(2), nn.MaxPool1d(2), nn.AdaptiveAvgPool1d(1)],
        2: [nn.AvgPool2d(2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)],
        3: [nn.AvgPool3d(2), nn.MaxPool3d(2), nn.AdaptiveAvgPool3d(1)],
    }.items()
    for pool in pools
}


def quantized(layer: nn.Module, per: str = "channel") -> nn.Module:
    shape = channel_shape(layer) if per == "channel" else ()
    weight = TensorQuantizer(QuantizerSpec(per=per), shape)
    quantize_layer(layer, {"input": TensorQuantizer(QuantizerSpec()), "weight": weight})
    calibrate_weights(layer)
    layer.input_quantizer.set_amax(torch.tensor(2.0))
    return layer.eval()


def expected(layer: nn.Module, x: Tensor) -> Tensor:
    """What a float layer with hand-quantized input and weight gives."""
    plain = copy.deepcopy(layer)
    plain.__class__ = type(layer).float_class
    with torch.no_grad():
        plain.weight.copy_(fake_quantize(plain.weight, layer.weight_quantizer.amax, grid()))
    return plain(fake_quantize(x, torch.tensor(2.0), grid()))


@for_each("name", LAYERS)
@for_each("per", ["tensor", "channel"])
def test_is_the_layer_on_quantized_input_and_weight(name: str, per: str) -> None:
    make, shape = LAYERS[name]
    layer, x = quantized(make(), per), torch.randn(shape)
    assert torch.equal(layer(x), expected(layer, x))
    with torch.no_grad():
        assert torch.equal(layer(x), expected(layer, x))
        assert torch.equal(layer(x), expected(layer, x)), "from the cache"


@for_each("name", POOLS)
def test_pooling_quantizes_its_input(name: str) -> None:
    pool, shape = POOLS[name]
    layer, x = copy.deepcopy(pool), torch.randn(shape)
    quantizer = TensorQuantizer(QuantizerSpec())
    quantizer.set_amax(torch.tensor(1.5))
    quantize_layer(layer, {"input": quantizer})
    assert isinstance(layer, type(pool))
    assert torch.equal(layer(x), pool(fake_quantize(x, torch.tensor(1.5), grid())))


def test_keeps_identity_class_and_state_dict_keys() -> None:
    layer = nn.Conv2d(3, 4, 3)
    keys, same = set(layer.state_dict()), layer
    quantized(layer)
    assert layer is same
    assert isinstance(layer, nn.Conv2d)
    assert keys <= set(layer.state_dict())
    assert set(layer.state_dict()) - keys == {"input_quantizer.amax", "weight_quantizer.amax"}
    assert [name for name, _ in layer.named_parameters()] == ["weight", "bias"]


def _init(layer: nn.Module) -> None:
    nn.init.uniform_(layer.weight, -0.1, 0.1)


def _load(layer: nn.Module) -> None:
    state = {key: value * 0.5 if key == "weight" else value for key, value in layer.state_dict().items()}
    layer.load_state_dict(state)


def _step(layer: nn.Module) -> None:
    layer(torch.randn(2, 3, 8, 8)).square().sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.5).step()


def _data(layer: nn.Module) -> None:
    layer.weight.data = layer.weight.data * 0.3
    layer.refresh()


def _replace(layer: nn.Module) -> None:
    layer.weight = nn.Parameter(torch.randn(4, 3, 3, 3))


def _range(layer: nn.Module) -> None:
    layer.weight_quantizer.set_amax(layer.weight_quantizer.amax * 0.5)


def _off(layer: nn.Module) -> None:
    layer.weight_quantizer.set_amax(torch.full((4, 1, 1, 1), 0.05))


def _fused_step(layer: nn.Module) -> None:
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.5, fused=True)
    layer(torch.randn(2, 3, 8, 8)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("change", [_init, _load, _step, _fused_step, _data, _replace, _range, _off])
def test_the_cached_weight_follows_every_change(change) -> None:  # type: ignore[no-untyped-def]
    layer, x = quantized(nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        before = layer(x)
    change(layer)
    with torch.no_grad():
        after = layer(x)
        assert not torch.equal(before, after)
        assert torch.equal(after, expected(layer, x))


def test_switching_the_quantizer_off_shows_the_float_weight() -> None:
    layer, x = quantized(nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        layer(x)
        layer.weight_quantizer.state = layer.input_quantizer.state = "off"
        assert torch.equal(layer(x), nn.Conv2d._conv_forward(layer, x, layer.weight, layer.bias))


def test_weight_outside_the_forward_is_the_float_parameter() -> None:
    layer = quantized(nn.Conv2d(3, 4, 3))
    layer(torch.randn(1, 3, 8, 8))
    assert layer.weight is layer._parameters["weight"]
    nn.init.zeros_(layer.weight)
    assert layer.state_dict()["weight"].abs().sum() == 0


def test_inference_mode_then_training_shares_nothing_wrong() -> None:
    layer, x = quantized(nn.Linear(6, 5)), torch.randn(2, 6)
    with torch.inference_mode():
        inferred = layer(x).clone()
    with torch.no_grad():
        assert torch.equal(layer(x), inferred)
    layer(x.requires_grad_()).sum().backward()
    assert layer.weight.grad is not None


def test_deepcopy_is_independent() -> None:
    layer, x = quantized(nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        layer(x)
        twin = copy.deepcopy(layer)
        assert type(twin) is type(layer)
        assert torch.equal(twin(x), layer(x))
        nn.init.zeros_(twin.weight)
        twin.bias.zero_()
        assert twin(x).abs().sum() == 0
        assert layer(x).abs().sum() > 0


def test_survives_torch_save() -> None:
    layer, x, file = quantized(nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 8, 8), io.BytesIO()
    torch.save(layer, file)
    file.seek(0)
    again = torch.load(file, weights_only=False)
    assert torch.equal(again(x), layer(x))


@pytest.mark.parametrize("grad", [False, True])
def test_compiles_without_a_graph_break(grad: bool) -> None:
    layer, x = quantized(nn.Conv2d(3, 4, 3)), torch.randn(2, 3, 8, 8)
    with torch.set_grad_enabled(grad):
        compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(x), layer(x))
        nn.init.uniform_(layer.weight, -0.1, 0.1)
        assert torch.equal(compiled(x), layer(x))


def test_exports() -> None:
    layer, x = quantized(nn.Linear(6, 5)), torch.randn(2, 6)
    assert torch.equal(torch.export.export(layer, (x,)).module()(x), layer(x))


class Standardized(nn.Conv2d):
    """A weight-standardized convolution, as a user would write it."""

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias)


def test_a_subclass_keeps_its_own_forward() -> None:
    layer, x = quantized(Standardized(3, 4, 3)), torch.randn(2, 3, 8, 8)
    weight = fake_quantize(layer.weight, layer.weight_quantizer.amax, grid())
    weight = weight - weight.mean((1, 2, 3), keepdim=True)
    assert torch.equal(layer(x), nn.functional.conv2d(fake_quantize(x, torch.tensor(2.0), grid()), weight, layer.bias))


def test_a_parametrized_weight_is_quantized_too() -> None:
    layer, x = quantized(parametrizations.weight_norm(nn.Linear(6, 5))), torch.randn(2, 6)
    with torch.no_grad():
        first = layer(x)
        layer.parametrizations.weight.original0.mul_(0.5)
        assert not torch.equal(layer(x), first)
        weight = fake_quantize(layer.weight, layer.weight_quantizer.amax, grid())
        assert torch.equal(
            layer(x), nn.functional.linear(fake_quantize(x, torch.tensor(2.0), grid()), weight, layer.bias)
        )


@pytest.mark.parametrize("first", [True, False], ids=["quantized-then-pruned", "pruned-then-quantized"])
def test_a_pruned_weight_is_quantized_too(first: bool) -> None:
    layer, x = nn.Linear(6, 5), torch.randn(2, 6)
    if first:
        quantized(layer)
    prune.l1_unstructured(layer, "weight", 0.5)
    quantized(layer)
    with torch.no_grad():
        weight = fake_quantize(layer.weight, layer.weight_quantizer.amax, grid())
        assert int((weight == 0).sum()) >= 15
        x_hat = fake_quantize(x, torch.tensor(2.0), grid())
        assert torch.equal(layer(x), nn.functional.linear(x_hat, weight, layer.bias))
    prune.remove(layer, "weight")
    assert isinstance(layer._parameters["weight"], nn.Parameter)


def test_made_in_inference_mode() -> None:
    x = torch.randn(2, 6)
    with torch.inference_mode():
        layer = quantized(nn.Linear(6, 5))
        assert torch.equal(layer(x), expected(layer, x))
    normal = quantized(nn.Linear(6, 5))
    with torch.inference_mode():
        normal._apply(torch.clone)
        assert torch.equal(normal(x), expected(normal, x))


def test_the_input_may_be_given_by_name() -> None:
    layer, x = quantized(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 8, 8)
    assert torch.equal(layer(input=x), layer(x))


def test_refuses_what_it_does_not_know() -> None:
    with pytest.raises(
        TypeError, match="BatchNorm2d can't be quantized; layers that can: convolutions, linear, pooling"
    ):
        quantize_layer(nn.BatchNorm2d(3), {})
    with pytest.raises(TypeError, match="MaxPool2d has no weight to quantize"):
        quantize_layer(nn.MaxPool2d(2), {"weight": TensorQuantizer(QuantizerSpec())})


def test_prints_a_quantizer_in_one_line() -> None:
    layer = quantized(nn.Conv2d(3, 4, 3))
    lines = repr(layer).splitlines()
    assert len(lines) == 5
    assert lines[2].strip() == "(input_quantizer): TensorQuantizer(8bit per-tensor max, amax=2, quantizing)"
    assert "8bit per-channel max, amax=0." in lines[3]
    assert "(4), quantizing" in lines[3]


class Scaled(nn.Conv2d):
    """A convolution whose forward has names of its own."""

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        return super().forward(x) * gain


def test_a_subclass_is_called_by_its_own_names() -> None:
    layer, x = quantized(Scaled(3, 4, 3)), torch.randn(1, 3, 8, 8)
    assert torch.equal(layer(x=x, gain=2.0), expected(layer, x) * 2)
    assert torch.equal(layer(gain=2.0, x=x), expected(layer, x) * 2)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        layer(gain=2.0)


def _bound(layer: nn.Module) -> None:
    def forward(self: nn.Module, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.weight, self.bias) * 2

    layer.forward = types.MethodType(forward, layer)  # type: ignore[method-assign]


def _wrapped(layer: nn.Module) -> None:
    layer.inner = layer.forward  # type: ignore[assignment]
    layer.forward = types.MethodType(lambda self, x: self.inner(x) * 2, layer)  # type: ignore[method-assign]


@pytest.mark.parametrize("first", [True, False], ids=["replaced-then-quantized", "quantized-then-replaced"])
@pytest.mark.parametrize("replace", [_bound, _wrapped])
def test_a_forward_on_the_instance_is_run_quantized(replace, first: bool) -> None:  # type: ignore[no-untyped-def]
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    if first:
        replace(layer)
    quantized(layer)
    if not first:
        replace(layer)
    plain = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        plain.weight.copy_(fake_quantize(layer.weight, layer.weight_quantizer.amax, grid()))
        plain.bias.copy_(layer.bias)
    assert torch.equal(layer(x), plain(fake_quantize(x, torch.tensor(2.0), grid())) * 2)


def test_a_forward_that_was_put_back_or_taken_away_is_the_layers_own() -> None:
    layer, x = quantized(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 8, 8)
    right, kept = layer(x), layer.forward
    _bound(layer)
    assert not torch.equal(layer(x), right)
    layer.forward = kept  # type: ignore[method-assign]
    assert torch.equal(layer(x), right)
    with mock.patch.object(layer, "forward", lambda x: x):
        assert layer(x).shape == x.shape
    assert torch.equal(layer(x), right)
    _bound(layer)
    del layer.forward
    assert torch.equal(layer(x), right)
    with pytest.raises(AttributeError):
        del layer.forward


class Gained(nn.Conv2d):
    def forward(self, gain: float, *images: Tensor, x: Tensor | None = None) -> Tensor:
        return super().forward(images[0] if x is None else x) * gain


def test_the_first_tensor_is_the_input() -> None:
    layer, x = quantized(Gained(3, 4, 3)), torch.randn(1, 3, 8, 8)
    weight = fake_quantize(layer.weight, layer.weight_quantizer.amax, grid())
    right = nn.functional.conv2d(fake_quantize(x, torch.tensor(2.0), grid()), weight, layer.bias) * 2
    assert torch.equal(layer(2.0, x), right)
    assert torch.equal(layer(2.0, x=x), right)
    assert torch.equal(layer(gain=2.0, x=x), right)


class Joined(nn.Conv2d):
    def forward(self, images: list[Tensor]) -> Tensor:
        return super().forward(torch.cat(images, 1))


def test_a_layer_that_takes_no_tensor_says_so() -> None:
    layer, x = quantized(Joined(3, 4, 3)), torch.randn(1, 3, 8, 8)
    text = r"QuantJoined was given \(list\) and no tensor, .* leave the input of the layer in float"
    with pytest.raises(UnsupportedError, match=text):
        layer(list(x.split(1, 1)))


class Halve(nn.Module):
    def forward(self, w: Tensor) -> Tensor:
        return w / 2

    def right_inverse(self, w: Tensor) -> Tensor:
        return w * 2


LATER = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "own": lambda layer: parametrize.register_parametrization(layer, "weight", Halve()),
}


@pytest.mark.parametrize("name", LATER)
def test_a_parametrization_that_comes_later_is_quantized_and_trained(name: str) -> None:
    layer, x = quantized(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 8, 8)
    LATER[name](layer)
    for _ in range(2):
        layer(x).square().sum().backward()
    assert all(parameter.grad is not None for parameter in layer.parameters())
    assert isinstance(copy.deepcopy(layer)(x), Tensor)
    float_weight = layer.parametrizations.weight().detach()
    weight = fake_quantize(float_weight, layer.weight_quantizer.amax, grid())
    right = nn.functional.conv2d(fake_quantize(x, torch.tensor(2.0), grid()), weight, layer.bias)
    torch.testing.assert_close(layer(x), right)
    assert torch.equal(layer.weight, float_weight), "outside the forward it is the float weight"
    parametrize.remove_parametrizations(layer, "weight")
    assert torch.equal(layer(x), expected(layer, x))


@pytest.mark.parametrize("first", [True, False])
def test_what_is_assigned_to_a_parametrized_weight_reaches_its_parameter(first: bool) -> None:
    layer = nn.Conv2d(3, 4, 3)
    if first:
        LATER["own"](layer)
    quantized(layer)
    if not first:
        LATER["own"](layer)
    layer(torch.randn(1, 3, 8, 8))
    layer.weight = torch.ones(4, 3, 3, 3)
    assert torch.equal(layer.parametrizations.weight.original, torch.full((4, 3, 3, 3), 2.0))
    assert torch.equal(layer.weight, torch.ones(4, 3, 3, 3))


@pytest.mark.parametrize("first", [True, False], ids=["parametrized-then-quantized", "quantized-then-parametrized"])
def test_the_way_back_to_float_keeps_a_parametrization(first: bool) -> None:
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    if first:
        LATER["own"](layer)
    quantized(layer)
    if not first:
        LATER["own"](layer)
    layer(x)
    right = nn.functional.conv2d(x, layer.parametrizations.weight(), layer.bias)
    underive(layer)
    del layer.input_quantizer, layer.weight_quantizer
    assert torch.equal(layer(x), right)


@pytest.mark.parametrize("name", LATER)
@pytest.mark.parametrize("first", [True, False], ids=["parametrized-then-quantized", "quantized-then-parametrized"])
def test_a_parametrization_may_be_taken_away(name: str, first: bool) -> None:
    layer, x = nn.Conv2d(3, 4, 3), torch.randn(1, 3, 8, 8)
    if first:
        LATER[name](layer)
    quantized(layer)
    if not first:
        LATER[name](layer)
        calibrate_weights(layer)  # before the layer ran
    with torch.no_grad():
        before = layer(x)
    parametrize.remove_parametrizations(layer, "weight")
    assert isinstance(layer, QuantizedLayer)
    assert isinstance(layer.weight, nn.Parameter)
    for again in (layer, copy.deepcopy(layer)):
        torch.testing.assert_close(again(x), before)
    underive(layer)
    assert type(layer) is nn.Conv2d


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace:FutureWarning", "ignore:.*trace_method:FutureWarning")
@pytest.mark.parametrize("grad", [False, True])
def test_traces_as_torchscript(grad: bool) -> None:
    layer, x = quantized(nn.Conv2d(3, 4, 3)), torch.randn(1, 3, 8, 8)
    with torch.set_grad_enabled(grad):
        layer(x)
        traced = torch.jit.trace(layer, x)  # checks itself
        assert torch.equal(traced(x * 0.5), layer(x * 0.5))


def test_is_a_leaf_of_fx() -> None:
    model, x = nn.Sequential(quantized(Scaled(3, 4, 3)), nn.ReLU()), torch.randn(1, 3, 8, 8)
    graph = torch.fx.symbolic_trace(model)
    assert [node.target for node in graph.graph.nodes if node.op == "call_module"] == ["0", "1"]
    assert torch.equal(graph(x), model(x))
