"""Batch norms that are given what they remember, so that what lies behind them is spread as on the training images.

Images that nobody took reach a layer with other means and deviations than photographs do, and the deeper the layer, the
further off. But each batch norm remembers both, channel by channel, and what is computed from its output follows: so
its input is shifted and scaled to them,

    x' = (x - mean(x)) / sqrt(var(x)) * sqrt(running_var) + running_mean

with mean and variance of each channel over the batch and all positions. Then every batch norm gives exactly what its
scale and shift say, mean `beta` and deviation `|gamma|` (ZeroQ and DFQ take as much from them), while how values hang
together across positions and channels, how heavy their tails are, and what any activation, pooling, gate or residual
sum makes of them, is the network's own doing: no formula for each operator is needed.

Source for what batch norm tells: M. Nagel et al. (arXiv 1906.04721), section 4; Y. Cai et al., "ZeroQ: A Novel
Zero Shot Quantization Framework" (arXiv 2001.00281), which changes the images until the statistics are met.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from qzoo.data_free.batch_norms import BatchNorm, batch_norm_call
from qzoo.quant.operators.composite import OperatorMode

LEAST_VARIANCE = 1e-12
"""Of a channel, below which it is constant: it stays at its mean."""


class MatchedBatchNorms(OperatorMode):
    """While it is entered, a model's batch norms see inputs of the means and variances that they remember.

    Batches should be of a size whose means tell something, 16 images or more: statistics are those of each batch.

    Args:
        norms: those that are given what they remember, as `batch_norms` finds them.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> from qzoo.data_free.batch_norms import batch_norms
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)).eval()
        >>> _ = net[1].running_mean.fill_(3.0)
        >>> x = torch.rand(16, 1, 4, 4)
        >>> with torch.no_grad(), MatchedBatchNorms(batch_norms(net, x[:1])):
        ...     made = net(x)
        >>> made.mean((0, 2, 3)).abs().round(decimals=4), made.var((0, 2, 3), correction=0).round(decimals=3)
        (tensor([0., 0.]), tensor([1., 1.]))
    """

    def __init__(self, norms: Mapping[int, BatchNorm]) -> None:
        super().__init__()
        self.norms = norms

    def evaluated(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Returns what an operator gives; batch norm of the input that it remembers."""
        call = batch_norm_call(func, args, kwargs)
        norm = None if call is None else self.norms.get(id(call.mean))
        if call is None or norm is None:
            return func(*args, **kwargs)
        args, kwargs = call.with_input(matched(call.x, norm), args, kwargs)
        return func(*args, **kwargs)


def matched(x: Tensor, norm: BatchNorm) -> Tensor:
    """Returns a tensor whose channels have the mean and the variance that a batch norm remembers.

    Args:
        x: float `(N, channels, ...)`.
        norm: of as many channels.

    Returns:
        Of the dtype and shape of `x`. A channel that is constant in `x` is constant at the mean.
    """
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [1, -1, *(1 for _ in axes[1:])]
    values = x.float()
    mean, variance = values.mean(axes, keepdim=True), values.var(axes, keepdim=True, correction=0)
    wanted = norm.variance.float().view(shape) / variance.clamp(min=LEAST_VARIANCE)
    return ((values - mean) * wanted.sqrt() + norm.mean.float().view(shape)).to(x.dtype)
