"""What the inputs of layers are on average, told by the batch norms before them, without an image.

Batch norm gives channels of mean `beta` and standard deviation `gamma`. If they are normally distributed, an activation
that clips them to `low .. high` gives, with `a = (low - beta) / gamma`, `b = (high - beta) / gamma`, and density and
distribution function of the standard normal distribution `p` and `P`, the mean

    gamma * (p(a) - p(b)) + beta * (P(b) - P(a)) + low * P(a) + high * (1 - P(b))

Source: M. Nagel, M. van Baalen, T. Blankevoort, M. Welling, "Data-Free Quantization Through Weight Equalization and
Bias Correction" (arXiv 1906.04721), section 4.2 and appendix C.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qzoo.models.tracing import OperatorCall, Trace
from qzoo.optimization.closed_form.bias_places import norm_of

KEEPS_MEAN = frozenset({"adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "dropout", "flatten"})
"""Operators between an activation and a layer that leave the mean of each channel as it is."""


def clipped_normal_mean(mean: Tensor, deviation: Tensor, low: float, high: float) -> Tensor:
    """Returns the mean of normally distributed values that are clipped.

    Args:
        mean: float, any shape.
        deviation: their standard deviation, at least 0, of the same shape.
        low: what smaller values become; may be -inf.
        high: what larger values become; may be inf.

    Example:
        >>> clipped_normal_mean(torch.tensor(0.0), torch.tensor(1.0), 0.0, math.inf)
        tensor(0.3989)
    """
    deviation = deviation.clamp(min=1e-12)
    a, b = (low - mean) / deviation, (high - mean) / deviation
    below, above = _distribution(a), 1 - _distribution(b)
    inside: Tensor = deviation * (_density(a) - _density(b)) + mean * (1 - above - below)
    outside: Tensor | float = (low * below if low > -math.inf else 0) + (high * above if high < math.inf else 0)
    return inside + outside


def _density(x: Tensor) -> Tensor:
    return torch.exp(-x.square() / 2) / math.sqrt(2 * math.pi)


def _distribution(x: Tensor) -> Tensor:
    below: Tensor = torch.special.ndtr(x)
    return below


def input_means(model: nn.Module, traced: Trace) -> dict[str, Tensor]:
    """Returns the mean of each channel of what a weight is multiplied with, float32, by the path of the weight.

    Known are those of layers behind batch norm and ReLU, ReLU6, another clipping, or nothing.

    Args:
        model: float, with batch norms as they were trained: of one that is folded nothing is known.
        traced: what it evaluates.
    """
    found: dict[str, Tensor] = {}
    for call in traced.evaluations:
        paths = [read.parameter for read in call.reads.values() if read.parameter is not None]
        if len(paths) == 1 and (mean := _mean_before(model, traced, call)) is not None:
            found[paths[0]] = mean
    return found


def _mean_before(model: nn.Module, traced: Trace, call: OperatorCall) -> Tensor | None:
    before = _source(traced, call)
    while before is not None and before.op in KEEPS_MEAN:
        before = _source(traced, before)
    clipped = None if before is None else _bounds(model, before)
    if before is not None and clipped is not None:
        before = _source(traced, before)
    path = None if before is None else norm_of(model, traced, before)
    if path is None:
        return None
    norm = model.get_submodule(path)
    assert isinstance(norm, _BatchNorm)
    assert norm.running_mean is not None
    ones = torch.ones_like(norm.running_mean, dtype=torch.float32)
    mean, deviation = (ones * 0, ones) if norm.weight is None else (norm.bias.detach(), norm.weight.detach().abs())
    return clipped_normal_mean(mean.float(), deviation.float(), *(clipped or (-math.inf, math.inf)))


def _source(traced: Trace, call: OperatorCall) -> OperatorCall | None:
    return traced.evaluations[call.inputs[0]] if len(call.inputs) == 1 and call.inputs[0] else None


def _bounds(model: nn.Module, call: OperatorCall) -> tuple[float, float] | None:
    """Returns between what an activation clips; None where it does something else."""
    if call.op in ("relu", "relu6"):
        return 0.0, math.inf if call.op == "relu" else 6.0
    module = model.get_submodule(call.module)
    if call.op == "hardtanh" and isinstance(module, nn.Hardtanh):
        return float(module.min_val), float(module.max_val)
    return None
