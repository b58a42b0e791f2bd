"""The objective of images that a batch norm could have seen: means and deviations as those that it remembers.

    d_c  = mean over images and places of (x_c - mu_c)          mu, var: running mean and variance of a channel
    s_c  = sqrt(mean of (x_c - mu_c) ** 2 - d_c ** 2)
    loss = mean over batch norms and channels of (d_c ** 2 + (s_c - sqrt(var_c)) ** 2) / var_c
           + DIVERSITY * (1 - entropy of the mean prediction / log(classes))

Sources: Y. Cai et al. 2020, "ZeroQ: A Novel Zero Shot Quantization Framework" (arXiv 2001.00281), equation 3, here
relative to the variance, so that no layer counts for more because its values are larger; H. Yin et al. 2020, "Dreaming
to Distill: Data-free Knowledge Transfer via DeepInversion" (arXiv 1912.08795), equation 4. Diversity of classes: H.
Chen et al. 2019, "Data-Free Learning of Student Networks" (arXiv 1904.01186), equation 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.data_free.batch_norms import BatchNorm, batch_norm_call
from qzoo.errors import QzooError
from qzoo.quant.operators.composite import OperatorMode
from qzoo.quant.outputs import logits_of

SMALLEST = 1e-5
"""Added to variances, as batch norm itself does: a channel that is always the same can't be matched relative to it."""
DIVERSITY = 0.1
"""How much the diversity of predictions counts."""


class RememberedStatistics:
    """Statistics at each batch norm, held against those that it remembers; see `objective.Objective`.

    Args:
        model: float, in evaluation mode when it is used.
        norms: as `batch_norms` returns them.
    """

    name = f"remembered statistics, smallest {SMALLEST}, diversity {DIVERSITY}"

    def __init__(self, model: nn.Module, norms: Mapping[int, BatchNorm]) -> None:
        self.model, self.norms = model, dict(norms)

    def statistics(self, x: Tensor) -> list[Tensor]:
        """Returns of each batch norm first and second moments about its running mean `(channels,)`, and predictions."""
        seen = _Moments(self.norms)
        with seen:
            output = self.model(x)
        moments = [moment for key in self.norms for moment in seen.moments[key]]
        return [*moments, *_mean_prediction(output)]

    def loss(self, statistics: Sequence[Tensor]) -> Tensor:
        """Returns the loss; 0 where every mean and deviation is as remembered and all classes are predicted alike."""
        losses = [
            moment_loss(first, second, norm.variance)
            for norm, first, second in zip(self.norms.values(), statistics[::2], statistics[1::2], strict=False)
        ]
        loss = torch.stack(losses).mean()
        for prediction in statistics[2 * len(self.norms) :]:
            loss = loss + DIVERSITY * (1 - entropy(prediction) / math.log(len(prediction)))
        return loss


def moment_loss(first: Tensor, second: Tensor, variance: Tensor) -> Tensor:
    """Returns how far mean and deviation are from those remembered, relative to the variance; the mean over channels.

    Args:
        first: mean of `x - running mean`, `(channels,)`.
        second: mean of `(x - running mean) ** 2`, `(channels,)`.
        variance: the running variance, `(channels,)`.

    Example:
        >>> moment_loss(torch.tensor([1.0]), torch.tensor([5.0]), torch.tensor([4.0]))
        tensor(0.2500)
    """
    expected = variance + SMALLEST
    deviation = ((second - first.square()).clamp(min=0) + SMALLEST).sqrt()
    return ((first.square() + (deviation - expected.sqrt()).square()) / expected).mean()


def entropy(probabilities: Tensor) -> Tensor:
    """Returns the entropy of a distribution `(classes,)`, in nats.

    Example:
        >>> entropy(torch.tensor([0.5, 0.5, 0.0]))
        tensor(0.6931)
    """
    # Of 0 it has no gradient.
    likely = probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny)
    return -(likely * likely.log()).sum()


def _mean_prediction(output: Any) -> list[Tensor]:
    """Returns the mean prediction `(classes,)`, where a model predicts classes; else nothing."""
    try:
        logits = logits_of(output)
    except QzooError:  # several outputs, none of which is called logits
        return []
    return [logits.softmax(1).mean(0)] if logits.dim() == 2 and logits.shape[1] > 1 else []


class _Moments(OperatorMode):
    """Takes the moments of what each batch norm is given, about the mean that it remembers."""

    def __init__(self, norms: Mapping[int, BatchNorm]) -> None:
        super().__init__()
        self.norms = norms
        self.moments: dict[int, tuple[Tensor, Tensor]] = {}

    def evaluated(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        call = batch_norm_call(func, args, kwargs)
        if call is not None and id(call.mean) in self.norms:
            axes = [axis for axis in range(call.x.dim()) if axis != 1]
            variance, mean = torch.var_mean(call.x, axes, correction=0)
            first = mean - self.norms[id(call.mean)].mean
            # About the running mean: so the moments of several batches add up, and no digits are lost.
            self.moments[id(call.mean)] = first, variance + first.square()
        return func(*args, **kwargs)
