"""Latency as a cost of a search, from a table that was measured in a runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qzoo.results.search import LatencySource
from qzoo.schema.candidates import FLOAT
from qzoo.tasks.searching.space import Space


@dataclass(frozen=True)
class Latencies:
    """What each group adds to the latency, where it is left in float.

    Attributes:
        in_float: by group, in shares of the float model's latency; what they add up to is the difference between all
            groups on integers and none.
        quantized: with all groups on integers, in shares of the float model's.
        source: the table.
    """

    in_float: Mapping[str, float]
    quantized: float
    source: LatencySource

    def costs(self, space: Space) -> tuple[dict[str, dict[str, float]], float]:
        """Returns the cost of every candidate of every group, and the rest: integer kernels take equally long."""
        names = list(space.changes)
        of_groups = {
            group.name: {name: self.in_float.get(group.name, 0.0) if name == FLOAT else 0.0 for name in names}
            for group in space.groups
        }
        return of_groups, self.quantized
