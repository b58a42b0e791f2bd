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
    training, device, start = model.training, device_of(model), time.perf_counter()
    model.eval()
    first, hits = [], []
    try:
        with torch.inference_mode():
            for x, y in progress(as_batches(images, device), count, what):
                best = _best_five(model(x))
                first.append(best[:, 0].cpu())
                if y is not None:
                    hits.append((best == y.unsqueeze(1)).cpu())
    finally:
        model.train(training)
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


def _summary(first: list[Tensor], hits: list[Tensor], seconds: float) -> Evaluation:
    if not first:
        raise DataError("There are no images to evaluate on.")
    predictions = torch.cat(first)
    if not hits:
        return Evaluation(len(predictions), None, None, predictions, seconds)
    correct = torch.cat(hits)
    top1, top5 = correct[:, 0].double().mean(), correct.any(1).double().mean()
    return Evaluation(len(predictions), 100 * float(top1), 100 * float(top5), predictions, seconds)
