from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from torch import nn

from qzoo.compat.pytorch_quantization import cuda_ext
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization.optim import helper
from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from qzoo.compat.pytorch_quantization.utils import quant_logging, reduce_amax
from qzoo.errors import UnsupportedError


def net() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, bias=False), nn.Linear(2, 2))


def test_parameters_match_by_regular_expression_each_once() -> None:
    model = net()
    assert [id(p) for p in helper.match_parameters(model, ["^0", "weight"])] == [
        id(p) for p in (model[0].weight, model[0].bias, model[1].weight, model[2].weight)
    ]


def test_groups_go_into_an_optimizer() -> None:
    groups = helper.group_parameters(net(), [["0", "1"], ["2"]], [0.1, 0.2], [0.9, 0.8], [1e-4, 0.0])
    optimizer = torch.optim.SGD(groups, lr=1.0)
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.2]
    assert [g["momentum"] for g in optimizer.param_groups] == [0.9, 0.8]
    assert [g["weight_decay"] for g in optimizer.param_groups] == [1e-4, 0.0]
    assert [len(g["params"]) for g in optimizer.param_groups] == [3, 2]


@pytest.mark.parametrize("option", ["lrs", "momentums", "weight_decays"])
def test_as_many_values_as_groups(option: str) -> None:
    with pytest.raises(TypeError, match=rf"len\({option}\) must match len\(patterns_list\): 1 values, 2 groups"):
        helper.group_parameters(net(), [["0"], ["1"]], **{option: [1.0]})


def test_patterns_are_lists_of_lists() -> None:
    with pytest.raises(TypeError, match="patterns_list must be list of list of patterns, not 'conv1'"):
        helper.group_parameters(net(), ["conv1"])


def test_freezing() -> None:
    model = net()
    helper.freeze_parameters(model, ["bias", "^1"])
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["0.weight", "2.weight"]


def test_weights_are_rounded_in_place(caplog: pytest.LogCaptureFixture) -> None:
    model = nn.Sequential(quant_nn.QuantConv2d(1, 2, 3), nn.Linear(2, 2), quant_nn.QuantLinear(3, 2))
    expected = [layer.weight_quantizer(layer.weight).detach() for layer in (model[0], model[2])]
    float_weight = model[1].weight.clone()
    helper.quant_weight_inplace(model)
    assert torch.equal(model[0].weight, expected[0])
    assert torch.equal(model[2].weight, expected[1])
    assert torch.equal(model[1].weight, float_weight)
    model[2]._weight_quantizer = quant_nn.TensorQuantizer(QuantDescriptor(fake_quant=False))
    helper.quant_weight_inplace(model)
    assert "2: its weight is replaced by integers" in caplog.text


X = torch.arange(24.0).view(2, 3, 4) - 30


@pytest.mark.parametrize(
    ("axis", "keepdims", "shape"),
    [
        (None, True, ()), (0, True, (1, 3, 4)), (1, False, (2, 4)), ((1, 2), True, (2, 1, 1)), ((1, 2), False, (2,)),
        ([0], True, (1, 3, 4)), ((0, 1, 2), True, ()), ((), True, (2, 3, 4)),
    ],
)  # fmt: skip
def test_reduce_amax(axis: Any, keepdims: bool, shape: tuple[int, ...]) -> None:
    reduced = reduce_amax(X.requires_grad_(), axis, keepdims)
    assert reduced.shape == shape
    assert not reduced.requires_grad
    dims = tuple(range(3)) if axis is None else (axis,) if isinstance(axis, int) else tuple(axis)
    expected = X.detach().abs().amax(dims, keepdim=True) if dims else X.detach().abs()
    assert torch.equal(reduced.flatten(), expected.flatten())


def test_more_axes_than_dimensions() -> None:
    with pytest.raises(ValueError, match=r"Cannot reduce more axes than tensor's dim: \(0, 1\) of shape \(3,\)"):
        reduce_amax(torch.ones(3), (0, 1))


def test_handlers_of_the_root_logger_go() -> None:
    root, before = logging.getLogger(), list(logging.getLogger().handlers)
    try:
        quant_logging.reset_logger_handler()
        assert not root.handlers
    finally:
        root.handlers[:] = before


@pytest.mark.parametrize("name", cuda_ext.INSTEAD)
def test_the_cuda_extension_says_what_does_the_same(name: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"cuda_ext.{name} is a CUDA kernel .* The same, on any device:"):
        getattr(cuda_ext, name)
    with pytest.raises(AttributeError, match="no attribute 'fake_tensor'"):
        cuda_ext.fake_tensor  # noqa: B018
