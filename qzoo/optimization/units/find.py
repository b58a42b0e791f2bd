"""What of a model is learned together: its layers, blocks or stages, found from its own structure.

A unit is a module that has one tensor in and one out, of which the first axis runs over images, and that is called
once: so its inputs can be kept, and the module be run on some of them by itself.

    block   the smallest module whose own forward adds a residual, or one that holds several layers and is no plain
            container, where nothing in it adds a residual
    stage   the container of such blocks
    layer   everything else that has a quantized weight, with the norm and activation modules that come right behind it
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

from torch import nn

from qzoo.models.residual import skip_operand
from qzoo.models.tracing import trace
from qzoo.optimization.units.calls import Calls, Given, record_calls
from qzoo.quant.derived import float_name
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import is_of_weight, quantizers
from qzoo.quant.weights import QuantizedWeight, quantized_weights

Kind = Literal["layer", "block", "stage"]
CONTAINERS = ("Sequential", "ModuleList", "ModuleDict")


@dataclass(frozen=True)
class Unit:
    """Modules that run one after the other, and what is learned in them.

    Attributes:
        paths: of the modules; the first has the weights.
        weights: quantized weights by the path of their quantizer.
        activations: quantizers of activations by path.
        channels: of its output: those of its last layer.
        note: why it is no larger unit, if somebody wanted one; or why it can't be learned at all.
        learnable: whether it can.
        ranges: of the activations, those whose range it learns: paths, together where they share one.
        given: how it is called; None where it can't be run by itself.
        follows: whether it is given, in both models, just what the unit before it gives.
    """

    paths: tuple[str, ...]
    weights: dict[str, QuantizedWeight] = field(default_factory=dict)
    activations: dict[str, TensorQuantizer] = field(default_factory=dict)
    channels: int = 1
    note: str = ""
    learnable: bool = True
    ranges: tuple[tuple[str, ...], ...] = ()
    given: Given | None = None
    follows: bool = False

    @property
    def path(self) -> str:
        """The path of the module that it is known by."""
        return self.paths[0]


def find_units(model: nn.Module, float_model: nn.Module, example: Any, kind: Kind) -> list[Unit]:
    """Returns the units of a quantized model, in the order in which they are evaluated.

    Each quantized weight is in one of them. Those that can't be learned come last.

    Args:
        model: quantized and calibrated; run once.
        float_model: the model before it was quantized; run once.
        example: an input that both take, of few images.
        kind: what is wanted; what is in no block, or in one that can't be isolated, is learned layer by layer.
    """
    calls = record_calls(model, example)
    weights = quantized_weights(model)
    owners = list(dict.fromkeys(path.rpartition(".")[0] for path in weights))
    larger = set() if kind == "layer" else _blocks(model, float_model, example, owners)
    notes = {path: reason for path in sorted(larger) if (reason := calls.reason(path))}
    larger -= notes.keys()
    if kind == "stage":
        larger = {_stage(path, calls) for path in larger}
    paths = _outermost({next((one for one in larger if _holds(one, owner)), owner) for owner in owners})
    units = [_unit(model, path, weights, calls, path in larger) for path in paths]
    units = [replace(one, note=one.note or _of_larger(one.path, notes)) for one in units]
    units.sort(key=lambda one: (not one.learnable, calls.order(one.path), one.path))
    both = calls, record_calls(float_model, example)
    return units[:1] + [replace(one, follows=_follows(one, before, both)) for before, one in pairwise(units)]


def _follows(unit: Unit, before: Unit, both: tuple[Calls, Calls]) -> bool:
    if unit.given is None or before.given is None:
        return False
    return all(calls.follows(unit.paths[0], before.paths[-1]) for calls in both)


def _blocks(model: nn.Module, float_model: nn.Module, example: Any, owners: list[str]) -> set[str]:
    """Returns the paths of all blocks, whether they can be isolated or not."""
    traced = trace(float_model, example)
    adding = {one.module for one in traced.evaluations if skip_operand(traced, one) is not None}

    def within(path: str) -> list[str]:
        module = model.get_submodule(path)
        count = sum(_holds(path, owner) for owner in owners)
        if count < 2 and path not in adding:
            return []
        adds_inside = any(_holds(path, one) and one != path for one in adding)
        plain = float_name(module) in CONTAINERS
        if path and count > 0 and not adds_inside and (path in adding or not plain):
            return [path] if count > 1 or path in adding else []
        children = [f"{path}.{name}".lstrip(".") for name, child in module.named_children() if not _quantizes(child)]
        return [one for child in children for one in within(child)]

    return set(within(""))


def _stage(block: str, calls: Calls) -> str:
    """Returns the nearest module around a block that is a unit; the block itself if that is the model alone."""
    around = block.rpartition(".")[0]
    while around and calls.reason(around):
        around = around.rpartition(".")[0]
    return around or block


def _unit(model: nn.Module, path: str, weights: dict[str, QuantizedWeight], calls: Calls, is_larger: bool) -> Unit:
    own = {one: weight for one, weight in weights.items() if _holds(path, one)}
    inside = {one: found for one, found in quantizers(model).items() if _holds(path, one) and not is_of_weight(one)}
    reason = calls.reason(path) if path else "its weight is read by the model's own forward"
    if reason:
        return Unit((path,), own, inside, note=f"keeps nearest rounding: {reason}", learnable=False)
    kept = {one: why for one, weight in own.items() if (why := _unlearnable(weight, weights))}
    note = "; ".join(f"{one.rpartition('.')[0]} keeps nearest rounding: {why}" for one, why in kept.items())
    learned = {one: weight for one, weight in own.items() if one not in kept}
    paths = (path,) if is_larger else (path, *calls.behind(path))
    channels = _channels(list(own.values())[-1])
    return Unit(paths, learned, inside, channels, note, bool(learned), given=calls.given(path))


def _unlearnable(one: QuantizedWeight, all_of_them: dict[str, QuantizedWeight]) -> str:
    """Returns why the rounding of a weight can't be learned; empty if it can."""
    if one.quantizer.grid.fp8 is not None:
        return "its grid is none of integers"
    if one.key is None or one.values is None:
        return "it is computed from other weights"
    if sum(other.values is one.values for other in all_of_them.values()) > 1:
        return "several layers have it"
    return ""


def _channels(last: QuantizedWeight) -> int:
    """Returns how many channels the output of a layer has."""
    return 1 if last.values is None else last.groups * last.values.shape[last.axis or 0]


def _outermost(paths: set[str]) -> list[str]:
    return [path for path in paths if not any(_holds(other, path) for other in paths if other not in (path, ""))]


def _of_larger(path: str, notes: dict[str, str]) -> str:
    return next(
        (
            f"not learned together with the rest of {larger}: {reason}"
            for larger, reason in notes.items()
            if _holds(larger, path)
        ),
        "",
    )


def _holds(path: str, inner: str) -> bool:
    return path in ("", inner) or inner.startswith(f"{path}.")


def _quantizes(module: nn.Module) -> bool:
    return isinstance(module, TensorQuantizer)
