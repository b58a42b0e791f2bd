"""A training schedule in words, for people."""

from __future__ import annotations

from qzoo.schema.finetune import FinetuneSpec


def schedule_rows(spec: FinetuneSpec) -> list[tuple[str, str]]:
    """Returns a schedule as pairs of words.

    Example:
        >>> schedule_rows(FinetuneSpec(epochs=1, lr=1e-4))[:2]
        [('epochs', '1'), ('optimizer', 'sgd, momentum 0.9, weight decay 0.0001')]
    """
    momentum = f", momentum {spec.momentum:g}" if spec.optimizer == "sgd" else ""
    rows = [
        ("epochs", str(spec.epochs)),
        ("optimizer", f"{spec.optimizer}{momentum}, weight decay {spec.weight_decay:g}"),
        ("learning rate", f"{spec.lr:g} for batches of {spec.batch_size} images, {_schedule(spec)}"),
        ("ranges", _scales(spec)),
        ("images", "augmented anew in each epoch" if spec.transform == "train" else "as for evaluation"),
    ]
    if spec.distill is not None:
        goal = f"weight {spec.distill.weight:g}, temperature {spec.distill.temperature:g}"
        rows.append(("distillation from the float model", goal))
    optional = {
        "label smoothing": spec.label_smoothing or None,
        "running statistics of batch norm frozen from epoch": spec.freeze_bn_epoch,
        "moving average of the model, decay": spec.ema,
        "largest norm of gradients": spec.clip_gradient,
        "precision": None if spec.precision == "float32" else spec.precision,
    }
    return [*rows, *((what, str(value)) for what, value in optional.items() if value is not None)]


def _schedule(spec: FinetuneSpec) -> str:
    shape = {
        "constant": "constant",
        "cosine": f"along half a cosine to {spec.floor:g}",
        "step": f"times {spec.step_factor:g} every {spec.step_epochs} epochs",
    }[spec.schedule]
    return f"{shape}, after a warmup of {spec.warmup_epochs:g} epochs" if spec.warmup_epochs else shape


def _scales(spec: FinetuneSpec) -> str:
    if not spec.scales.learn:
        return "as calibrated, fixed"
    start = "the calibrated ones" if spec.scales.init == "calibrated" else "LSQ's own"
    return f"learned (LSQ, arXiv 1902.08153), from {start}"
