"""What a sensitivity analysis switches: a layer with all its quantizers, or a quantizer that belongs to no layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from qzoo.errors import NotCalibratedError
from qzoo.quant.layers import ROLES, QuantizedLayer, quantizer_of
from qzoo.quant.quantizer import State, TensorQuantizer
from qzoo.quant.ranges import quantizers


@dataclass(frozen=True, eq=False)
class QuantizerGroup:
    """Quantizers that are switched together.

    Attributes:
        name: module path.
        module: the layer, or the quantizer itself.
        quantizers: the quantizers of the layer.
        rule: what leaves them in float, as a recipe says it; None where no rule can name them.
    """

    name: str
    module: nn.Module
    quantizers: tuple[TensorQuantizer, ...]
    rule: dict[str, Any] | None

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
    modules = dict(model.named_modules())
    owners = {path: path.rpartition(".")[0] for path in on}
    names = {path: owner if isinstance(modules[owner], QuantizedLayer) else path for path, owner in owners.items()}
    return [_group(name, modules[name], [on[path] for path in on if names[path] == name]) for name in _unique(names)]


def with_equal_rules(chosen: Iterable[QuantizerGroup], groups: Iterable[QuantizerGroup]) -> list[QuantizerGroup]:
    """Returns the chosen groups, and those that their rules leave out with them: both operands of an addition."""
    chosen = list(chosen)
    rules = [group.rule for group in chosen if group.rule is not None]
    return [group for group in groups if group in chosen or group.rule in rules]


def _unique(names: Mapping[str, str]) -> list[str]:
    return list(dict.fromkeys(names.values()))


def _group(name: str, module: nn.Module, its: list[TensorQuantizer]) -> QuantizerGroup:
    rule = _layer_rule(name, module) if isinstance(module, QuantizedLayer) else _operator_rule(name)
    return QuantizerGroup(name, module, tuple(its), rule)


def _layer_rule(name: str, layer: nn.Module) -> dict[str, Any] | None:
    roles = [role for role in ROLES if quantizer_of(layer, role) is not None]
    return {"match": {"name": name}, **dict.fromkeys(roles, False)} if name else None


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
