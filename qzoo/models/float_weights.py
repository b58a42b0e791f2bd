"""Weights that no quantizer sees although no rule says so: they are named, with their share of the model."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from torch import nn

from qzoo.errors import some
from qzoo.models.tracing import Trace
from qzoo.quant.operators.spellings import MOVES
from qzoo.schema.resolution.plan import FloatWeight, Layer, Plan

MOST_SILENT = 0.01
"""The share of the weights that may stay in float without a word."""
LOOKUPS = {"getitem", "index_select", "gather", "take_along_dim"}
"""Operators by which a table is looked up; of indices that are no input, as those of positions, it is a constant."""
NOT_MULTIPLYING = MOVES - LOOKUPS | {"add", "sub", "cat", "stack", "sdpa"}
"""Operators that need no weight: embeddings of positions are added, also to the scores of attention, tokens put beside
others."""


class FloatWeightsWarning(UserWarning):
    """Weights stay in float although no rule says so."""


class SeenWeight(NamedTuple):
    """A weight of a model: a matrix that something multiplies by.

    Attributes:
        share: its path, and its share of the model.
        layers: the names of the layers that it is the weight of; none where no layer is known.
    """

    share: FloatWeight
    layers: frozenset[str]


def seen_weights(model: nn.Module, layers: Iterable[Layer], found: Trace | None) -> list[SeenWeight]:
    """Returns the weights of a model, the largest first: parameters of at least two dimensions that it multiplies by.

    Vectors, such as biases and the parameters of norms, are none.

    Args:
        model: float.
        layers: all that rules can speak of.
        found: a trace of the model; without one, every matrix counts as a weight.
    """
    matrices = {path: p for path, p in model.named_parameters() if sum(size > 1 for size in p.shape) > 1}
    weights = matrices if found is None else {path: matrices[path] for path in _multiplied(found) if path in matrices}
    owners: dict[str, set[str]] = {}
    for layer in layers:
        for path in parameters_of(model, layer) if layer.has_weight else ():
            owners.setdefault(path, set()).add(layer.name)
    macs = macs_by_parameter(found)
    total, computed = sum(p.numel() for p in weights.values()), sum(macs.values())
    shares = (
        FloatWeight(path, weights[path].numel() / total, macs.get(path, 0) / computed if computed else None)
        for path in sorted(weights, key=lambda path: -weights[path].numel())
    )
    return [SeenWeight(share, frozenset(owners.get(share.path, ()))) for share in shares]


def float_weights(plan: Plan, weights: Iterable[SeenWeight]) -> list[FloatWeight]:
    """Returns the weights that a plan leaves in float although no rule says so, the largest first."""
    spoken = {one.layer for one in plan.quantizers if one.of_weight} | plan.float_rules.keys()
    return [weight.share for weight in weights if weight.layers.isdisjoint(spoken)]


def _multiplied(found: Trace) -> Iterator[str]:
    for evaluation in found.evaluations:
        if evaluation.parameters and evaluation.inputs and evaluation.op not in NOT_MULTIPLYING:
            yield from evaluation.parameters


def parameters_of(model: nn.Module, layer: Layer) -> Iterator[str]:
    """Yields the paths of the parameters that a layer's weight is, or is computed from."""
    if layer.functional is None:
        held = set(map(id, model.get_submodule(layer.name).parameters()))
    else:
        module, read = model.get_submodule(layer.functional.module), layer.functional.weight
        sources = read.made_of if read.parameter is None else (read.parameter,)
        held = {id(module.get_parameter(path)) for path in sources}
    yield from (path for path, one in model.named_parameters() if id(one) in held)


def macs_by_parameter(found: Trace | None) -> dict[str, int]:
    """Returns how many multiply-accumulates each parameter takes part in, by its path; none of a model not traced."""
    macs: dict[str, int] = {}
    for evaluation in found.evaluations if found else ():
        for path in evaluation.parameters if evaluation.macs else ():
            macs[path] = macs.get(path, 0) + evaluation.macs
    return macs


def warn_of_float(model: nn.Module, in_float: Sequence[FloatWeight]) -> None:
    """Warns where more than 1 % of a model's weights stay in float although no rule says so.

    Warns:
        FloatWeightsWarning: names them, with their share of weights and of multiplications.
    """
    share = sum(one.weights for one in in_float)
    if share <= MOST_SILENT:
        return
    macs = sum(one.macs or 0 for one in in_float)
    # What they multiply in an operator that is no layer is not known.
    multiplied = f" and {100 * macs:.1f} % of the multiplications by weights" if macs else ""
    remedy = (
        "No rule of the variant speaks of them; `qzoo.explain` shows what it does."
        if any(one.macs is not None for one in in_float)
        else "The model does not run on an image of a usual size, which would show what computes with them: give an "
        "input, qzoo.quantize(model, scheme, example=inputs)."
    )
    warnings.warn(
        f"{100 * share:.1f} % of the weights{multiplied} of {type(model).__name__} stay in float: "
        f"{some([one.path for one in in_float], 3)}. {remedy}",
        FloatWeightsWarning,
        stacklevel=4,
    )
