"""Measuring a model, which afterwards is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import torch
from torch import nn

from qzoo.models.heads import as_planned
from qzoo.quant.modes import evaluation_mode
from qzoo.quant.ranges import quantizers


@contextmanager
def measuring(model: nn.Module) -> Iterator[None]:
    """Lets a model be measured: as it was planned, in evaluation mode, without gradients.

    When the context ends, in whatever way, the model has its own layers again, each module its mode, and each quantizer
    its state; and torch draws the random numbers that it would have drawn without it.

    Args:
        model: float or quantized.

    Raises:
        UnsupportedError: quantizers that the model was given are gone, see `requantize_replaced`.

    Example:
        >>> model = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        >>> with measuring(model):
        ...     model.training
        False
        >>> model.training
        True
    """
    devices = {tensor.device for tensor in chain(model.parameters(), model.buffers()) if tensor.is_cuda}
    with (
        torch.random.fork_rng(devices), states_restored(model), as_planned(model), evaluation_mode(model),
        torch.inference_mode(False), torch.no_grad(),
    ):  # fmt: skip
        yield


@contextmanager
def states_restored(model: nn.Module) -> Iterator[None]:
    """Gives every quantizer of the model its state back when the context ends."""
    states = {quantizer: quantizer.state for quantizer in quantizers(model).values()}
    try:
        yield
    finally:
        for quantizer, state in states.items():
            quantizer.state = state
