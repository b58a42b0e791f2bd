"""Weights that no quantizer sees although no rule says so: they are named, with their share of the model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence

from torch import nn

from qzoo.errors import some
from qzoo.models.tracing import Trace
from qzoo.quant.operators import MOVES, NEUTRAL
from qzoo.schema.plan import FloatWeight, Functional, Layer, Plan

MOST_SILENT = 0.01
"""The share of the weights that may stay in float without a word."""
NOT_MULTIPLYING = MOVES | NEUTRAL.keys() | {"cat", "stack", "embedding_renorm"}
"""Operators that need no weight: embeddings of positions are added, tokens are put beside others, layers scaled."""


class FloatWeightsWarning(UserWarning):
    """Weights stay in float although no rule says so."""


def float_weights(model: nn.Module, layers: Iterable[Layer], plan: Plan, found: Trace | None) -> list[FloatWeight]:
    """Returns the weights that stay in float although no rule says so, the largest first.

    Weights are parameters of at least two dimensions that something multiplies by; vectors, such as biases and the
    parameters of norms, are none.

    Args:
        model: float.
        layers: all that rules can speak of.
        plan: what is quantized of them.
        found: a trace of the model; without one, every matrix counts as a weight.
    """
    matrices = {path: p for path, p in model.named_parameters() if sum(size > 1 for size in p.shape) > 1}
    weights = matrices if found is None else {path: matrices[path] for path in _multiplied(found) if path in matrices}
    quantized = {one.layer for one in plan.quantizers if one.of_weight}
    spoken = [layer for layer in layers if layer.name in quantized or layer.name in plan.float_rules]
    known = {path for layer in spoken for path in _parameters(model, layer, found)}
    macs = _macs(found)
    total, computed = sum(p.numel() for p in weights.values()), sum(macs.values())
    return [
        FloatWeight(path, weights[path].numel() / total, macs.get(path, 0) / computed if computed else None)
        for path in sorted(weights, key=lambda path: -weights[path].numel())
        if path not in known
    ]


def _multiplied(found: Trace) -> Iterator[str]:
    for evaluation in found.evaluations:
        if evaluation.is_activation and evaluation.op not in NOT_MULTIPLYING:
            yield from evaluation.parameters


def _parameters(model: nn.Module, layer: Layer, found: Trace | None) -> Iterator[str]:
    """Yields the paths of the parameters that a layer's weight is, or is computed from."""
    if layer.functional is None:
        module = model.get_submodule(layer.name)
        held = {id(one) for one in module.parameters()}
        yield from (path for path, one in model.named_parameters() if id(one) in held)
    else:
        yield from _read_by(model, layer.functional, found)


def _read_by(model: nn.Module, functional: Functional, found: Trace | None) -> Iterator[str]:
    if functional.weight.parameter is not None:
        parameter = model.get_submodule(functional.module).get_parameter(functional.weight.parameter)
        yield from (path for path, one in model.named_parameters() if one is parameter)
    for evaluation in found.evaluations if found else ():
        if evaluation.module == functional.module and evaluation.site in functional.sites:
            yield from evaluation.parameters


def _macs(found: Trace | None) -> dict[str, int]:
    macs: dict[str, int] = {}
    for evaluation in found.evaluations if found else ():
        for path in evaluation.parameters if evaluation.macs else ():
            macs[path] = macs.get(path, 0) + evaluation.macs
    return macs


def warn_of_float(model: nn.Module, in_float: Sequence[FloatWeight], *, traced: bool) -> None:
    """Warns where more than 1 % of a model's weights stay in float although no rule says so.

    Warns:
        FloatWeightsWarning: names them, with their share of weights and of multiplications.
    """
    share = sum(one.weights for one in in_float)
    if share <= MOST_SILENT:
        return
    macs = sum(one.macs or 0 for one in in_float)
    multiplied = f" and {100 * macs:.1f} % of the multiplications by weights" if traced else ""
    remedy = (
        "Rules can't name what computes with them; `qzoo.explain` shows all."
        if traced
        else "The model does not run on an image of a usual size, which would show what computes with them: give an "
        "input, qzoo.quantize(model, scheme, example=inputs)."
    )
    warnings.warn(
        f"{100 * share:.1f} % of the weights{multiplied} of {type(model).__name__} stay in float: "
        f"{some([one.path for one in in_float], 3)}. {remedy}",
        FloatWeightsWarning,
        stacklevel=4,
    )
