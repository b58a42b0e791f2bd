"""The `finetune` block: quantization-aware training after calibration; and a schedule in words, for people."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_serializer, model_validator

from qzoo.schema.limits import FieldPath
from qzoo.schema.model import StrictModel, checked_fields, described

Precision = Literal["float32", "bfloat16", "float16"]


class Scales(StrictModel):
    """What becomes of the ranges in training."""

    learn: bool = True
    """By gradient descent (LSQ); if not, they stay as calibrated."""
    init: Literal["calibrated", "lsq"] = "calibrated"
    """Where learning starts: at the calibrated ranges, or at LSQ's own: `2 mean|x| / sqrt(high)` for a step."""

    @model_validator(mode="after")
    def _goes_together(self) -> Scales:
        if self.init != "calibrated" and not self.learn:
            raise ValueError(f"`init: {self.init}` goes with `learn: true`: fixed ranges stay as calibrated")
        return self


class Distillation(StrictModel):
    """A second goal: the predictions of the float base."""

    weight: float = Field(default=0.5, gt=0, le=1)
    """Its share of the loss; the labels have the rest."""
    temperature: float = Field(default=4.0, gt=0)
    """Divides the logits of both before softmax."""


def _scales_in_a_word(value: Any) -> Any:
    words = {"fixed": {"learn": False}, "learned": {"learn": True}}
    if isinstance(value, str) and value not in words:
        raise ValueError("expected fixed, learned, or fields such as {learn: true, init: lsq}")
    return words[value] if isinstance(value, str) else value


Epochs = Annotated[int, Field(ge=1, le=10_000)]
LearningRate = Annotated[float, Field(gt=0)]


class _Schedule(StrictModel):
    """What a training schedule and what a recipe says of one have in common."""

    epochs: Epochs | None = None
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: LearningRate | None = None
    """Learning rate after warmup, for the whole batch of `batch_size` images."""
    schedule: Literal["constant", "step", "cosine"] = "constant"
    step_epochs: int | None = Field(default=None, ge=1)
    """Epochs after which the schedule `step` multiplies the learning rate by `step_factor`, each time."""
    step_factor: float = Field(default=0.1, gt=0, lt=1)
    floor: float = Field(default=0.0, ge=0)
    """The learning rate that a cosine ends at."""
    warmup_epochs: float = Field(default=0.0, ge=0)
    """The learning rate rises from 0 over so many epochs; 0.5 is half an epoch."""
    batch_size: int = Field(default=256, ge=1)
    """Images a step, of all processes together."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """The momentum of SGD."""
    weight_decay: float = Field(default=1e-4, ge=0)
    """The decay of weights; biases, norms and ranges have none."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    transform: Literal["train", "eval"] = "train"
    """`train`: the dataset's usual augmentation, drawn anew in each epoch."""
    freeze_bn_epoch: int | None = Field(default=None, ge=0)
    """Running statistics of batch norm stay as they are from this epoch on, counted from 0."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    """The result is a moving average of the model, of this decay a step."""
    clip_gradient: float | None = Field(default=None, gt=0)
    """The largest norm of all gradients together."""
    scales: Annotated[
        Scales, BeforeValidator(_scales_in_a_word, json_schema_input_type=Literal["fixed", "learned"] | Scales)
    ] = Scales(learn=False)
    """`fixed`, `learned`, or fields."""
    distill: Distillation | None = None
    precision: Precision = "float32"
    """The precision of layers; quantizers and the loss always compute in float32."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The seed of the order of images, their augmentation, and dropout."""


@checked_fields
class FinetuneSpec(_Schedule):
    """A training schedule. Batch size and learning rate are of all processes together.

    Example:
        >>> FinetuneSpec(epochs=15, lr=1e-3, schedule="cosine").scales.learn
        False
    """

    epochs: Epochs
    lr: LearningRate
    """Learning rate after warmup, for the whole batch of `batch_size` images."""

    @model_validator(mode="after")
    def _goes_together(self) -> FinetuneSpec:
        if (self.schedule == "step") != (self.step_epochs is not None):
            raise ValueError("`schedule: step` and `step_epochs` go together: give both, or neither")
        if self.floor and self.schedule != "cosine":
            raise ValueError(f"`floor` goes with `schedule: cosine`, not with {self.schedule}: leave it out")
        if self.floor > self.lr:
            raise ValueError(f"`floor` ({self.floor:g}) is above `lr` ({self.lr:g})")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"`warmup_epochs` ({self.warmup_epochs:g}) is more than `epochs` ({self.epochs})")
        return self


class FinetunePatch(_Schedule):
    """What a variant says of its training; what it leaves out is as along its `from` chain, or else the default.

    Example:
        >>> merged([FinetunePatch(epochs=6, lr=0.01, ema=0.9), FinetunePatch(epochs=8, ema=None)])
        {'epochs': 8, 'lr': 0.01}
    """

    @model_validator(mode="before")
    @classmethod
    def _of_spec(cls, value: Any) -> Any:
        return value.model_dump(exclude_unset=True) if isinstance(value, FinetuneSpec) else value

    @model_serializer
    def _as_said(self) -> dict[str, Any]:
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set}


def merged(patches: Iterable[FinetunePatch]) -> dict[str, Any]:
    """Returns all that patches say, the last of them winning field by field: what a `FinetuneSpec` is made of."""
    said: dict[str, Any] = {}
    for patch in patches:
        said |= patch.model_dump()
    return {name: value for name, value in said.items() if value is not None}


def schedule_problems(said: Mapping[str, Any]) -> Iterator[tuple[FieldPath, str]]:
    """Yields what keeps all that is said along a `from` chain from being a schedule; not what is wrong with one field.

    Example:
        >>> list(schedule_problems({"epochs": 2, "lr": 0.1, "warmup_epochs": 3}))
        [((), '`warmup_epochs` (3) is more than `epochs` (2)')]
    """
    said = {name: value for name, value in said.items() if value is not None}
    try:
        FinetuneSpec.model_validate(said)
    except ValidationError as error:
        for problem in error.errors(include_url=False):
            if not problem["loc"] or (problem["type"] == "missing" and len(problem["loc"]) == 1):
                yield described(FinetuneSpec, said, dict(problem))


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, StrictModel) else value


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
