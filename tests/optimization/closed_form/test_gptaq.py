"""Weights rounded in turn: nearer to the float model than each for itself, with the mean of its outputs."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

import qzoo
from qzoo.models.architectures.resnet_cifar import BasicBlock
from qzoo.optimization.closed_form.gptaq import gptaq
from qzoo.optimization.closed_form.rounding import round_weights
from qzoo.quant.weights import quantized_weights
from qzoo.schema.optimize import Round

IN_TURN = Round(method="gptaq")


def images(count: int = 96, channels: int = 3) -> Tensor:
    return torch.randn(count, channels, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.5


def pair(net: nn.Module, scheme: str = "w4a8", bits: int = 3) -> tuple[nn.Module, nn.Module]:
    rules = [{"match": {"type": "weighted"}, "weight": {"bits": bits}}]
    return qzoo.calibrate(qzoo.quantize(net.eval(), scheme, rules=rules), images()), net


def deep(bias: bool = False) -> nn.Module:
    torch.manual_seed(0)
    blocks = [BasicBlock(8, 8, 1) for _ in range(3)]
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(), *blocks)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        net.train()(images())
    return net


def error(model: nn.Module, net: nn.Module, x: Tensor) -> float:
    with torch.no_grad():
        wanted = net(x)
        return float((model(x) - wanted).square().sum() / wanted.square().sum())


def fresh() -> Tensor:
    return torch.randn(96, 3, 8, 8, generator=torch.Generator().manual_seed(1)) + 0.5


def test_a_deep_net_is_nearer_to_the_float_model() -> None:
    model, net = pair(deep())
    each = copy.deepcopy(model)
    round_weights(each, Round(method="gptq"), images().split(32))
    changes = gptaq(model, net, IN_TURN, images().split(32)).changes
    assert [one.path for one in changes] == list(quantized_weights(model))
    assert all((one.after or 9) < (one.before or 0) for one in changes[1:])
    assert error(model, net, fresh()) < 0.8 * error(each, net, fresh())


def test_weights_lie_on_their_grids_and_what_they_were_before_is_known() -> None:
    model, net = pair(deep())
    before = {path: one.values.clone() for path, one in quantized_weights(model).items() if one.values is not None}
    moved = gptaq(model, net, IN_TURN, images().split(32)).moved
    for path, one in quantized_weights(model).items():
        assert one.values is not None
        assert torch.equal(one.quantizer(one.values), one.values)
        assert moved[path].shape == one.values.shape
    # The first is given what the float model gives it, but for 8 bits; the others make up for it.
    relative = [float(((moved[path] - values).norm() / values.norm()).detach()) for path, values in before.items()]
    assert relative[0] < 0.02
    assert min(relative[1:]) > relative[0]


@pytest.mark.parametrize("bias", [False, True])
def test_each_product_has_the_mean_of_the_float_model(bias: bool) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=bias), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 5, 3, bias=bias), nn.BatchNorm2d(5)
    )
    model, _ = pair(net)
    gptaq(model, net, IN_TURN, images().split(32))
    for end in (2, 5):
        with torch.no_grad():
            wanted, found = (one[:end](images()).mean((0, 2, 3)) for one in (net, model))
        torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-4)


def test_it_is_the_same_each_time() -> None:
    first, second = pair(deep()), pair(deep())
    for model, net in (first, second):
        gptaq(model, net, IN_TURN, images().split(32))
    state = second[0].state_dict()
    assert all(torch.equal(value, state[key]) for key, value in first[0].state_dict().items())


def test_one_batch_serves() -> None:
    model, net = pair(deep())
    before = error(model, net, fresh())
    gptaq(model, net, IN_TURN, [images()])
    assert error(model, net, fresh()) < before


def test_one_image_moves_nothing_and_is_told() -> None:
    model, net = pair(deep())
    rounded = gptaq(model, net, IN_TURN, [images(1)])
    assert torch.equal(rounded.moved["3.conv1.weight_quantizer"], net[3].conv1.weight)
    assert rounded.changes[1].note == "only 36 inputs for 72 columns: more images would tell more"


def test_a_bias_that_two_layers_have_stays() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.Flatten(), nn.Linear(48, 4))
    net[2].bias = net[0].bias
    model, _ = pair(net)
    gptaq(model, net, IN_TURN, images().split(32))
    assert torch.equal(model[0].bias, net[0].bias)
    assert not torch.equal(model[4].bias, net[4].bias)


class Twice(nn.Module):
    """Whose first layer is called twice, so that it can't be run by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.again, self.last = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.again(torch.relu(self.again(x)))))


def test_what_can_not_be_run_by_itself_is_rounded_for_itself() -> None:
    torch.manual_seed(0)
    model, net = pair(Twice())
    before = error(model, net, fresh())
    changes = gptaq(model, net, IN_TURN, images().split(32)).changes
    assert [one.path for one in changes] == ["again.weight_quantizer", "last.weight_quantizer"]
    assert error(model, net, fresh()) < before


def test_weights_that_operators_read_in_parts() -> None:
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=4)
    nn.init.normal_(net.heads.head.weight)
    model = qzoo.calibrate(qzoo.quantize(net.eval(), "w4a4_vit", example=images()), images())
    before = error(model, net, fresh())
    changes = gptaq(model, net, IN_TURN, images().split(32)).changes
    assert not [one.note for one in changes if one.after is None]
    assert error(model, net, fresh()) < before


def test_inputs_that_are_not_finite_leave_a_weight_at_nearest(recwarn: Any) -> None:
    model, net = pair(deep())
    with torch.no_grad():
        net[4].conv2.weight[0, 0] = torch.inf
    change = gptaq(model, net, IN_TURN, images().split(32)).changes[-1]
    assert change.note.endswith("rounded to nearest")
    one = quantized_weights(model)["5.conv2.weight_quantizer"]
    assert one.values is not None
    assert torch.equal(one.quantizer(one.values), one.values)


def test_it_is_a_field_of_the_recipe() -> None:
    model, net = pair(deep())
    qzoo.optimize(model, images().split(32), {"round": "gptaq"})
    again, _ = pair(deep())
    gptaq(again, net, IN_TURN, images().split(32))
    assert torch.equal(model[3].conv1.weight, again[3].conv1.weight)


def test_the_last_layer_of_a_block_makes_up_for_the_error_of_its_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    (model, net), (other, _) = pair(deep()), pair(deep())
    gptaq(model, net, IN_TURN, images().split(32))
    monkeypatch.setattr("qzoo.optimization.closed_form.gptaq.skip_shares", lambda *_: {})
    gptaq(other, net, IN_TURN, images().split(32))
    # The first block ends in the sum of what it computes and what it is given, which was rounded before.
    for end in (4, 5, 6):
        for x in (images(), fresh()):
            assert error(model[:end], net[:end], x) < error(other[:end], net[:end], x)
