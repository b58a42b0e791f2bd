"""Optimizers: which parameters they get, with how much weight decay, and the learning rate of every step."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.finetune import FinetuneSpec


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Returns the trained parameters in two groups: weights, which decay, and all others, which do not.

    Without decay are learned ranges, biases, and the parameters of norms and alike, which are vectors or scalars.

    Args:
        model: its parameters that require a gradient are taken.
        weight_decay: of the first group.

    Example:
        >>> [len(group["params"]) for group in parameter_groups(nn.Linear(3, 2), 1e-4)]
        [1, 1]
    """
    ranges = {id(one.amax) for one in model.modules() if isinstance(one, TensorQuantizer)}
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
