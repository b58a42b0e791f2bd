"""Rounds the weights of a model: each to the nearest value of its grid, or so that products change little.

Afterwards a weight's parameter holds values of its grid. Quantizing these changes nothing, so that the range stays, and
whatever evaluates, exports or packs the model finds the rounding there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.optimization.closed_form.gptq import WeightGrid, gptq, squared_product
from qzoo.optimization.closed_form.moments import Moments
from qzoo.optimization.closed_form.weight_steps import Solve, Solved, change_weights, few_inputs
from qzoo.progress import Progress, silent
from qzoo.quant.ranges import require_calibrated
from qzoo.quant.weights import quantized_weights
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Round


def round_weights(
    model: nn.Module,
    spec: Round,
    batches: Iterable[Any] = (),
    *,
    only: Collection[str] | None = None,
    images: int | None = None,
    progress: Progress = silent,
) -> list[Change]:
    """Rounds all quantized weights of a model, in place.

    Args:
        model: quantized, with ranges.
        spec: `nearest`, or `gptq` with its fields.
        batches: inputs of the model, which can be iterated again; `nearest` needs none.
        only: the paths of the quantizers whose weights are rounded; default: all.
        images: how many images the batches hold, if known.
        progress: shown the batches.

    Returns:
        A change for each weight. Errors are those of its products with the inputs that it has in the quantized model,
        squared, relative to the products of the float weight: before, of rounding to nearest.

    Raises:
        NotCalibratedError: a quantizer has no range.

    Example:
        >>> from qzoo.zoo.create import quantize
        >>> model = quantize(nn.Sequential(nn.Linear(2, 1, bias=False)), "int8")
        >>> with torch.no_grad():
        ...     _ = model[0].weight.copy_(torch.tensor([[0.3, 1.27]]))
        >>> model[0].input_quantizer.set_amax(torch.tensor(1.0))
        >>> model[0].weight_quantizer.set_amax(torch.tensor([[127.0]]))
        >>> [one.path for one in round_weights(model, Round())], model[0].weight.data
        (['0.weight_quantizer'], tensor([[0., 1.]]))
    """
    require_calibrated(model, "round its weights")
    if spec.method != "gptq":
        return to_nearest(model, only)
    changes = change_weights(
        model, batches, _gptq(spec), what="rounding weights", otherwise="rounded to nearest",
        only=only, images=images, progress=progress,
    )  # fmt: skip
    to_nearest(model, only)  # what could not be rounded otherwise; of all others nothing changes
    return changes


def to_nearest(model: nn.Module, only: Collection[str] | None = None) -> list[Change]:
    """Rounds weights to the nearest values of their grids, in place; all, or those with quantizers at some paths."""
    changes = []
    for path, weight in quantized_weights(model).items():
        if only is not None and path not in only:
            continue
        if weight.key is None or weight.values is None:
            changes.append(Change(path=path, note="a forward computes it from other parameters: left to its quantizer"))
            continue
        with torch.no_grad():
            weight.values.copy_(weight.quantizer(weight.values))
        changes.append(Change(path=path))
    return changes


def _gptq(spec: Round) -> Solve:
    def solve(weight: Tensor, grid: WeightGrid, moments: Moments) -> Solved:
        hessian = moments.hessian()
        nearest = grid.rounded(weight)
        made = gptq(weight, hessian, grid, damping=spec.damping, block=spec.block, order=spec.order)
        before, after = (squared_product(weight - one, hessian) for one in (nearest, made.values))
        # Of few inputs, or of a hard grid, a row may come out worse: it is greedy.
        values = torch.where((after < before).unsqueeze(2), made.values, nearest)
        notes = [few_inputs(moments, weight.shape[2])]
        notes += [f"damped by {made.damping:g} instead of {spec.damping:g}"] if made.damping > spec.damping else []
        return Solved(
            values, float(before.sum()), float(torch.minimum(before, after).sum()),
            float(squared_product(weight, hessian).sum()), "; ".join(filter(None, notes)),
        )  # fmt: skip

    return solve
