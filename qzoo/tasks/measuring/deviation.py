"""How far a model's logits are from those of the float model."""

from __future__ import annotations

import math

from torch import Tensor

from qzoo.errors import DataError
from qzoo.results.sensitivity import Deviation
from qzoo.tasks.evaluate import prediction_rows


class Tally:
    """What is counted over the batches of one way of quantizing."""

    def __init__(self) -> None:
        self.images = self.labelled = self.hits = self.flips = 0
        self.signal = self.noise = 0.0

    def add(self, logits: Tensor, labels: Tensor | None, reference: Tensor) -> None:
        """Counts a batch.

        Args:
            logits: float `(N, classes)`.
            labels: int64 `(N,)`, or None.
            reference: the logits of the float model, shape of `logits`.

        Raises:
            DataError: a logit is NaN, or the labels do not fit the model.
        """
        rows = prediction_rows(logits, labels)
        predictions = rows[:, 2]
        self.images += len(rows)
        self.labelled += 0 if labels is None else len(rows)
        self.hits += 0 if labels is None else int((predictions == rows[:, 0]).sum())
        self.flips += int((predictions != prediction_rows(reference, None)[:, 2]).sum())
        exact = reference.double()
        self.signal += float(exact.square().sum())
        self.noise += float((exact - logits.double()).square().sum())

    @property
    def top1(self) -> float | None:
        """Share of images whose label is the first prediction, in percent; None without labels."""
        if self.labelled not in (0, self.images):
            raise DataError(
                f"Only {self.labelled} of {self.images} images have labels. Give (x, y) for all batches, or x for all."
            )
        return round(100 * self.hits / self.images, 4) if self.labelled else None

    def deviation(self) -> Deviation:
        """Returns what was counted."""
        ratio = sqnr_db(self.signal, self.noise)
        return Deviation(sqnr_db=None if ratio == math.inf else round(ratio, 4), top1=self.top1, flips=self.flips)


def sqnr_db(signal: float, noise: float) -> float:
    """Returns the signal to quantization noise ratio in dB; infinite without noise.

    `10 log10(sum float^2 / sum (float - quantized)^2)`: 20 dB is a noise of 1% of the signal's power.

    Source: A. V. Oppenheim and R. W. Schafer, "Discrete-Time Signal Processing", section 4.8.2.

    Example:
        >>> sqnr_db(signal=100.0, noise=1.0)
        20.0
    """
    if noise == 0:
        return math.inf
    if signal == 0:
        raise DataError("The float model's logits are all 0, so nothing can be held against them. Load its weights.")
    return 10 * math.log10(signal / noise)


def noise_of(deviation: Deviation) -> float:
    """Returns what sorts deviations, worst first: the ratio in dB."""
    return math.inf if deviation.sqnr_db is None else deviation.sqnr_db


def gained(before: float | None, after: float | None) -> float | None:
    """Returns how many points of top-1 are won; None without labels."""
    return None if before is None or after is None else round(after - before, 4)
