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
    try:
        model.eval()
        yield
    finally:
        # Some do more than set the flag: graphs of torch.fx that have one for each mode, layers that merge weights.
        for module, training in modes.items():
            if getattr(module.train, "__func__", None) is not nn.Module.train:
                module.train(training)
        for module, training in modes.items():
            module.training = training


def device_of(*modules: nn.Module) -> torch.device:
    """Returns where the first parameter or buffer of the modules lies; torch's default device if there is none.

    Args:
        modules: a model; or a layer and its model, since pooling layers have no tensors.
    """
    for module in modules:
        for tensor in chain(module.parameters(), module.buffers()):
            return tensor.device
    return torch.get_default_device()
