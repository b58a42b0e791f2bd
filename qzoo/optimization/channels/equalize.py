"""Cross-layer equalization: the channels between two layers get the same range in both (arXiv 1906.04721, section 4.1).

    s_i = sqrt(r1_i r2_i) / r2_i;    row i of the first / s_i;    column i of the second * s_i

with `r1_i` the largest absolute weight of output channel i of the first layer and `r2_i` that of input channel i of the
second, of all of them where several read it. Pairs share layers, so it is repeated until nothing moves. A weight with
one range for the whole tensor gains much; one with a range for each output channel little.

Where ReLU6 keeps some channels as they are, the largest ranges of these, `R1` and `R2`, are what the others are held
against: `s_i = sqrt((r1_i / R1) / (r2_i / R2))` gives each the same share of both weights' ranges.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.optimization.channels.absorb import absorb
from qzoo.optimization.channels.limits import Bounds, Limits, limits, seen_bounds, told_bounds
from qzoo.optimization.channels.network import Network
from qzoo.optimization.channels.pairs import Apart, Group, layer_groups
from qzoo.optimization.channels.probing import probed
from qzoo.optimization.channels.scaling import by_channel, by_input, scale
from qzoo.quant.channel_factors import ChannelFactors, along_axis, channel_maxima, magnitudes_of
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Equalize

SETTLED = 1e-3
"""The largest change of a factor, relative, that no longer counts."""
LARGEST = 2.0**20
"""Of a factor, and of its inverse: what is beyond is a channel that is zero but for rounding."""


def equalize(
    model: nn.Module, spec: Equalize, record: ChannelFactors, batches: Iterable[Any] | None = None, example: Any = None
) -> list[Change]:
    """Gives the channels between each two layers one range in both, in place.

    The float function stays as it is, to rounding: of what ReLU6 clips, and of biases that are absorbed, on the images
    of `batches`; without them as far as batch norm tells, see `limits.py` and `absorb.py`.

    Args:
        model: quantized or float; its ranges are void afterwards.
        spec: how often, and whether biases are absorbed.
        record: notes what weights were multiplied by.
        batches: inputs of the model, which can be iterated again.
        example: an input; default: of `batches`, else one of the likely size.

    Returns:
        A change for each pair, `conv1 -> conv2`, with the ratio of the largest range of a channel to the median one
        before and after, the larger of both layers; and for each layer that is no first of a pair, with the reason.

    Raises:
        UnsupportedError: the model can't be run on the example.

    Example:
        >>> net, record = nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)).eval(), ChannelFactors()
        >>> net[0].weight.data[:], net[2].weight.data[:] = torch.tensor([[4.0], [1.0]]), torch.tensor([[1.0, 1.0]])
        >>> equalize(net, Equalize(), record)[0].path
        '0 -> 2'
        >>> net[0].weight.flatten().tolist(), net[2].weight.flatten().tolist()
        ([2.0, 1.0], [2.0, 1.0])
    """
    network = Network(model, batches, example)
    found = probed(network, layer_groups(network))
    bounds = _bounds(network, [one for one in found if isinstance(one, Group)], batches)
    found = [_without_bounds(one) if _is_unbounded(one, bounds) else one for one in found]
    groups = [one for one in found if isinstance(one, Group)]
    allowed = [limits(group, bounds.get(group.index)) for group in groups]
    before = [_unevenness(network, group) for group in groups]
    factors = equalized(groups, _magnitudes(network, groups), allowed, spec.iterations)
    for group, own in zip(groups, factors, strict=True):
        scale(network, group, own, record)
    changes = []
    for group, own, limit, old in zip(groups, factors, allowed, before, strict=True):
        seen = bounds[group.index].divided_by(own) if batches is not None else None
        absorbed = absorb(network, group, seen) if spec.absorb_bias else ""
        note = "; ".join(filter(None, (_fixed(group, limit), absorbed)))
        changes.append(Change(path=group.path, before=old, after=_unevenness(network, group), note=note))
    return [
        *changes,
        *(Change(path=one.source, note=f"no pair: {one.reason}") for one in found if isinstance(one, Apart)),
    ]


def equalized(
    groups: Sequence[Group], magnitudes: dict[str, Tensor], allowed: Sequence[Limits | None], iterations: int
) -> list[Tensor]:
    """Returns the factors of all groups, after so many passes at most.

    Args:
        groups: whose source is a layer.
        magnitudes: by key, the largest absolute values of the kernels of each weight, see `magnitudes_of`.
        allowed: for each group, what its factors may be.
        iterations: passes over all groups.
    """
    magnitudes = dict(magnitudes)
    total = [magnitudes[group.readers[0].key].new_ones(group.channels) for group in groups]
    for _ in range(iterations):
        moved = 0.0
        for place, group in enumerate(groups):
            limit = allowed[place]
            wanted = total[place] * _step(group, magnitudes, limit)
            wanted = (wanted if limit is None else limit.applied(wanted)).clamp(1 / LARGEST, LARGEST)
            step = wanted / total[place]
            _scaled(magnitudes, group, step)
            total[place] = wanted
            moved = max(moved, float((step - 1).abs().max()))
        if moved < SETTLED:
            break
    return total


def _step(group: Group, magnitudes: dict[str, Tensor], limit: Limits | None) -> Tensor:
    first, second = _ranges(group, magnitudes)
    kept = None if limit is None else limit.fixed & (first > 0) & (second > 0)
    if kept is not None and bool(kept.any()):
        first, second = first / first[kept].amax(), second / second[kept].amax()
    factors = (first / second).sqrt()
    # A channel that is zero on either side stays: nothing tells what it should be.
    return torch.where((first > 0) & (second > 0), factors, 1.0)


def _ranges(group: Group, magnitudes: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Returns the ranges of the channels in the source, and the largest in the readers."""
    assert group.key is not None
    first = channel_maxima(magnitudes[group.key], group.axis, group.channels)
    return first, read_ranges(group, magnitudes)


