"""Holds what the graph promises against what the network computes: groups of channels that can really be scaled.

A view, a mean over some axes, code that no mode sees: the graph does not tell what becomes of channels there. So each
group is scaled once, by powers of two at random, which costs no precision; the results of its readers have to stay as
they are. They are compared where they arise, since a later layer may hide what went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from qzoo.optimization.channels.limits import seen_bounds
from qzoo.optimization.channels.network import Network
from qzoo.optimization.channels.pairs import Apart, Group
from qzoo.optimization.channels.scaling import scale
from qzoo.quant.channel_factors import ChannelFactors

SEED = 18


def probed(network: Network, found: Sequence[Group | Apart]) -> list[Group | Apart]:
    """Returns what was found, without the groups whose channels are not what the graph promises.

    Args:
        network: run on its example, once for each group; its tensors are afterwards what they were.
        found: groups, and what is none.
    """
    groups = [one for one in found if isinstance(one, Group)]
    if not groups:
        return list(found)
    batch = [network.an_input()]
    clipped = seen_bounds(network, [group for group in groups if group.ceiling is not None], batch)
    before = _results(network, groups)
    generator = torch.Generator().manual_seed(SEED)
    kept: list[Group | Apart] = []
    for one in found:
        if isinstance(one, Group):
            factors = torch.randint(0, 2, (one.channels,), generator=generator).mul_(2).sub_(1).exp2()
            factors = factors.to(network.tensors[one.readers[0].key].device)
            if one.ceiling is not None:
                factors = torch.where(clipped[one.index].high <= one.ceiling, factors.clamp(min=1), 1.0)
            if not _is_sound(network, one, factors, before):
                kept.append(Apart(one.source, f"{one.readers[0].name} reads it with its channels mixed or changed"))
                continue
        kept.append(one)
    return kept


def _is_sound(network: Network, group: Group, factors: Tensor, before: dict[int, Tensor]) -> bool:
    with _restored(network, group) as record:
        scale(network, group, factors, record)
        after = _results(network, [group])
    return all(_are_close(before[index], result) for index, result in after.items())


def _results(network: Network, groups: Sequence[Group]) -> dict[int, Tensor]:
    found: dict[int, Tensor] = {}

    def noting(index: int) -> Any:
        return lambda func, args, kwargs, result: found.__setitem__(index, result.detach().clone())

    readers = [reader.index for group in groups for reader in group.readers]
    network.observe([network.an_input()], {index: noting(index) for index in readers})
    return found


def _are_close(before: Tensor, after: Tensor) -> bool:
    tolerance = 2 * torch.finfo(before.dtype).eps ** 0.5
    return bool((after.float() - before.float()).norm() <= tolerance * before.float().norm())


@contextmanager
def _restored(network: Network, group: Group) -> Iterator[ChannelFactors]:
    record = ChannelFactors()
    modules = {group.source, group.norm}
    saved = {
        key: tensor.clone()
        for key, tensor in network.tensors.items()
        if key.rpartition(".")[0] in modules and key != group.key
    }
    try:
        yield record
    finally:
        record.undo(network.tensors)
        for key, tensor in saved.items():
            network.tensors[key].copy_(tensor)
