"""The float network of a quantized model: it shares the model's tensors, and shows what it evaluates."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.models.tracing import trace
from qzoo.optimization.channels.network import Network, named_operands
from tests.optimization.channels.networks import chain, everything, images, quantized

pytestmark = pytest.mark.filterwarnings("ignore::qzoo.quant.quantizer.UncalibratedWarning")


def test_what_is_written_to_its_tensors_is_written_to_the_model() -> None:
    model = quantized(chain(), images())
    network = Network(model, example=images())
    network.tensors["0.weight"].zero_()
    assert not model[0].weight.any()
    assert not network.twin[0].weight.any()
    assert model[0].weight.requires_grad


def test_every_evaluation_is_shown_as_it_was_traced() -> None:
    model, x = everything(), images()
    network = Network(quantized(model, x), example=x[:1])
    seen: dict[int, Tensor] = {}
    wanted = {one.index: lambda f, a, k, y, i=one.index: seen.__setitem__(i, y) for one in network.evaluations[1:]}
    assert network.observe([x, x], wanted) == 2
    assert len(seen) == len(network.evaluations) - 1
    torch.testing.assert_close(seen[len(network.evaluations) - 1], model(x).detach())


def test_operands_are_found_by_name_wherever_they_stand() -> None:
    x, weight = torch.ones(1, 2), torch.ones(3, 2)
    found = named_operands(nn.functional.linear, (), {"weight": weight, "input": x})
    assert found["input"][1] is x
    assert found["weight"][0].argument == "weight"


class OtherWay(nn.Module):
    """Takes another way for several images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if len(x) == 1 else x.relu())


def test_another_way_than_that_of_the_example_is_told_of() -> None:
    network = Network(OtherWay().eval(), example=images(1))
    with pytest.raises(UnsupportedError, match="conv evaluates relu where it evaluated conv2d on the example"):
        network.observe([images(2)], {1: lambda *_: None})


class Several(nn.Module):
    """Gives a tensor of its middle too, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        y = self.a(x)
        return {"middle": y, "end": self.b(y)}


def test_a_trace_knows_what_the_model_gives_and_all_shapes() -> None:
    found = trace(Several(), torch.ones(3, 2))
    assert found.outputs == (1, 2)
    assert found.evaluations[1].results == ((3, 2),)
