"""Ranges of weights, solved from the values themselves: a weight is at hand, so nothing has to be collected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.choosing import chosen
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.solvers import solve
from qzoo.quant.calibration.solvers.percentile import exact_share, rank_of
from qzoo.quant.calibration.two_sided_weights import weight_ends
from qzoo.quant.fake_quant import Grid, fake_quantize, grid
from qzoo.quant.layers import float_weight, output_channel_axis, weight_groups
from qzoo.quant.weights import QuantizedWeight
from qzoo.quant.zero_point import Range
from qzoo.schema.quantizer import QuantizerSpec

SHRINKAGES = tuple(step / 100 for step in range(100, 9, -1))
"""The fractions of the maximum that the mse search tries, largest first, so that the largest wins a tie."""


def weight_range(weight: Tensor, spec: QuantizerSpec, axis: int | None, groups: int = 1) -> Range:
    """Returns the range of a weight, by the spec's calibrator; with a zero point by `two_sided_weights`.

    Args:
        weight: any shape and float dtype; not changed.
        spec: its calibrator is `max`, `mse` (least squared error over 91 shrinkages of the maximum), `percentile`
            (the smallest magnitude that no more than the rest exceeds) or `entropy`.
        axis: the channel axis, or None for one range.
        groups: how many groups lie along the first axis, each with channels of its own.

    Returns:
        Of the shape `(1, .., C, .., 1)` per channel, `(groups, 1, .., C, .., 1)` where there are several groups, `()`
        per tensor.

    Raises:
        CalibrationError: the weight holds NaN or Inf.

    Example:
        >>> weight_range(torch.tensor([[1.0, -3.0], [0.5, 0.0]]), QuantizerSpec(per="channel"), axis=0).amax
        tensor([[3.0000],
                [0.5000]])
    """
    values = weight.detach().float()
    if not bool(torch.isfinite(values).all()):
        raise CalibrationError("the weight holds NaN or Inf")
    if axis is None:
        return _solve_rows(values.reshape(1, -1), spec, [])
    channels = values.unflatten(0, (groups, len(values) // groups)).movedim(axis + 1, 1)
    shape = [weight.shape[axis] if dim == axis else 1 for dim in range(weight.dim())]
    return _solve_rows(channels.flatten(2).flatten(0, 1), spec, shape if groups == 1 else [groups, *shape])


def quantized_weight_range(weight: QuantizedWeight) -> Range:
    """Returns the range of a quantized weight, over its output channels where its quantizer says `per: channel`.

    Raises:
        CalibrationError: the weight holds NaN or Inf, or is computed and was not seen yet.
    """
    if weight.values is None:
        raise CalibrationError("the weight is computed in the forward, which did not run yet")
    spec = weight.quantizer.spec
    return weight_range(weight.values, spec, weight.axis if spec.per == "channel" else None, weight.groups)


def layer_weight_range(layer: nn.Module, spec: QuantizerSpec) -> Range:
    """Returns the range of a layer's float weight, over its output channels where the spec says `per: channel`.

    Raises:
        CalibrationError: the weight holds NaN or Inf.
    """
    axis = output_channel_axis(layer) if spec.per == "channel" else None
    return weight_range(float_weight(layer), spec, axis, weight_groups(layer))


def _solve_rows(rows: Tensor, spec: QuantizerSpec, shape: Sequence[int]) -> Range:
    amax = _magnitudes(rows, spec) if spec.symmetric is not False else rows.new_zeros(len(rows))
    low, high = weight_ends(rows, spec) if spec.has_zero_point else (amax, amax)
    return chosen(spec, amax.reshape(shape), (low.reshape(shape), high.reshape(shape)))


def _magnitudes(rows: Tensor, spec: QuantizerSpec) -> Tensor:
    magnitude = rows.abs()
    method, largest = spec.calibrator.method, magnitude.amax(1)
    if method == "max":
        return largest
    if method == "mse":
        return _least_squares(rows, largest, grid(spec.format, spec.bits, spec.unsigned is True, spec.narrow))
    if method == "percentile":
        return magnitude.kthvalue(rank_of(exact_share(spec), rows.shape[1]), dim=1).values
    return _by_histograms(rows, spec)


def _least_squares(rows: Tensor, largest: Tensor, on: Grid) -> Tensor:
    best, least = largest.clone(), torch.full_like(largest, torch.inf)
    for shrinkage in SHRINKAGES:
        amax = largest * shrinkage
        error = (fake_quantize(rows, amax.unsqueeze(1), on) - rows).square_().sum(1)
        better = error < least
        best, least = torch.where(better, amax, best), torch.where(better, error, least)
    return best


def _by_histograms(rows: Tensor, spec: QuantizerSpec) -> Tensor:
    collectors = [HistogramCollector() for _ in rows]
    for collector, row in zip(collectors, rows, strict=True):
        collector.collect(row)
    return solve([c.histogram() for c in collectors], [spec] * len(rows)).to(rows.device)
