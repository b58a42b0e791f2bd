"""Where a layer computes."""

from __future__ import annotations

from itertools import chain

import torch
from torch import nn


def device_of(layer: nn.Module, model: nn.Module | None = None) -> torch.device | None:
    """Returns the device of a layer's tensors, or of the model's where the layer has none, as pooling.

    None if the model has none either.
    """
    holders = [layer] if model is None else [layer, model]
    tensors = chain.from_iterable(chain(holder.parameters(), holder.buffers()) for holder in holders)
    return next((tensor.device for tensor in tensors), None)