def read_ranges(group: Group, magnitudes: dict[str, Tensor]) -> Tensor:
    """Returns the largest absolute weight that each channel of a group is multiplied by."""
    by_reader = [
        by_channel(reader, channel_maxima(magnitudes[reader.key], 1 - reader.axis, reader.inputs), group.channels)
        for reader in group.readers
    ]
    return torch.stack(by_reader).amax(0)


def _scaled(magnitudes: dict[str, Tensor], group: Group, factors: Tensor) -> None:
    assert group.key is not None
    first = magnitudes[group.key]
    magnitudes[group.key] = first * along_axis(1 / factors, group.axis, first.shape)
    for reader in group.readers:
        second = magnitudes[reader.key]
        magnitudes[reader.key] = second * along_axis(by_input(reader, factors), 1 - reader.axis, second.shape)


def _magnitudes(network: Network, groups: Sequence[Group]) -> dict[str, Tensor]:
    keys = {key for group in groups for key in (group.key, *(reader.key for reader in group.readers)) if key}
    return {key: magnitudes_of(network.tensors[key]) for key in keys}


def _unevenness(network: Network, group: Group) -> float:
    """Returns the ratio of the largest range of a channel to the median one, the larger of both layers."""
    return max(uneven(ranges) for ranges in _ranges(group, _magnitudes(network, [group])))


def uneven(ranges: Tensor) -> float:
    """Returns the ratio of the largest to the median of those that are not zero.

    Example:
        >>> uneven(torch.tensor([0.0, 1.0, 2.0, 8.0]))
        4.0
    """
    alive = ranges[ranges > 0]
    return float(alive.max() / alive.median()) if len(alive) else 1.0


def _bounds(network: Network, groups: list[Group], batches: Iterable[Any] | None) -> dict[int, Bounds]:
    if batches is not None:
        return seen_bounds(network, groups, batches)
    told = {group.index: told_bounds(network, group) for group in groups}
    return {index: bounds for index, bounds in told.items() if bounds is not None}


def _is_unbounded(one: Group | Apart, bounds: dict[int, Bounds]) -> bool:
    return isinstance(one, Group) and one.ceiling is not None and one.index not in bounds


def _without_bounds(one: Group | Apart) -> Apart:
    return Apart(one.source, "it is clipped, and neither images nor batch norm tell which channels are")


def _fixed(group: Group, limit: Limits | None) -> str:
    fixed = 0 if limit is None else int(limit.fixed.sum())
    return f"{fixed} of {group.channels} channels are clipped at {group.ceiling:g} and stay" if fixed else ""
