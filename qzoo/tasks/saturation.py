"""CPUs that add products of 8-bit integers in 16 bits: warned of before a model is run on one."""

from __future__ import annotations

import warnings

from torch import nn

from qzoo.quant.ranges import quantizers
from qzoo.runtimes.runtime import Runtime
from qzoo.tasks.machine import cpu_flags, cpu_name, has_dot_products

LARGEST_INPUT, LARGEST_SUM = 255, 32767


class SaturationWarning(UserWarning):
    """What an integer kernel of this CPU computes may overflow."""


def warn_of_saturation(model: nn.Module, runtime: Runtime) -> None:
    """Warns where this CPU has no VNNI and a model has weights whose products may overflow 16 bits in a runtime.

    Args:
        model: quantized, as it will be exported; not changed.
        runtime: that the model is for; one that does not run on CPUs has nothing to fear.
    """
    if runtime.symmetric or has_dot_products(cpu_flags()) is not False or not _has_large_weights(model):
        return
    warnings.warn(
        f"This CPU, {cpu_name()}, has no VNNI: {runtime.title} adds products of 8-bit weights in 16 bits here, which "
        "may overflow, and logits may be off by 3 to 40 % of the largest. Weights of 7 bits avoid that: "
        "--reduce-range, in Python reduce_range=True. On CPUs with VNNI nothing overflows.",
        SaturationWarning,
        stacklevel=4,
    )


def _has_large_weights(model: nn.Module) -> bool:
    found = [one for path, one in quantizers(model).items() if path.endswith("weight_quantizer")]
    integer = [one.grid for one in found if one.state == "quantizing" and one.grid.fp8 is None]
    return any(2 * LARGEST_INPUT * grid.high > LARGEST_SUM for grid in integer)
