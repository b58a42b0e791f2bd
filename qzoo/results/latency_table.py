"""How many milliseconds each group of quantizers brings in a runtime: what a choice of groups is predicted from.

A choice leaves the groups `S` in float and has all others on integers. Its latency is predicted as

    quantized + sum of d(g), g in S, - sum of s(g, h), neighbours g and h both in S + rest * share(S)

- `d(g)`, `left_in_float_ms`: what is measured with `g` alone in float. It holds the layers of `g`, the conversions at
  its borders, and layers before it that need its quantizer to write integers.
- `s(g, h)`, `saved_ms`: of two groups that follow each other, both sums hold what is between them; measured with both
  in float it counts once: `s(g, h) = d(g) + d(h) - d(g and h)`.
- `rest`: what is missing to the float model's latency with all groups in float, shared out by the sizes of `d`:
  `share(S) = sum of |d(g)|, g in S / sum of |d(g)|, all g`. So no group in float is exactly the quantized model, and
  all are exactly the float model.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection

from pydantic import Field

from qzoo.errors import UnknownNameError, did_you_mean
from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel


class GroupLatency(Readable, StrictModel):
    """What leaving one group in float adds to the latency; below zero, the model is faster so."""

    name: str
    left_in_float_ms: float
    """Milliseconds beyond those with all groups quantized: the median of paired blocks."""
    interval_ms: tuple[float, float]
    """The 95 % confidence interval of that median."""


class NeighbourLatency(Readable, StrictModel):
    """What two groups that follow each other save where both are in float, of the sum of what each adds alone."""

    groups: tuple[str, str]
    saved_ms: float
    interval_ms: tuple[float, float]
    """The 95 % confidence interval of `saved_ms`, as far as it comes of measuring both together."""


class LatencyTable(Readable, StrictModel):
    """Latencies of a model in a runtime, by group. See the head of this file for `of_choice`.

    Example:
        >>> added = {"a": 2.0, "b": 3.0}
        >>> groups = [GroupLatency(name=n, left_in_float_ms=ms, interval_ms=(ms, ms)) for n, ms in added.items()]
        >>> shared = NeighbourLatency(groups=("a", "b"), saved_ms=1.0, interval_ms=(1.0, 1.0))
        >>> table = LatencyTable(
        ...     runtime="onnxruntime", threads=1, batch=1, float_ms=(9.0, 9.0, 9.0), quantized_ms=(5.0, 5.0, 5.0),
        ...     groups=groups, neighbours=[shared],
        ... )
        >>> table.of_choice([]), table.of_choice(["a"]), table.of_choice(["a", "b"])
        (5.0, 7.0, 9.0)
    """

    name: str = ""
    """The variant."""
    runtime: str
    threads: int = Field(ge=1)
    batch: int = Field(ge=1)
    """Images at a time."""
    float_ms: tuple[float, float, float]
    """Milliseconds with every group in float: the 10th percentile, median and 90th percentile of blocks."""
    quantized_ms: tuple[float, float, float]
    """Milliseconds with every group quantized, in the same blocks."""
    groups: list[GroupLatency] = Field(min_length=1)
    neighbours: list[NeighbourLatency] = Field(default_factory=list)
    """Of the groups that follow each other in the graph."""
    measured_of_sha256: str | None = None
    """Digest of what decides a latency: layers, quantizers, their formats, input sizes, groups. None: not known."""
    date: str = ""
    cpu_flags: list[str] = Field(default_factory=list)
    """Those that matter to integers."""
    environment: dict[str, str | int] = Field(default_factory=dict)
    """With the release of the runtime, and the processor."""
    seconds: float = 0.0
    """How long measuring took."""

    @property
    def names(self) -> list[str]:
        """The names of the groups."""
        return [group.name for group in self.groups]

    def certain(self) -> LatencyTable:
        """Returns the table without what may be noise: of each interval the value that is nearest to an even share.

        An even share of the difference between float and quantized is what is known of a group before it is measured.
        Two neighbours save what is nearest to nothing, and no more than either adds. Who looks for the choice of least
        latency would otherwise find the one whose errors add up to the most.

        Example:
            >>> groups = [GroupLatency(name="a", left_in_float_ms=2.0, interval_ms=(1.5, 2.5))]
            >>> groups.append(GroupLatency(name="b", left_in_float_ms=-1.0, interval_ms=(-3.0, 1.0)))
            >>> table = LatencyTable(
            ...     runtime="onnxruntime", threads=1, batch=1, float_ms=(9.0, 9.0, 9.0), quantized_ms=(5.0, 5.0, 5.0),
            ...     groups=groups,
            ... )
            >>> [group.left_in_float_ms for group in table.certain().groups]
            [2.0, 1.0]
        """
        even = (self.float_ms[1] - self.quantized_ms[1]) / len(self.groups)
        groups = [one.model_copy(update={"left_in_float_ms": _nearest(even, one.interval_ms)}) for one in self.groups]
        added = {group.name: abs(group.left_in_float_ms) for group in groups}
        neighbours = []
        for pair in self.neighbours:
            most, saved = min(added[name] for name in pair.groups), _nearest(0.0, pair.interval_ms)
            neighbours.append(pair.model_copy(update={"saved_ms": min(max(saved, -most), most)}))
        return self.model_copy(update={"groups": groups, "neighbours": neighbours})

    @property
    def noise(self) -> float:
        """How well a group is known: half the width of its interval, of the quantized model's latency; the median."""
        widths = [group.interval_ms[1] - group.interval_ms[0] for group in self.groups]
        return statistics.median(widths) / 2 / self.quantized_ms[1]

    def added_ms(self) -> dict[str, float]:
        """Returns by group what it adds where it is in float, its part of `rest` included."""
        sizes = {group.name: abs(group.left_in_float_ms) for group in self.groups}
        total = sum(sizes.values())
        share = {name: size / total if total else 1 / len(sizes) for name, size in sizes.items()}
        return {group.name: group.left_in_float_ms + self._rest * share[group.name] for group in self.groups}

    def of_choice(self, in_float: Collection[str]) -> float:
        """Returns the predicted milliseconds of a choice.

        Args:
            in_float: the names of the groups that are left in float.

        Raises:
            UnknownNameError: the table has no group of such a name; with the nearest.
        """
        added = self.added_ms()
        for name in in_float:
            if name not in added:
                raise UnknownNameError(f"The latency table has no group '{name}'. {did_you_mean(name, added)}")
        alone = sum(added[name] for name in set(in_float))
        saved = sum(pair.saved_ms for pair in self.neighbours if set(pair.groups) <= set(in_float))
        return self.quantized_ms[1] + alone - saved

    @property
    def _rest(self) -> float:
        alone = sum(group.left_in_float_ms for group in self.groups)
        saved = sum(pair.saved_ms for pair in self.neighbours)
        return self.float_ms[1] - self.quantized_ms[1] - (alone - saved)


def _nearest(value: float, interval: tuple[float, float]) -> float:
    low, high = interval
    return min(max(value, low), high)
