"""The weight whose products with what a quantized model gives it are nearest to those of the float model.

A weight `W` is given `x`, where the float model has the product `y`. With moments about the means, if a bias takes the
mean error, else about 0, the weight `W' = W + D` of `least_squares` is nearest to `y`, and any other weight `Q` is
worse by `(Q - W') (E[x x^T] + s I) (Q - W')^T`: so `W'` is what is rounded then, by the same moments. How strong a
ridge `s` is best is told by images that `W'` was not computed from.

Where a block adds its own input `i` to the product, behind a norm that multiplies by `f`, what is to be right is the
sum. In the float model it is `f y + i0`, so that the product is to be `y + (i0 - i) / f`: it makes up for the error of
the skip branch, which nothing else does.

Source: Y. Li et al. 2025, "GPTAQ: Efficient Finetuning-Free Quantization for Asymmetric Calibration"
(arXiv 2504.02692), section 3, which does both in one loop over columns, and knows no sums; the output of a whole
residual block as the target is that of BRECQ (arXiv 2102.05426).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.models.residual import skip_operand
from qzoo.models.tracing import OperatorCall, Trace
from qzoo.optimization.closed_form.bias_places import norm_of
from qzoo.optimization.closed_form.least_squares import Fit, ridge_step

STRENGTHS = (0.0003, 0.003, 0.03, 0.3, 3.0)
"""Ridges that are tried, relative to the mean of the diagonal of what is solved."""
SMALLEST_FACTOR = 1e-2
"""Norms that multiply a channel by less, relative to their largest factor, are not asked to make up for anything."""


def best_strength(halves: tuple[Fit, Fit]) -> float:
    """Returns the strength of the ridge with which a weight, moved by one half of the images, serves the other best.

    Returns:
        One of `STRENGTHS`, relative to the mean of the Hessian's diagonal; Inf where no move serves the other half.
    """
    first, second = halves
    errors = {strength: float(second.of_move(move(first, strength)).sum()) for strength in (*STRENGTHS, math.inf)}
    return min(errors, key=errors.__getitem__)


def move(fit: Fit, strength: float) -> Tensor:
    """Returns by how much a weight moves: `W' - W`; 0 with an infinite strength, or one too weak for so few inputs."""
    try:
        return ridge_step(fit, strength) if math.isfinite(strength) else torch.zeros_like(fit.across)
    except ValueError:
        return torch.zeros_like(fit.across)


def skip_shares(float_model: nn.Module, traced: Trace, blocks: Iterable[str]) -> dict[str, Tensor]:
    """Returns by how much a product makes up for the error of its block's input: `1 / f`, `(channels,)` or `(1,)`.

    Args:
        float_model: whose sums they are.
        traced: what it evaluates.
        blocks: the paths of modules that have one tensor in.

    Returns:
        By the path of the weight; of products that are added to the input of their block, through a norm or not.
    """
    paths, found = list(blocks), {}
    for total in traced.evaluations:
        side = skip_operand(traced, total)
        block = next((one for one in paths if _within(one, total)), None)
        if side is None or block is None:
            continue
        skip, branch = (total.operands[one] for one in (side, "left" if side == "right" else "right"))
        end = _behind_dropout(traced, branch)
        norm = norm_of(float_model, traced, end)
        product = end if norm is None else _behind_dropout(traced, end.inputs[0])
        weight = next((read.parameter for read in product.reads.values()), None)
        is_input = skip == 0 or not _within(block, traced.evaluations[skip])
        if weight and is_input and _within(block, product):
            found[weight] = torch.ones(1) if norm is None else _share(float_model.get_submodule(norm))
    return found


def _behind_dropout(traced: Trace, index: int) -> OperatorCall:
    call = traced.evaluations[index]
    return _behind_dropout(traced, call.inputs[0]) if "dropout" in call.op else call


def _within(path: str, call: OperatorCall) -> bool:
    return path in ("", call.module) or call.module.startswith(f"{path}.")


def _share(norm: Any) -> Tensor:
    factor: Tensor = (norm.running_var + norm.eps).rsqrt()
    factor = factor if norm.weight is None else factor * norm.weight.detach()
    small = factor.abs() < SMALLEST_FACTOR * factor.abs().max()
    return torch.where(small, 0.0, 1 / torch.where(small, 1.0, factor))
