"""Comparing two models on the same images: which ones the second gets wrong that the first got right, and back.

Paired figures say more than two accuracies do: on a thousand images these are known to a point or two, but images
that both models judge alike cancel out.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qzoo.tasks.evaluate import Evaluation


@dataclass(frozen=True)
class Flips:
    """The images that two models judge differently.

    Attributes:
        lost: the first model is right, the second wrong.
        gained: the first model is wrong, the second right.
    """

    lost: int
    gained: int

    @property
    def mcnemar_p(self) -> float:
        """The chance of flips at least as uneven, if losing and gaining an image were equally likely."""
        return mcnemar(self.lost, self.gained)


def compare(first: Evaluation, second: Evaluation, labels: Tensor) -> Flips:
    """Returns the flips from one model to another.

    Args:
        first: of the float model, say.
        second: of the quantized model, on the same images in the same order.
        labels: int64 `(images,)`, of these images.

    Raises:
        ValueError: the numbers of images differ.
    """
    if not first.images == second.images == len(labels):
        raise ValueError(f"{first.images} and {second.images} predictions and {len(labels)} labels can't be compared")
    was_right, is_right = first.predictions == labels, second.predictions == labels
    return Flips(int((was_right & ~is_right).sum()), int((~was_right & is_right).sum()))


def mcnemar(lost: int, gained: int) -> float:
    """Returns the two-sided p-value of McNemar's exact test.

    Under the hypothesis each flip is a fair coin, so `p = min(1, 2 * P(B <= min(lost, gained)))` with B binomial of
    `lost + gained` flips.

    Source: Q. McNemar 1947, "Note on the sampling error of the difference between correlated proportions or
    percentages", Psychometrika 12, with the binomial distribution in place of its normal approximation.

    Example:
        >>> mcnemar(5, 3)
        0.7265625
    """
    from scipy.stats import binomtest  # takes half a second, and only reports need it

    return float(binomtest(lost, lost + gained).pvalue) if lost + gained else 1.0
