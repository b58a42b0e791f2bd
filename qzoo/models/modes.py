"""Where a model computes, and in which mode."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Puts a model into evaluation mode, and afterwards each of its modules back into the mode it was in.

    Module by module: batch norm that was frozen inside a training model stays frozen.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def device_of(layer: nn.Module, model: nn.Module | None = None) -> torch.device | None:
    """Returns the device of a layer's tensors, or of the model's where the layer has none, as pooling.

    None if the model has none either.
    """
    holders = [layer] if model is None else [layer, model]
    tensors = chain.from_iterable(chain(holder.parameters(), holder.buffers()) for holder in holders)
    return next((tensor.device for tensor in tensors), None)
