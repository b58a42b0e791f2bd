"""The `finetune` block: quantization-aware training after calibration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qzoo.schema.model import StrictModel


class FinetuneSpec(StrictModel):
    """A training schedule. Learning rates are for the stated global batch size."""

    epochs: int = Field(ge=1)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    schedule: Literal["constant", "step", "cosine"] = "constant"
    floor: float = Field(default=0.0, ge=0)
    """The lowest learning rate of a cosine."""
    warmup_epochs: int = Field(default=0, ge=0)
    batch_size: int = Field(default=256, ge=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: float = Field(default=1e-4, ge=0)
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    augmentation: Literal["reference", "crop_flip", "none"] = "reference"
    freeze_bn_epoch: int | None = Field(default=None, ge=0)
    """Running statistics stay as they are from this epoch on."""
    ema: float | None = Field(default=None, gt=0, lt=1)
    clip_gradient: float | None = Field(default=None, gt=0)
    learn_scales: bool = False
    """Learned step sizes (LSQ) instead of the calibrated ranges."""
    seed: int = Field(default=0, ge=0)
