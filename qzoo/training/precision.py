"""Mixed precision: layers in bfloat16 or float16; quantizers' arithmetic, ranges and loss in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.schema.finetune import Precision as Name

DTYPES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}

SCALER = {"scale": float, "_growth_tracker": int}
"""What torch's scaler changes in training."""


class Precision:
    """How a step computes, and steps of float16 with gradients that are scaled so that small ones don't vanish.

    Args:
        name: `float32`, `bfloat16` or `float16`.
        device: the model's.

    Raises:
        UnsupportedError: float16 on a CPU, where layers are slow and torch's scaler is of little use.
    """

    def __init__(self, name: Name, device: torch.device) -> None:
        if name == "float16" and device.type == "cpu":
            raise UnsupportedError("precision float16 needs a GPU. On the CPU say bfloat16 or float32.")
        self.name, self.device = name, device
        self.scaler = torch.amp.GradScaler(device.type, enabled=name == "float16")

    def autocast(self) -> AbstractContextManager[object]:
        """Returns the context that the forward pass runs in."""
        if self.name == "float32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.name])

    def backward(self, loss: Tensor) -> None:
        """Adds the gradients of a loss to the parameters."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Brings gradients back to their size, in place, so that their norm is what it is."""
        self.scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Lets the optimizer step; in float16 not where a gradient overflowed."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def tensors(self) -> dict[str, Tensor]:
        """Returns what the scaler has come to: its scale, and how many steps it has stood; empty without one."""
        state = self.scaler.state_dict()
        return {slot: torch.tensor(state[slot], dtype=torch.float64) for slot in SCALER if slot in state}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Puts back what `tensors` gave."""
        if self.scaler.is_enabled():
            kept = {slot: kind(tensors[slot]) for slot, kind in SCALER.items() if slot in tensors}
            self.scaler.load_state_dict(self.scaler.state_dict() | kept)

    @property
    def may_overflow(self) -> bool:
        """Whether a gradient that is not finite is no fault: the step is left out, and the next is scaled less."""
        return bool(self.scaler.is_enabled() and self.scaler.get_scale() > 1)


def in_memory_format(model: nn.Module, channels_last: bool) -> nn.Module:
    """Returns the model, its convolutions' weights with channels last in memory where that is asked for."""
    return model.to(memory_format=torch.channels_last) if channels_last else model
