"""What a search chooses from, as numbers: losses and costs of every candidate of every group.

Knows no model, so that another budget is solved from kept scores, and without torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from qzoo.schema.candidates import FLOAT

TIGHT = 1e-9
"""By how much a sum may exceed its limit: the last digits of floating point."""


@dataclass(frozen=True)
class Problem:
    """What can be chosen, and what it comes to.

    Attributes:
        groups: names, in order.
        loss: by group, then by candidate, in nats.
        cost: by cost, by group, then by candidate.
        rest: by cost, the part that no choice changes.
        saved: by cost, what two groups that are both in float save of the sum of what each costs.
    """

    groups: Sequence[str]
    loss: Mapping[str, Mapping[str, float]]
    cost: Mapping[str, Mapping[str, Mapping[str, float]]]
    rest: Mapping[str, float]
    saved: Mapping[str, Mapping[tuple[str, str], float]] = field(default_factory=dict)

    def plain(self, choice: Mapping[str, str]) -> dict[str, str]:
        """Returns a choice that comes to the same, with the first of candidates that do the same to a group."""
        return {group: self._first(group, choice[group]) for group in self.groups}

    def columns(self) -> list[tuple[str, str]]:
        """Returns every group with each of its candidates; of those that do the same to it, the first alone."""
        names = ((group, name) for group in self.groups for name in self.loss[group])
        return [(group, name) for group, name in names if self._first(group, name) == name]

    def _first(self, group: str, name: str) -> str:
        def facts(one: str) -> list[float]:
            return [self.loss[group][one], *(of_groups[group][one] for of_groups in self.cost.values())]

        return next(one for one in self.loss[group] if facts(one) == facts(name))

    def loss_of(self, choice: Mapping[str, str]) -> float:
        """Returns the predicted loss of a choice: the sum over groups."""
        return sum(self.loss[group][choice[group]] for group in self.groups)

    def deviation_of(self, choice: Mapping[str, str]) -> float:
        """Returns how far a choice is from the float model if deviations add up: the sum of the roots of losses."""
        return sum(math.sqrt(max(self.loss[group][choice[group]], 0.0)) for group in self.groups)

    def with_deviations(self) -> Problem:
        """Returns the problem with the roots of losses in their place: of two large losses both count in full."""
        roots = {
            group: {name: math.sqrt(max(loss, 0.0)) for name, loss in of_group.items()}
            for group, of_group in self.loss.items()
        }
        return replace(self, loss=roots)

    def costs_of(self, choice: Mapping[str, str]) -> dict[str, float]:
        """Returns every cost of a choice."""
        return {
            name: self.rest.get(name, 0.0)
            + sum(of_groups[group][choice[group]] for group in self.groups)
            - sum(saved for pair, saved in self.saved.get(name, {}).items() if _both_in_float(choice, pair))
            for name, of_groups in self.cost.items()
        }

    def within(self, choice: Mapping[str, str], limits: Mapping[str, float]) -> bool:
        """Whether a choice keeps to limits of costs."""
        costs = self.costs_of(choice)
        return all(costs[name] <= most + TIGHT for name, most in limits.items())

    def spread(self, name: str) -> tuple[float, float]:
        """Returns the least and the largest that a cost can be."""
        of_groups = self.cost[name]
        least = sum(min(of_groups[group].values()) for group in self.groups)
        most = sum(max(of_groups[group].values()) for group in self.groups)
        return self.rest.get(name, 0.0) + least, self.rest.get(name, 0.0) + most


def _both_in_float(choice: Mapping[str, str], pair: tuple[str, str]) -> bool:
    return all(choice.get(group) == FLOAT for group in pair)
