"""Measuring accuracy."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.build.heads import requantize_replaced
from qzoo.errors import DataError
from qzoo.quant.ranges import require_calibrated
from qzoo.tasks.batches import as_batches, device_of
from qzoo.tasks.modes import evaluation_mode
from qzoo.tasks.progress import Progress, silent


@dataclass(frozen=True)
class Evaluation:
    """What a model made of some images.

    Attributes:
        images: how many.
        top1: share of images whose label is the first prediction, in percent; None without labels.
        top5: share whose label is among the first five (or all, if there are fewer classes), in percent.
        predictions: int64 `(images,)`, the first prediction for each.
        seconds: wall time.
    """

    images: int
    top1: float | None
    top5: float | None
    predictions: Tensor
    seconds: float

    @property
    def ci95(self) -> tuple[float, float] | None:
        """The 95% confidence interval of top-1, in percent."""
        return None if self.top1 is None else wilson_interval(round(self.top1 * self.images / 100), self.images)

    def agreement(self, other: Evaluation) -> float:
        """Returns the share of images with the same first prediction, in percent."""
        if self.images != other.images:
            raise ValueError(f"evaluations of {self.images} and {other.images} images can't be compared")
        return 100 * int((self.predictions == other.predictions).sum()) / self.images


def evaluate(model: nn.Module, images: Any, *, progress: Progress = silent, count: int | None = None,
             what: str = "evaluating") -> Evaluation:  # fmt: skip
    """Returns the accuracy of a model on images.

    Args:
        model: float or quantized; runs in evaluation mode, without gradients.
        images: any iterable of `x` or `(x, y)`, `x` float `(N, C, H, W)`, already transformed.
        progress: shown the batches.
        count: how many images there are, for the progress.
        what: words for the progress.

    Raises:
        NotCalibratedError: a quantizer has no range.
        DataError: there are no images, or the model gives NaN.

    Example:
        >>> model = qzoo.create("resnet8_digits_int8", pretrained=True)  # doctest: +SKIP
        >>> qzoo.evaluate(model, batches).top1  # doctest: +SKIP
        98.4
    """
    requantize_replaced(model)
    require_calibrated(model, "evaluate")
    device, start = device_of(model), time.perf_counter()
    first, hits = [], []
    with evaluation_mode(model), torch.inference_mode():
        for x, y in progress(as_batches(images, device), count, what):
            logits = model(x)
            best = _best_five(logits)
            first.append(best[:, 0].cpu())
            if y is not None:
                _check_labels(y, logits.shape[1])
                hits.append((best == y.unsqueeze(1)).cpu())
    return _summary(first, hits, time.perf_counter() - start)


def wilson_interval(hits: int, trials: int) -> tuple[float, float]:
    """Returns the 95% confidence interval of a share, in percent.

    Source: E. B. Wilson 1927, "Probable inference, the law of succession, and statistical inference", with z = 1.96.

    Example:
        >>> wilson_interval(9173, 10000)
        (91.17, 92.25)
    """
    z = 1.959964
    share, spread = hits / trials, z * z / trials
    centre = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / trials + spread / (4 * trials)) / (1 + spread)
    return round(100 * (centre - half), 2), round(100 * (centre + half), 2)


def _best_five(logits: Tensor) -> Tensor:
    if bool(logits.isnan().any()):
        raise DataError("The model's output holds NaN. Look at the images, their transform and the weights.")
    return logits.topk(min(5, logits.shape[1]), dim=1).indices


def _check_labels(labels: Tensor, classes: int) -> None:
    if labels.is_floating_point() or (labels.numel() and not 0 <= int(labels.min()) <= int(labels.max()) < classes):
        raise DataError(
            f"Labels are {labels.dtype}, {labels.min()} to {labels.max()}; the model has {classes} classes, so they "
            f"have to be whole numbers from 0 to {classes - 1}. Does the model belong to this dataset?"
        )


def _summary(first: list[Tensor], hits: list[Tensor], seconds: float) -> Evaluation:
    if not first:
        raise DataError("There are no images to evaluate on.")
    predictions = torch.cat(first)
    if not hits:
        return Evaluation(len(predictions), None, None, predictions, seconds)
    correct = torch.cat(hits)
    if len(correct) != len(predictions):
        raise DataError(
            f"Only {len(correct)} of {len(predictions)} images have labels. Give (x, y) for all batches, or x for all."
        )
    top1, top5 = correct[:, 0].double().mean(), correct.any(1).double().mean()
    # Four digits tell any two counts apart, and print the same everywhere.
    in_percent = [round(100 * float(share), 4) for share in (top1, top5)]
    return Evaluation(len(predictions), in_percent[0], in_percent[1], predictions, seconds)
