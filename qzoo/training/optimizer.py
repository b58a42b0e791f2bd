"""A step of training: the optimizer, its learning rate, and the precision it is computed in."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.finetune import FinetuneSpec
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
    """Returns the model, its parameters and buffers of four dimensions channels last in memory if that is asked for.

    `model.to(memory_format=...)` fails for a model that has one of five, as Conv3d's weights and ranges by group are.
    """
    for tensor in (*model.parameters(), *model.buffers()) if channels_last else ():
        if tensor.dim() == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return model


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the trained parameters in two groups: weights, which decay, and all others, which do not.

    Without decay are learned ranges, biases, and the parameters of norms and alike, which are vectors or scalars.

    Args:
        model: its parameters that require a gradient are taken.
        weight_decay: the weight decay of the first group.

    Example:
        >>> [len(group["params"]) for group in parameter_groups(nn.Linear(3, 2), 1e-4)]
        [1, 1]
    """
    learned = [one for one in model.modules() if isinstance(one, TensorQuantizer)]
    ranges = {id(of) for one in learned for of in (one.amax, one.zero_point)}
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    decays = [parameter.dim() > 1 and id(parameter) not in ranges for parameter in trained]
    return [
        {"params": [p for p, decay in zip(trained, decays, strict=True) if decay], "weight_decay": weight_decay},
        {"params": [p for p, decay in zip(trained, decays, strict=True) if not decay], "weight_decay": 0.0},
    ]


def make_optimizer(model: nn.Module, spec: FinetuneSpec) -> torch.optim.Optimizer:
    """Returns the optimizer of a spec: SGD with momentum, or AdamW (arXiv 1711.05101)."""
    groups = parameter_groups(model, spec.weight_decay)
    if spec.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=spec.lr)
    return torch.optim.SGD(groups, lr=spec.lr, momentum=spec.momentum)


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Gives all groups of parameters a learning rate, in place."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Returns what the optimizer remembers, by parameter and slot: `conv1.weight/momentum_buffer`."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        f"{names[id(parameter)]}/{slot}": torch.as_tensor(value)
        for parameter, slots in optimizer.state.items()
        for slot, value in slots.items()
        if value is not None
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives the optimizer back what it remembered, in place."""
    by_name = dict(model.named_parameters())
    optimizer.state.clear()
    for key, value in tensors.items():
        name, _, slot = key.rpartition("/")
        parameter = by_name[name]
        # Counters of steps stay where they are made, on the CPU; all else lies as the parameter does.
        optimizer.state[parameter][slot] = value.clone() if slot == "step" else torch.empty_like(parameter).copy_(value)


def learning_rate(spec: FinetuneSpec, step: int, steps_per_epoch: int) -> float:
    """Returns the learning rate of a step.

    Args:
        spec: the schedule.
        step: from 0, over the whole run.
        steps_per_epoch: how many there are in each epoch.

    Returns:
        Linear from 0 to `lr` during warmup; then `lr`, or `lr * step_factor ** k` after `k * step_epochs` epochs, or
        half a cosine from `lr` to `floor` over what is left of the run.

    Source: the cosine of I. Loshchilov, F. Hutter 2016, "SGDR" (arXiv 1608.03983), equation 5, without restarts.

    Example:
        >>> spec = FinetuneSpec(epochs=2, lr=0.1, schedule="cosine")
        >>> [round(learning_rate(spec, step, 2), 3) for step in range(4)]
        [0.1, 0.085, 0.05, 0.015]
    """
    warmup = spec.warmup_epochs * steps_per_epoch
    # As written: 0.1 epochs of 30 steps are 3 steps, and in binary a little more, which would round up to 4.
    warming = math.ceil(Fraction(str(spec.warmup_epochs)) * steps_per_epoch)
    if step < warming:
        return spec.lr * (step + 1) / (warming + 1)
    if spec.schedule == "step":
        assert spec.step_epochs is not None
        return float(spec.lr * spec.step_factor ** (step // steps_per_epoch // spec.step_epochs))
    if spec.schedule == "cosine":
        share = (step - warmup) / max(spec.epochs * steps_per_epoch - warmup, 1)
        return spec.floor + (spec.lr - spec.floor) * (1 + math.cos(math.pi * share)) / 2
    return spec.lr
