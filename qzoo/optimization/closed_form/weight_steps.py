"""What steps that change weights in closed form have in common: the passes, the weights in matrix form, the report."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.optimization.batches import first_of
from qzoo.optimization.closed_form.gptq import WeightGrid
from qzoo.optimization.closed_form.layer_inputs import Read, by_weight, gather, in_passes, reads_of
from qzoo.optimization.closed_form.moments import Moments
from qzoo.optimization.closed_form.products import forget
from qzoo.progress import Progress, silent
from qzoo.quant.grouped import along_weight
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import require_calibrated
from qzoo.quant.weights import QuantizedWeight, quantized_weights
from qzoo.results.optimization import Change


class Solved(NamedTuple):
    """What a step made of a weight in matrix form.

    Attributes:
        values: float32 `(groups, rows, columns)`.
        before: the squared error of its products before, a sum over rows.
        after: the squared error after.
        product: the squared product that the errors are relative to.
        note: what a person should know.
    """

    values: Tensor
    before: float
    after: float
    product: float
    note: str = ""


Solve = Callable[[Tensor, WeightGrid, Moments], Solved]
"""Computes a weight anew, from its float values in matrix form, its grid, and the moments of its inputs.

It raises a ValueError that says why, where it can't."""


def change_weights(
    model: nn.Module,
    batches: Iterable[Any],
    solve: Solve,
    *,
    what: str,
    otherwise: str,
    products: bool = False,
    only: Collection[str] | None = None,
    images: int | None = None,
    progress: Progress = silent,
) -> list[Change]:
    """Computes the weights of a model anew, in place, in the order in which it multiplies by them.

    Args:
        model: quantized, with ranges.
        batches: inputs of the model, which can be iterated again.
        solve: computes a weight.
        what: a few words for the progress.
        otherwise: what a note says of a weight that can't be computed: `kept nearest`.
        products: whether it needs to know how far products are off by the error of quantized inputs.
        only: the paths of the quantizers whose weights are; default: all.
        images: how many images the batches hold, if known.
        progress: shown the batches, once for each pass: of one, unless the moments take too much memory.

    Returns:
        A change for each quantized weight; those that no operator is known to multiply by come last.

    Raises:
        NotCalibratedError: a quantizer has no range.
        DataError: there are no images.
    """
    require_calibrated(model, what)
    weights = {path: one for path, one in quantized_weights(model).items() if only is None or path in only}
    stored = {path: one for path, one in weights.items() if one.key is not None}
    reads = reads_of(model, stored, first_of(batches))
    refused = _refused(weights, reads)
    reads = [read for read in reads if read.weight not in refused]
    changes = []
    for group in in_passes(reads, products=products):
        shown = progress(batches, images, what)
        moments = gather(model, stored, group, shown, products=products, images=images)
        forget(model)  # its weights change now
        for path, parts in by_weight(group).items():
            changes.append(_changed(path, stored[path], parts, moments, solve, otherwise))
    return changes + [Change(path=path, note=f"{why}: {otherwise}") for path, why in refused.items()]


def _refused(weights: Mapping[str, QuantizedWeight], reads: list[Read]) -> dict[str, str]:
    """Returns why weights can't be computed, by path."""
    parts, why = by_weight(reads), {}
    for path, weight in weights.items():
        size = 0 if weight.values is None else weight.values.numel()
        if weight.key is None:
            why[path] = "a forward computes it from other parameters"
        elif path not in parts:
            why[path] = "no linear layer, convolution or matrix product was seen to multiply by it"
        elif sum(torch.Size(read.part.size).numel() for read in parts[path]) > size:
            why[path] = "operators read parts of it that overlap"
    return why


def _changed(
    path: str, weight: QuantizedWeight, parts: list[Read], moments: dict[Read, Moments], solve: Solve, otherwise: str
) -> Change:
    assert weight.values is not None
    values = weight.values.detach().clone()
    solved = []
    try:
        for read in parts:
            grid = grid_of(read, weight.quantizer, values)
            solved.append(solve(read.matrices(values), grid, moments.pop(read)))
            read.write(values, solved[-1].values)
    except ValueError as why:
        return Change(path=path, note=f"{why}: {otherwise}")
    with torch.no_grad():
        weight.values.copy_(values)
    return _told(path, solved)


def _told(path: str, solved: list[Solved]) -> Change:
    product = sum(one.product for one in solved) or 1.0
    before, after = (sum(getattr(one, name) for one in solved) / product for name in ("before", "after"))
    notes = dict.fromkeys(one.note for one in solved if one.note)
    return Change(path=path, before=before, after=after, note="; ".join(notes))


def grid_of(read: Read, quantizer: TensorQuantizer, values: Tensor) -> WeightGrid:
    """Returns the grid of what is read of a weight, with one column of ranges where all columns have the same.

    Args:
        read: a part of the weight, or all of it.
        quantizer: has the ranges of all.
        values: of the whole weight: the ranges are spread over memory as these are, so that parts are found there.
    """
    given = [one for one in (quantizer.amax, quantizer.zero_point) if one is not None]
    whole = [torch.empty_like(values, dtype=torch.float32).copy_(along_weight(one, values)) for one in given]
    ranges = [read.matrices(one) for one in whole]
    if all(bool((one == one[:, :, :1]).all()) for one in ranges):
        ranges = [one[:, :, :1] for one in ranges]
    return WeightGrid(ranges[0], quantizer.grid, *ranges[1:])


def few_inputs(moments: Moments, columns: int) -> str:
    """Returns what to say where there are fewer inputs than columns of a weight; nothing where there are enough."""
    if moments.places >= columns:
        return ""
    return f"only {moments.places} inputs for {columns} columns: more images would tell more"
