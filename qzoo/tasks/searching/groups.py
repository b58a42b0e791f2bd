"""Groups of layers that move together in a search."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from qzoo.errors import ArgumentError, did_you_mean
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.same_tensor import quantizers_by_tensor
from qzoo.schema.chosen_rules import RuleText
from qzoo.tasks.measuring.quantizer_groups import QuantizerGroup, quantizer_groups


@dataclass(frozen=True, eq=False)
class Group:
    """Layers and quantizers at operators that get one candidate.

    Attributes:
        name: the name of its first member.
        members: of each the quantizers, and the rule that leaves them in float.
    """

    name: str
    members: tuple[QuantizerGroup, ...]

    @property
    def modules(self) -> set[nn.Module]:
        """What runs otherwise once its quantizers change."""
        return {member.module for member in self.members}

    @property
    def by_path(self) -> dict[str, TensorQuantizer]:
        """All its quantizers, by their paths."""
        return {path: one for member in self.members for path, one in member.by_path.items()}

    @property
    def paths(self) -> list[str]:
        """The paths of its quantizers."""
        return list(self.by_path)

    @property
    def rules(self) -> list[RuleText]:
        """The rules that leave it in float."""
        rules = [member.rule for member in self.members if member.rule is not None]
        return [rule for place, rule in enumerate(rules) if rule not in rules[:place]]


def movable_groups(model: nn.Module, example: Any, keep: Sequence[str] = ()) -> list[Group]:
    """Returns the groups of a calibrated model in its order.

    Together move: the quantizers of a layer; those that read one tensor, which a runtime quantizes once; and both
    operands of an addition, which runs on integers if both are quantized.

    Args:
        model: calibrated; run once on the example.
        example: an input that it takes.
        keep: globs over names of layers that stay as they are.

    Raises:
        ArgumentError: a glob matches no layer.
    """
    alone = [one for one in quantizer_groups(model) if one.rule is not None]
    for glob in keep:
        if not any(fnmatchcase(one.name, glob) for one in alone):
            raise ArgumentError(f"keep: no layer is called '{glob}'. {did_you_mean(glob, [one.name for one in alone])}")
    by_path = {path: one for one in alone for path in one.paths}
    ties = [[by_path[path] for path in paths if path in by_path] for paths in quantizers_by_tensor(model, example)]
    ties += [[other for other in alone if other.rule == one.rule] for one in alone]
    groups = [Group(members[0].name, tuple(members)) for members in _tied(alone, ties)]
    return [group for group in groups if not any(fnmatchcase(one.name, glob) for one in group.members for glob in keep)]


def _tied(members: Sequence[QuantizerGroup], ties: Iterable[Collection[QuantizerGroup]]) -> list[list[QuantizerGroup]]:
    """Returns the members in sets that no tie crosses, in their order."""
    sets: dict[QuantizerGroup, list[QuantizerGroup]] = {one: [one] for one in members}
    for tied in ties:
        found = {id(sets[one]): sets[one] for one in tied}
        merged = [one for group in found.values() for one in group]
        sets |= dict.fromkeys(merged, merged)
    order = {one: place for place, one in enumerate(members)}
    distinct = {id(group): sorted(group, key=order.__getitem__) for group in sets.values()}
    return sorted(distinct.values(), key=lambda group: order[group[0]])
