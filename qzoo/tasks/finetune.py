"""Quantization-aware training of a calibrated model."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from pydantic import ValidationError
from torch import nn

from qzoo.arguments import checked
from qzoo.distributed import failing_together
from qzoo.errors import ArgumentError, TrainingError, did_you_mean
from qzoo.models.heads import requantize_replaced
from qzoo.progress import Progress, silent
from qzoo.quant.outputs import Logits
from qzoo.quant.ranges import require_calibrated, require_quantizers
from qzoo.results.training import TrainingReport
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.model import all_described
from qzoo.tasks.evaluate import evaluate
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.inputs.training_images import GivenImages
from qzoo.tasks.training_run import Judge, Run, TrainingRun
from qzoo.training.interrupts import noticing_interrupts
from qzoo.training.scales import settle_scales


@checked
def finetune(
    model: nn.Module,
    images: Any,
    spec: FinetuneSpec | None = None,
    *,
    to_inputs: ToInputs = None,
    logits: Logits = None,
    evaluate_on: Any = None,
    teacher: nn.Module | None = None,
    run: Run | None = None,
    progress: Progress = silent,
    **changes: Any,
) -> TrainingReport:
    """Trains a calibrated model with its quantizers on, in place.

    In a script that made a `torch.distributed` group, every process calls this with its own share of the images;
    gradients are averaged over all.

    Args:
        model: calibrated; on return its weights, and its ranges where these are learned, are the trained ones.
        images: for each epoch iterated over once: a list of batches with labels, `(x, y)`, `((x, x2), y)` or dicts, see
            docs/batches.md; a `DataLoader` of such; or `TrainingImages`.
        to_inputs: a function that makes such a batch of an item of `images`, and of `evaluate_on`, whatever it is.
        logits: which of the model's outputs they are, and of the teacher's: the name of one, or a function that makes
            them of the output. Default: the only one, or that called `logits`.
        spec: the schedule.
        evaluate_on: what `qzoo.evaluate` takes, or a function from model and words to top-1; after each epoch.
        teacher: the float model, for `distill`.
        run: where to keep the run, and how to carry it out.
        progress: shown the batches of each epoch.
        changes: fields of the spec: `finetune(model, images, epochs=1, lr=1e-4)`.

    Returns:
        What was run, and its curve.

    Raises:
        NotCalibratedError: a quantizer has no range.
        TrainingError: loss, a gradient or a range became NaN or Inf; the module is named.
        KeyboardInterrupt: after Ctrl-C, once the step is finished and the checkpoint written.

    Example:
        >>> model = qzoo.create("resnet8_digits_w4a4", pretrained=True)
        >>> report = qzoo.finetune(model, training_images, epochs=1, lr=1e-3, evaluate_on=images)
        >>> report.top1 == qzoo.evaluate(model, images).top1
        True
    """
    spec = _schedule(spec, changes)
    requantize_replaced(model)
    require_quantizers(model)
    require_calibrated(model, "finetune")
    if spec.distill is not None and teacher is None:
        raise TrainingError("The schedule says `distill`, so it needs the float model: teacher=...")
    judge = evaluate_on if callable(evaluate_on) else _judge(evaluate_on, to_inputs, logits)
    with failing_together(), torch.random.fork_rng(), noticing_interrupts() as interrupts:
        torch.manual_seed(spec.seed)  # a loader that shuffles draws for the start too
        source = images if hasattr(images, "epoch") else GivenImages(images, to_inputs)
        try:
            training = TrainingRun(model, source, spec, judge, teacher, run or Run(), progress, interrupts, logits)
            return training.report()
        finally:
            settle_scales(model)  # a model whose training was stopped can be used, and trained again


def _schedule(spec: FinetuneSpec | None, changes: dict[str, Any]) -> FinetuneSpec:
    fields = FinetuneSpec.model_fields
    if strange := [name for name in changes if name not in fields]:
        known = {*fields, *inspect.signature(finetune).parameters} - {"changes"}
        raise ArgumentError(f"finetune() has no argument '{strange[0]}'. {did_you_mean(strange[0], known)}")
    content = {} if spec is None else spec.model_dump(exclude_unset=True)
    try:
        return FinetuneSpec.model_validate(content | changes)
    except ValidationError as error:
        raise ArgumentError(f"finetune(): {all_described(FinetuneSpec, content | changes, error)}") from None


def _judge(images: Any, to_inputs: ToInputs, logits: Logits) -> Judge:
    def judge(model: nn.Module, what: str) -> float | None:
        return None if images is None else evaluate(model, images, to_inputs=to_inputs, logits=logits, what=what).top1

    return judge
