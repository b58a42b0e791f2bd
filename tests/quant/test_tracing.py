"""What follows a model: traced, or under the transforms of `torch.func`, quantized layers give the same as without."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jacfwd, jacrev, jvp, vmap

from qzoo.quant.calibration.collecting import calibrate_weights
from qzoo.quant.fake_quant import fake_quantize, grid
from qzoo.quant.layers import quantize_layer
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.quantizer import QuantizerSpec

pytestmark = [
    pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning"),  # torch's own, where it loads its decompositions
]

X = torch.randn(5, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def layer() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    made = {"input": TensorQuantizer(QuantizerSpec()), "weight": TensorQuantizer(QuantizerSpec(per="channel"), (4, 1))}
    quantize_layer(layer, made)
    calibrate_weights(layer)
    layer.input_quantizer.set_amax(torch.tensor(1.0))
    return layer.eval()


def rounded(x: Tensor, amax: Tensor) -> Tensor:
    """Returns fake-quantized values by NVIDIA's formula, in float64."""
    step = amax.double() / 127
    return ((x.double() / step).round().clamp(-128, 127) * step).float()


def jacobian(layer: nn.Module, x: Tensor) -> Tensor:
    """Returns d(output)/d(input) of the straight-through estimator: the quantized weight, where x is in the range."""
    weight = rounded(layer.weight.detach(), layer.weight_quantizer.amax)
    return weight * (x.abs() <= layer.input_quantizer.amax)


def by_dual(layer: nn.Module, x: Tensor) -> Tensor:
    columns = []
    for direction in torch.eye(6):
        with forward_ad.dual_level():
            columns.append(forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction))).tangent)
    return torch.stack(columns, 1)


WAYS: dict[str, Callable[[nn.Module, Tensor], Tensor]] = {
    "jacrev": lambda layer, x: jacrev(layer)(x),
    "jacfwd": lambda layer, x: jacfwd(layer)(x),
    "jvp": lambda layer, x: torch.stack([jvp(layer, (x,), (direction,))[1] for direction in torch.eye(6)], 1),
    "dual numbers": by_dual,
    "autograd": torch.autograd.functional.jacobian,
    "autograd, vectorized": lambda layer, x: torch.autograd.functional.jacobian(layer, x, vectorize=True),
}


@pytest.mark.parametrize("way", WAYS)
def test_the_jacobian_is_that_of_the_straight_through_estimator(way: str, layer: nn.Module) -> None:
    with torch.no_grad():
        layer(X)  # a weight is kept
    torch.testing.assert_close(WAYS[way](layer, X[0]), jacobian(layer, X[0]))


def test_gradients_of_each_sample(layer: nn.Module) -> None:
    parameters = {name: parameter.detach() for name, parameter in layer.named_parameters()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return functional_call(layer, parameters, (x,)).sum()

    found = vmap(grad(loss), (None, 0))(parameters, X)
    of_weight = rounded(X, torch.tensor(1.0)).unsqueeze(1).expand(5, 4, 6)
    torch.testing.assert_close(found["weight"], of_weight)
    torch.testing.assert_close(found["bias"], torch.ones(5, 4))


def test_a_tangent_of_the_weight_is_not_lost_to_the_kept_one(layer: nn.Module) -> None:
    with torch.no_grad(), forward_ad.dual_level():
        layer(X)
        dual = forward_ad.make_dual(layer.weight.detach(), torch.ones(4, 6))
        tangent = forward_ad.unpack_dual(functional_call(layer, {"weight": dual}, (X,))).tangent
    torch.testing.assert_close(tangent, rounded(X, torch.tensor(1.0)).sum(1, keepdim=True).expand(5, 4))


@pytest.mark.parametrize("on", [grid(), grid(unsigned=True), grid("e4m3")])
def test_values_are_the_same_bit_for_bit(on, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    x = torch.cat([X.flatten() * 3, torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1e-30])]).expand(2, -1)
    monkeypatch.setattr("qzoo.quant.pieces.LARGE", 8)
    amax = torch.tensor(1.5)
    assert torch.equal(vmap(lambda row: fake_quantize(row, amax, on))(x), fake_quantize(x, amax, on))
