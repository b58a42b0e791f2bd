"""Quantizers that read one tensor: a block's input goes to its first layer, to its downsample and to its skip."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.quant.inputs import run
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import is_of_weight, quantizers


def quantizers_by_tensor(model: nn.Module, inputs: Any) -> list[list[str]]:
    """Returns the paths of quantizers that read the same tensor, at least two together, in the order of the model.

    A quantizer that is called more than once in a pass reads several tensors, so it is in no group; neither is one of a
    weight.

    Args:
        model: with quantizers; run once, as it is, without gradients.
        inputs: those of the model: a tensor, a tuple of arguments, or a dict of them by name.
    """
    read: dict[str, list[Tensor]] = {}
    versions: dict[str, int] = {}

    def noting(path: str) -> Any:
        def note(quantizer: nn.Module, args: tuple[Tensor, ...]) -> None:
            # Held until the end, so that no other tensor gets its memory.
            read.setdefault(path, []).append(args[0])
            versions[path] = args[0]._version

        return note

    found = {path: one for path, one in quantizers(model).items() if not is_of_weight(path)}
    with ExitStack() as hooks, torch.no_grad():
        for path, quantizer in found.items():
            hooks.callback(quantizer.register_forward_pre_hook(noting(path)).remove)
        run(model, inputs)
    groups: dict[Any, list[str]] = {}
    for path, (first, *more) in read.items():
        if not more:
            key = (first.data_ptr(), first.shape, first.stride(), versions[path])
            groups.setdefault(key, []).append(path)
    order = {path: place for place, path in enumerate(found)}
    return [sorted(group, key=order.__getitem__) for group in groups.values() if len(group) > 1]


def of_equal_kind(model: nn.Module, paths: list[str]) -> list[list[str]]:
    """Returns the paths by what their quantizers do besides their range, at least two together.

    Bits, format, sign and whether there is a zero point decide; how a range was found does not.
    """
    kinds: dict[Any, list[str]] = {}
    for path in paths:
        quantizer = model.get_submodule(path)
        assert isinstance(quantizer, TensorQuantizer)
        kind = (quantizer.grid, quantizer.zero_point is None, quantizer.amax.shape)
        kinds.setdefault(kind, []).append(path)
    return [group for group in kinds.values() if len(group) > 1]
