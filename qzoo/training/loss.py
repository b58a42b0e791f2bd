"""What training minimizes, and where it stops because that is no longer finite."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qzoo.errors import DataError, TrainingError, UnsupportedError
from qzoo.quant.inputs import run
from qzoo.quant.outputs import Logits, logits_of
from qzoo.schema.finetune import Distillation, FinetuneSpec


class LabelError(DataError):
    """A label for which a model has no class."""


def loss_of(logits: Tensor, labels: Tensor, spec: FinetuneSpec, teacher_logits: Tensor | None = None) -> Tensor:
    """Returns the loss of a batch, float32 `()`.

    Args:
        logits: `(N, classes)`, any float dtype; the arithmetic is float32.
        labels: int64 `(N,)`.
        spec: label smoothing and distillation.
        teacher_logits: the logits of the float base, for distillation.

    Raises:
        LabelError: the model has no class for a label.
        UnsupportedError: the logits are none.
    """
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        what = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise UnsupportedError(f"In training the model gives {what}; it can be trained on logits (images, classes).")
    check_classes(labels, logits.shape[1])
    loss = functional.cross_entropy(logits.float(), labels, label_smoothing=spec.label_smoothing)
    if spec.distill is None or teacher_logits is None:
        return loss
    return (1 - spec.distill.weight) * loss + spec.distill.weight * distillation(logits, teacher_logits, spec.distill)


def check_classes(labels: Tensor, classes: int) -> None:
    """Refuses labels for which a model has no class.

    Raises:
        LabelError: says which; the message goes on where the batch was named.
    """
    if labels.numel() and int(labels.max()) >= classes:
        raise LabelError(
            f"its labels are {int(labels.min())} to {int(labels.max())}; the model has {classes} classes, so they have "
            f"to be whole numbers from 0 to {classes - 1}. Does the model belong to this dataset?"
        )


def distillation(logits: Tensor, teacher_logits: Tensor, spec: Distillation) -> Tensor:
    """Returns `T^2 * KL(softmax(teacher / T) || softmax(logits / T))`, the mean over the batch.

    Source: G. Hinton, O. Vinyals, J. Dean 2015, "Distilling the Knowledge in a Neural Network" (arXiv 1503.02531),
    section 2, where the factor keeps the gradients' size whatever the temperature is.

    Example:
        >>> same = torch.tensor([[1.0, 2.0]])
        >>> distillation(same, same, Distillation(temperature=4.0))
        tensor(0.)
    """
    t = spec.temperature
    ours, teachers = (functional.log_softmax(of.float() / t, dim=1) for of in (logits, teacher_logits))
    return t * t * functional.kl_div(ours, teachers, reduction="batchmean", log_target=True)


class Teacher:
    """The float base, whose predictions are the second goal.

    Args:
        model: float; put into evaluation mode, its parameters are not trained.
        logits: which of its outputs they are, see `logits_of`.
    """

    def __init__(self, model: nn.Module, logits: Logits = None) -> None:
        self.model, self.logits = model.eval().requires_grad_(False), logits

    def __call__(self, inputs: Any) -> Tensor:
        """Returns the logits of a batch."""
        with torch.no_grad():
            return logits_of(run(self.model, inputs), self.logits)


def first_not_finite(named: Iterable[tuple[str, Tensor | None]]) -> str | None:
    """Returns the name of the first tensor that holds NaN or Inf, or None."""
    return next((name for name, tensor in named if tensor is not None and not bool(tensor.isfinite().all())), None)


def diagnose_loss(model: nn.Module, inputs: Any) -> str:
    """Returns which module's output is the first that is not finite, in words.

    Args:
        model: runs once more on the batch, without gradients; in the mode that it is in.
        inputs: the batch.
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
            run(model, inputs)
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
