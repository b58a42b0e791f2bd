"""Stopping where training leaves the finite numbers, and saying where it did."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qzoo.errors import TrainingError


def first_not_finite(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Returns the name of the first tensor that holds NaN or Inf, or None."""
    return next((name for name, tensor in named if tensor is not None and not bool(tensor.isfinite().all())), None)


def diagnose_loss(model: nn.Module, x: Tensor) -> str:
    """Returns which module's output is the first that is not finite, in words.

    Args:
        model: runs once more on the batch, without gradients; in the mode that it is in.
        x: the batch.
    """
    if broken := first_not_finite(model.named_parameters()):
        return f"{broken} holds NaN or Inf"
    found: list[str] = []

    def look(name: str) -> object:
        def hook(module: nn.Module, args: object, output: object) -> None:
            if isinstance(output, Tensor) and not found and not bool(output.isfinite().all()):
                found.append(name)

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in model.named_modules() if name]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return f"the output of {found[0]} holds NaN or Inf" if found else "the loss itself is NaN or Inf"


def diagnose_gradients(model: nn.Module) -> str:
    """Returns which parameter's gradient is the first, from the output on, that is not finite, in words."""
    named = [(name, parameter.grad) for name, parameter in model.named_parameters()]
    broken = first_not_finite(reversed(named))
    return f"the gradient of {broken} holds NaN or Inf" if broken else "the gradients together overflow"


def stopped(what: str, step: int, epoch: int, kept: str) -> TrainingError:
    """Returns the error that ends a run.

    Args:
        what: what is not finite.
        step: from 0.
        epoch: from 0.
        kept: what can be done with the last good checkpoint.
    """
    return TrainingError(
        f"Training stopped at step {step:,} of epoch {epoch + 1}: {what}. {kept} "
        "Lower the learning rate (--lr), clip gradients (--set clip_gradient=1), or warm up (--set warmup_epochs=1)."
    )
