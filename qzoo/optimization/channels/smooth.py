"""Moves the range of activations into the weights that read them (SmoothQuant, arXiv 2211.10438, equation 4).

    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha);    channel j of the activation / s_j;    column j of its readers * s_j

An activation has one range for all channels, and few of them are often a hundred times as large as the rest. What makes
the activation takes the factor: a norm, or the layer before a homogeneous activation.

`search` tries alphas, and no migration at all, by the error that quantizing makes in what the readers give on images:

    sum over readers of |Q(X / s) Q(W s) - X W|^2 / |X W|^2

with ranges that clip nothing, and zero points where quantizers have them. Activations are looked at a second time for
it; none is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.optimization.channels.equalize import read_ranges
from qzoo.optimization.channels.limits import Limits
from qzoo.optimization.channels.migrating import (
    ReadWeight,
    channel_ends,
    channel_reach,
    clipping_limits,
    migratable,
    migrate,
    read_weights,
)
from qzoo.optimization.channels.network import Network, named_operands
from qzoo.optimization.channels.pairs import Group, Reader
from qzoo.optimization.channels.scaling import by_input
from qzoo.quant.calibration.choosing import range_of_extremes
from qzoo.quant.calibration.weight_ranges import quantized_weight_range
from qzoo.quant.channel_factors import ChannelFactors, magnitudes_of, scaled
from qzoo.quant.operators.operands import with_operand
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Smooth

ALPHAS = tuple(step / 10 for step in range(11))
"""What `search` tries, besides leaving a group as it is."""


def smooth(model: nn.Module, spec: Smooth, batches: Iterable[Any], record: ChannelFactors) -> list[Change]:
    """Moves the range of activations into the weights that read them, in place; the float function stays.

    Args:
        model: quantized; its ranges are void afterwards.
        spec: alpha, or `search`.
        batches: inputs of the model, which can be iterated again.
        record: notes what weights were multiplied by.

    Returns:
        A change for each norm or layer that took a factor, with the ratio of the largest range of a channel of the
        activation to the median one before and after; the note says which alpha a search found, with its error.

    Raises:
        UnsupportedError: the model can't be run on the images.
        CalibrationError: there is no image.

    Example:
        >>> from qzoo.zoo.create import quantize
        >>> net = nn.Sequential(nn.LayerNorm(2), nn.Linear(2, 1)).eval()
        >>> net[0].weight.data[:], net[1].weight.data[:] = torch.tensor([16.0, 1.0]), torch.tensor([[4.0, 1.0]])
        >>> model = quantize(net, "int8")
        >>> [change] = smooth(model, Smooth(), [torch.tensor([[1.0, -1.0]])], ChannelFactors())
        >>> model[0].weight.detach().round(decimals=3), model[1].weight.detach().round(decimals=3)
        (tensor([8., 1.]), tensor([[8., 1.]]))
    """
    network = Network(model, batches)
    quantized = read_weights(model)
    groups = migratable(network, quantized, norms_alone=False)
    ends, allowed = channel_ends(network, groups, batches), clipping_limits(network, groups, batches)
    reaches = channel_reach(groups, ends)
    if spec.alpha == "search":
        search = _Search(network, quantized, groups, ends, allowed)
        chosen = search.run(batches)
    else:
        chosen = [(float(spec.alpha), "")] * len(groups)
    changes = []
    for group, reach, limit, (alpha, note) in zip(groups, reaches, allowed, chosen, strict=True):
        factors = torch.ones_like(reach) if alpha is None else smoothing_factors(reach, _read(network, group), alpha)
        change = migrate(network, group, reach, factors, limit, record)
        changes.append(change.model_copy(update={"note": note}))
    return changes


def smoothing_factors(activations: Tensor, weights: Tensor, alpha: float) -> Tensor:
    """Returns `max|X_j|^alpha / max|W_j|^(1 - alpha)`, and 1 where either is 0.

    Example:
        >>> smoothing_factors(torch.tensor([16.0, 1.0, 0.0]), torch.tensor([4.0, 1.0, 1.0]), 0.5)
        tensor([2., 1., 1.])
    """
    factors = activations.pow(alpha) / weights.pow(1 - alpha)
    return torch.where((activations > 0) & (weights > 0), factors, 1.0)


def _read(network: Network, group: Group) -> Tensor:
    return read_ranges(group, {one.key: magnitudes_of(network.tensors[one.key]) for one in group.readers})


class _Search:
    """Sums the errors of all alphas of all groups, batch by batch."""

    def __init__(
        self, network: Network, quantized: dict[str, ReadWeight], groups: Sequence[Group],
        ends: Mapping[int, tuple[Tensor, Tensor]], allowed: Sequence[Limits | None],
    ) -> None:  # fmt: skip
        self.network, self.quantized, self.groups, self.ends = network, quantized, groups, ends
        reaches = channel_reach(groups, ends)
        self.factors = [
            [torch.ones_like(reach), *(self._allowed(group, reach, limit, alpha) for alpha in ALPHAS)]
            for group, reach, limit in zip(groups, reaches, allowed, strict=True)
        ]
        self.errors = [torch.zeros(1 + len(ALPHAS), dtype=torch.float64, device=reach.device) for reach in reaches]

    def _allowed(self, group: Group, reach: Tensor, limit: Limits | None, alpha: float) -> Tensor:
        factors = smoothing_factors(reach, _read(self.network, group), alpha)
        return factors if limit is None else limit.applied(factors)

    def run(self, batches: Iterable[Any]) -> list[tuple[float | None, str]]:
        """Returns the alpha of each group, None for leaving it alone, and what to say of it."""
        wanted = {
            reader.index: self._noting(place, reader)
            for place, group in enumerate(self.groups)
            for reader in group.readers
            if reader.key in self.quantized and self.quantized[reader.key].input is not None
        }
        count = self.network.observe(batches, wanted)
        return [self._best(errors / count) for errors in self.errors]

    def _best(self, errors: Tensor) -> tuple[float | None, str]:
        best = int(errors.argmin())
        if best == 0:
            return None, f"left alone: no alpha has less error than {float(errors[0]):.3g}"
        return ALPHAS[
            best - 1
        ], f"alpha {ALPHAS[best - 1]:g}: error {float(errors[0]):.3g} to {float(errors[best]):.3g}"

    def _noting(self, place: int, reader: Reader) -> Any:
        def note(func: Any, args: Any, kwargs: Any, result: Tensor) -> None:
            signal = result.detach().float().square().sum().clamp(min=torch.finfo(torch.float32).tiny)
            for choice, factors in enumerate(self.factors[place]):
                changed_args, changed_kwargs = self._quantized(reader, factors, func, (args, kwargs))
                changed = func(*changed_args, **changed_kwargs)
                self.errors[place][choice] += ((changed - result).float().square().sum() / signal).double()

        return note

    def _quantized(
        self, reader: Reader, factors: Tensor, func: Any, given: tuple[tuple[Any, ...], dict[str, Any]]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the arguments of a reader with its input and its weight scaled and quantized."""
        own, columns = self.quantized[reader.key], by_input(reader, factors)
        assert own.input is not None
        found = named_operands(func, *given)
        (input_at, x), (weight_at, weight) = found[reader.given], found[reader.operand]
        along = columns.reshape(-1, *[1] * (-1 - reader.channel_axis)).to(x.dtype)
        low, high = (end / columns for end in self.ends[reader.index])
        x = _ranged(own.input, low.amin(), high.amax())(x / along)
        moved = scaled(weight, None, columns, reader.axis)
        quantizer = TensorQuantizer(own.weight.quantizer.spec, tuple(own.weight.quantizer.amax.shape)).to(x.device)
        quantizer.set_amax(*quantized_weight_range(own.weight._replace(values=moved)))
        return with_operand(*with_operand(*given, input_at, x), weight_at, quantizer(moved))


def _ranged(like: TensorQuantizer, smallest: Tensor, largest: Tensor) -> TensorQuantizer:
    quantizer = TensorQuantizer(like.spec).to(smallest.device)
    quantizer.set_amax(*range_of_extremes(smallest, largest, like.spec))
    return quantizer
