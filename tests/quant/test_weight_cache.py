"""No quantized weight outlives a write to its float weight, whoever writes; a copy of the layer has no cache."""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from qzoo.quant.calibration.collecting import calibrate_weights
from qzoo.quant.layers import quantize_layer
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.weight_cache import WeightCache
from qzoo.schema.quantizer import QuantizerSpec

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def quantized() -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, 3)
    quantize_layer(layer, {"weight": TensorQuantizer(QuantizerSpec(per="channel"), (4, 1, 1, 1))})
    calibrate_weights(layer)
    return layer.eval()


def with_gradient(layer: nn.Module) -> None:
    layer(X).square().mean().backward()


def by_optimizer(kind: type[torch.optim.Optimizer], **keywords: bool) -> Callable[[nn.Module], None]:
    def write(layer: nn.Module) -> None:
        optimizer = kind(layer.parameters(), lr=0.1, **keywords)
        with_gradient(layer)
        with torch.no_grad():
            layer(X)  # the weight of before the step is kept
        optimizer.step()

    return write


def other(layer: nn.Module) -> Tensor:
    return layer._parameters["weight"].detach() * 0.5 + 0.1


def by_foreach(layer: nn.Module) -> None:
    with torch.no_grad():
        torch._foreach_copy_([layer.weight], [other(layer)])


def by_data(layer: nn.Module) -> None:
    layer.weight.data.copy_(other(layer))


def by_data_at_the_same_address(layer: nn.Module) -> None:
    for _ in range(8):  # memory that is given back is taken again
        layer.weight.data = torch.zeros_like(layer.weight)
        gc.collect()
        layer.weight.data = other(layer)


def by_numpy(layer: nn.Module) -> None:
    array = layer.weight.detach().numpy()
    np.copyto(array, other(layer).numpy())


def by_averaging(layer: nn.Module) -> None:
    average = AveragedModel(layer, multi_avg_fn=get_ema_multi_avg_fn(0.5))
    average.update_parameters(layer)  # the first time, it copies
    with torch.no_grad():
        average.module.weight.add_(1)
    average.update_parameters(layer)
    for own, averaged in zip(layer.parameters(), average.module.parameters(), strict=True):
        own.data.copy_(averaged.data)


def by_inference(layer: nn.Module) -> None:
    with torch.inference_mode():
        layer.weight.copy_(other(layer))


def by_permuting(layer: nn.Module) -> None:
    layer.weight.data.copy_(layer.weight.data.flip(0))  # the same values in another order


WRITERS = {
    f"{kind.__name__} {''.join(keywords)}": by_optimizer(kind, **keywords)
    for kind in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW)
    for keywords in ({"fused": True}, {"foreach": True}, {})
} | {
    write.__name__: write
    for write in (
        by_foreach, by_data, by_data_at_the_same_address, by_numpy, by_averaging, by_inference, by_permuting,
    )
}  # fmt: skip


@pytest.mark.parametrize("writer", WRITERS)
def test_no_write_is_missed(writer: str) -> None:
    layer = quantized()
    with torch.no_grad():
        before = layer(X)
    WRITERS[writer](layer)
    with torch.no_grad():
        found, expected = layer(X), copy.deepcopy(layer)(X)
        assert torch.equal(found, expected)
        assert not torch.equal(found, before)
    with torch.inference_mode():
        assert torch.equal(layer(X), expected)


def test_the_value_is_kept_while_nothing_changes() -> None:
    layer, cache = quantized(), WeightCache()
    with torch.no_grad():
        first = cache.quantized(layer.weight_quantizer, layer.weight)
        assert cache.quantized(layer.weight_quantizer, layer.weight) is first
        layer.weight_quantizer.set_amax(layer.weight_quantizer.amax * 0.5)
        second = cache.quantized(layer.weight_quantizer, layer.weight)
    assert not torch.equal(first, second)
    assert cache.quantized(layer.weight_quantizer, layer.weight) is not second, "a gradient is wanted"


@pytest.mark.parametrize("write", [lambda seen: seen.mul_(0.5), lambda seen: setattr(seen, "data", seen * 0.5)])
def test_what_a_layer_writes_to_the_weight_that_it_sees_is_gone_afterwards(
    write: Callable[[Tensor], Any],
) -> None:
    layer, cache = quantized(), WeightCache()
    with torch.no_grad():
        first = cache.quantized(layer.weight_quantizer, layer.weight)
        kept = first.clone()
        write(first)
        assert torch.equal(cache.quantized(layer.weight_quantizer, layer.weight), kept)


def test_other_strides_are_another_weight() -> None:
    layer, cache = quantized(), WeightCache()
    with torch.no_grad():
        first = cache.quantized(layer.weight_quantizer, layer.weight)
        turned = layer.weight.detach().to(memory_format=torch.channels_last)
        assert cache.quantized(layer.weight_quantizer, turned).stride() == turned.stride() != first.stride()


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_an_ensemble_by_vmap() -> None:
    layers = [quantized() for _ in range(2)]
    with torch.no_grad():
        layers[1].weight.mul_(0.5)
        expected = torch.stack([layer(X) for layer in layers])
        state = stack_module_state(layers)
        found = vmap(lambda parameters, buffers: functional_call(layers[0], (parameters, buffers), (X,)))(*state)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
        assert torch.equal(layers[0](X), expected[0]), "nothing of the ensemble was kept"
