"""What steps that change weights in closed form have in common: the passes, the weights in matrix form, the report."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.optimization.gptq import WeightGrid
from qzoo.optimization.layer_inputs import Moments, Progress, Read, gather, in_passes, reads_of, silent
from qzoo.quant.fake_quant import fake_quantize
from qzoo.quant.grouped import along_weight
from qzoo.quant.ranges import require_calibrated
from qzoo.quant.weights import QuantizedWeight, quantized_weights
from qzoo.results.optimization import Change


class Solved(NamedTuple):
    """What a step made of a weight, in matrix form.

    Attributes:
        values: float32 `(groups, rows, columns)`.
        before: the squared error of its products before, a sum over rows.
        after: the squared error after.
        product: the squared product that the errors are relative to.
        note: what a person should know.
    """

    values: Tensor
    before: Tensor
    after: Tensor
    product: Tensor
    note: str = ""


Solve = Callable[[Tensor, WeightGrid, Moments], Solved]
"""Computes a weight anew, from its float values in matrix form, its grid, and the moments of its inputs."""


def change_weights(
    model: nn.Module,
    batches: Iterable[Any],
    solve: Solve,
    *,
    passes: int,
    what: str,
    float_model: nn.Module | None = None,
    images: int | None = None,
    progress: Progress = silent,
) -> list[Change]:
    """Changes the weights of a model that operators multiply by, in place, in the order of evaluation.

    Args:
        model: quantized, with ranges.
        batches: inputs of the model, which can be iterated again.
        solve: computes a weight.
        passes: how often the batches are seen, so that later weights see what was made of those before them.
        what: a few words for the progress.
        float_model: for moments across, see `gather`.
        images: how many images the batches hold, if known.
        progress: shown the batches.

    Returns:
        A change for each quantized weight, in the order of evaluation; those that were left as they are come last.
    """
    weights = quantized_weights(model)
    reads, changes = _readable(model, weights, batches)
    for number, group in enumerate(in_passes(reads, passes)):
        shown = progress(batches, images, what)
        moments = gather(model, weights, group, shown, float_model=float_model, images=images)
        by_weight: dict[str, list[Read]] = defaultdict(list)
        for read in group:
            by_weight[read.weight].append(read)
        for path, parts in by_weight.items():
            changes.append(_changed(path, weights[path], parts, moments, solve))
    return changes


def _changed(
    path: str, weight: QuantizedWeight, parts: list[Read], moments: dict[Read, Moments], solve: Solve
) -> Change:
    assert weight.values is not None
    values = weight.values.detach().clone()
    amax = along_weight(weight.quantizer.amax, values).expand_as(values)
    done = []
    for read in parts:
        # A stride of 0 is none of memory that a part of it could be told in.
        grid = WeightGrid(_narrow(read.matrices(torch.empty_like(values).copy_(amax))), weight.quantizer.grid)
        own = moments.pop(read)
        if own.own is None or not bool(own.hessian.isfinite().all()):
            return Change(path=path, note="its inputs hold NaN or Inf: it stays as it is")
        solved = solve(read.matrices(values), grid, own)
        read.write(values, solved.values)
        done.append(solved)
    with torch.no_grad():
        weight.values.copy_(values)
    product = sum(float(one.product) for one in done) or 1.0
    before, after = (sum(float(getattr(one, name)) for one in done) / product for name in ("before", "after"))
    notes = dict.fromkeys(one.note for one in done if one.note)
    return Change(path=path, before=before, after=after, note="; ".join(notes))


def _narrow(amax: Tensor) -> Tensor:
    """Returns ranges with one column, where all columns have the same."""
    return amax[:, :, :1] if bool((amax == amax[:, :, :1]).all()) else amax


def _readable(
    model: nn.Module, weights: Mapping[str, QuantizedWeight], batches: Iterable[Any]
) -> tuple[list[Read], list[Change]]:
    reads = reads_of(model, {path: one for path, one in weights.items() if one.values is not None}, next(iter(batches)))
    return reads, []


def row_choice(*_: Any) -> None: ...
