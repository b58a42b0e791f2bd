"""Telling of weights whose rounding is lost when a model is adapted to a runtime.

Optimizing, or a packed checkpoint, leaves each weight on the grid of its quantizer, mostly not at the nearest place. On
another grid it is rounded anew, to the nearest, and what choosing the places had gained is gone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import torch

from qzoo.errors import some
from qzoo.quant.grouped import along_weight
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.weights import QuantizedWeight
from qzoo.runtimes.runtime import Runtime

MOST_NAMED = 5
"""The weights that the message names."""
NEAR = 1e-3
"""How many steps a value on a grid may be off it, as scales are rounded to float32."""


class LostRoundingWarning(UserWarning):
    """Weights that optimizing or training put on a grid get another, on which they are rounded to the nearest."""


def warn_of_lost_rounding(
    before: Mapping[str, QuantizedWeight], after: Mapping[str, QuantizedWeight], runtime: Runtime
) -> None:
    """Warns where weights lie on the grids that they have in one model, but not on those that they have in another.

    Args:
        before: the quantized weights of a calibrated model, by the path of the quantizer.
        after: those of the model that is made of it, with the same float values.
        runtime: whom it is made for.

    Warns:
        LostRoundingWarning: names the weights, and what of a recipe would have kept their rounding.
    """
    lost = [path for path in before if path in after and _loses_rounding(before[path], after[path].quantizer)]
    if not lost:
        return
    named = some([before[path].key or path for path in lost], MOST_NAMED)
    grids = [(before[path].quantizer, after[path].quantizer) for path in lost]
    asked = ["symmetric: true"] if any(old.zero_point is not None is new.zero_point for old, new in grids) else []
    asked += sorted({f"bits: {new.spec.bits}" for old, new in grids if new.spec.bits != old.spec.bits})
    warnings.warn(
        f"{len(lost)} of {len(before)} weights ({named}) lie on a grid, as optimizing or training left them, and get "
        f"another for {runtime.title}, on which they are rounded to the nearest: the model may lose accuracy. Let the "
        f"recipe, or a rule, say `weight: {{{', '.join(asked)}}}`, and optimize or train that variant instead.",
        LostRoundingWarning,
        stacklevel=3,
    )


@torch.no_grad()
def _loses_rounding(weight: QuantizedWeight, quantizer: TensorQuantizer) -> bool:
    """Whether a weight lies on the grid of its own quantizer, but not on that of another."""
    if weight.values is None or "off" in (weight.quantizer.state, quantizer.state):
        return False
    values, amax = weight.values.detach().float(), along_weight(quantizer.amax.detach(), weight.values)
    near = NEAR * amax / quantizer.grid.bound
    own, other = (bool(((one(values) - values).abs() <= near).all()) for one in (weight.quantizer, quantizer))
    return own and not other
