"""Rounds the weights of a model: to the nearest values of their grids, or so that products change little."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.optimization.gptq import WeightGrid, gptq, squared_product
from qzoo.optimization.layer_inputs import Moments, Progress, silent
from qzoo.optimization.weight_steps import Solved, change_weights
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Ridge, Round

PASSES = 4
"""How often the images are seen: so that later layers see what was rounded before them."""

def _gptq(spec, ridge_strength=None):
    from qzoo.optimization.gptq import damped
    def solve(weight: Tensor, grid: WeightGrid, moments: Moments) -> Solved:
        h = moments.hessian
        target = weight
        if moments.cross is not None and ridge_strength is not None:
            c = moments.cross / moments.places
            target = weight + torch.linalg.solve(damped(h, ridge_strength), (weight @ (c - h)).transpose(1, 2)).transpose(1, 2)
        near = grid.rounded(target)
        made, damping = gptq(target, h, grid, damping=spec.damping, block=spec.block, order=spec.order)
        b, a = squared_product(target - near, h), squared_product(target - made, h)
        keep = (b < a).unsqueeze(2)
        note = "" if damping == spec.damping else f"damped by {damping:g}"
        return Solved(torch.where(keep, near, made), b.sum(), torch.minimum(a, b).sum(), squared_product(weight, h).sum(), note)
    return solve
