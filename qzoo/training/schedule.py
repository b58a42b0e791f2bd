"""The learning rate of every step, as one pure function."""

from __future__ import annotations

import math
from fractions import Fraction

from qzoo.schema.finetune import FinetuneSpec


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
