"""What a sensitivity analysis switches: a layer with all its quantizers, or a quantizer that belongs to no layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from qzoo.errors import NotCalibratedError
from qzoo.models.provenance import planned_quantizers
from qzoo.quant.layers import ROLES, QuantizedLayer
from qzoo.quant.operators.blocks import QuantizedBlock
from qzoo.quant.quantizer import State, TensorQuantizer
from qzoo.quant.ranges import quantizers


@dataclass(frozen=True, eq=False)
class QuantizerGroup:
    """Quantizers that are switched together.

    Attributes:
        name: the name of the layer; or the path of the quantizer.
        module: the layer, the module whose forward computes it, or the quantizer itself.
        by_path: the quantizers of the layer, by their paths.
        rule: what leaves them in float, as a recipe says it; None where no rule can name them.
    """

    name: str
    module: nn.Module
    by_path: Mapping[str, TensorQuantizer]
    rule: dict[str, Any] | None

    @property
    def paths(self) -> list[str]:
        """The paths of its quantizers."""
        return list(self.by_path)

    @property
    def quantizers(self) -> list[TensorQuantizer]:
        """Its quantizers, in the order of the model."""
        return list(self.by_path.values())

    def switch(self, state: State) -> None:
        """Switches all its quantizers."""
        for quantizer in self.quantizers:
            quantizer.state = state


def quantizer_groups(model: nn.Module) -> list[QuantizerGroup]:
    """Returns the groups of a calibrated model in its order; quantizers that are switched off are in none.

    Raises:
        NotCalibratedError: every quantizer is switched off.
    """
    on = {path: quantizer for path, quantizer in quantizers(model).items() if quantizer.state == "quantizing"}
    if not on:
        raise NotCalibratedError(
            "Every quantizer of this model is switched off. Switch those on that count: quantizer.state = 'quantizing'."
        )
    members: dict[str, list[str]] = {}
    for path, name in _names(model, on).items():
        members.setdefault(name, []).append(path)
    return [_group(model, name, {path: on[path] for path in paths}) for name, paths in members.items()]


def _names(model: nn.Module, paths: Iterable[str]) -> dict[str, str]:
    """Returns for each quantizer the name of its layer, be that called or not; of one at an operator its own path."""
    planned = planned_quantizers(model)
    found = {}
    for path in paths:
        owner, one = path.rpartition(".")[0], planned.get(path)
        if isinstance(model.get_submodule(owner), QuantizedLayer):
            found[path] = owner
        elif one is None or one.layer is None:
            found[path] = path
        else:
            found[path] = f"{path.removesuffix(one.path)}{one.layer}"
    return found


def with_equal_rules(chosen: Iterable[QuantizerGroup], groups: Iterable[QuantizerGroup]) -> list[QuantizerGroup]:
    """Returns the chosen groups, and those that their rules leave out with them: both operands of an addition."""
    chosen = list(chosen)
    rules = [group.rule for group in chosen if group.rule is not None]
    return [group for group in groups if group in chosen or group.rule in rules]


def _group(model: nn.Module, name: str, its: Mapping[str, TensorQuantizer]) -> QuantizerGroup:
    first = next(iter(its))
    module = model.get_submodule(first.rpartition(".")[0])
    if name == first:
        own = model.get_submodule(name)
        changes = module if isinstance(module, QuantizedBlock) and own in module.called_when_on else own
        return QuantizerGroup(name, changes, its, _operator_rule(name))
    roles = [role for role in ROLES if any(path.endswith(f"{role}_quantizer") for path in its)]
    rule = {"match": {"name": name}, **dict.fromkeys(roles, False)} if name else None
    return QuantizerGroup(name, module, its, rule)


def _operator_rule(path: str) -> dict[str, Any] | None:
    """Returns the rule for a quantizer at an operator: its name says which operator and which operand."""
    module, _, quantizer = path.rpartition(".")
    role = quantizer.partition("_quantizer")[0]
    if not module:
        return None
    if role.startswith("residual"):
        return {"match": {"name": module}, "residual": "none"}
    operator, _, operand = role.rpartition("_")
    return {"match": {"name": module, "op": operator}, "output" if operand == "output" else "input": False}
