"""Which quantizers read one tensor."""

from __future__ import annotations

import torch
import torchvision
from torch import Tensor, nn

import qzoo
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.same_tensor import of_equal_kind, quantizers_by_tensor
from qzoo.schema.quantizer import QuantizerSpec


class Branches(nn.Module):
    """Two layers read the input, one what a ReLU wrote over it, and one is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third, self.twice = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x) + self.second(x)
        return self.twice(self.twice(y + self.third(x.relu_())))


def test_readers_of_one_tensor_are_together() -> None:
    model = qzoo.calibrate(qzoo.quantize(Branches(), "int8"), [torch.randn(8, 4)])
    groups = quantizers_by_tensor(model, torch.randn(2, 4))
    assert groups == [["first.input_quantizer", "second.input_quantizer"]]


def test_a_resnet_block_reads_its_input_two_or_three_times() -> None:
    x = torch.randn(2, 3, 32, 32)
    model = qzoo.quantize(torchvision.models.resnet18(), "int8_ort", example=x)
    groups = quantizers_by_tensor(qzoo.calibrate(model, [x]), x)
    assert ["layer1.0.conv1.input_quantizer", "layer1.0.residual_quantizer"] in groups
    assert ["layer2.0.conv1.input_quantizer", "layer2.0.downsample.0.input_quantizer"] in groups
    assert len(groups) == 8, "one a block"


def test_other_bits_and_other_signs_are_another_kind() -> None:
    specs = [QuantizerSpec(bits=8), QuantizerSpec(bits=4), QuantizerSpec(bits=8), QuantizerSpec(unsigned=True)]
    model = nn.ModuleDict({name: TensorQuantizer(spec) for name, spec in zip("abcd", specs, strict=True)})
    assert of_equal_kind(model, ["a", "b", "c", "d"]) == [["a", "c"]]
