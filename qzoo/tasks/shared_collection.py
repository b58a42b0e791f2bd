"""One pass over images for several plans of one float model.

Calibrating quantizers let everything pass in float, so what they collect does not depend on how it will be solved: one
copy of the model watches all that any of the plans quantizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from qzoo.models.quantize import carry_out
from qzoo.quant.calibration.collecting import Collection
from qzoo.quant.derived import copy_model
from qzoo.schema.resolution.plan import Plan, PlannedQuantizer

Collect = Callable[[nn.Module, set[str], set[str]], Collection]
"""Shows images to a model, and returns what its quantizers saw.

The first paths get a histogram, the second one of both signs.
"""


def collect_once(
    float_model: nn.Module, plans: Iterable[Plan], collect: Collect, *, keep_histograms: bool = False
) -> Collection:
    """Returns what each activation quantizer of the plans sees, by its path, of one pass over the images.

    Args:
        float_model: not changed.
        plans: all that ranges will be solved for.
        collect: makes the pass.
        keep_histograms: collect a histogram of every tensor, of both signs where the binning has them, not only where
            a calibrator needs one.
    """
    found = [one for plan in plans for one in plan.quantizers]
    planned: dict[tuple[Any, ...], PlannedQuantizer] = {}
    for one in found:
        watcher = planned.setdefault(_tensor_of(one), one)
        if one.spec.needs_signs and not watcher.spec.needs_signs:
            planned[_tensor_of(one)] = one
    watched = {one.path: planned[_tensor_of(one)].path for one in found if not one.of_weight}
    of_activations = [one for one in found if not one.of_weight]
    histograms = {
        watched[one.path] for one in of_activations if keep_histograms or one.spec.calibrator.collector == "histogram"
    }
    two_sided = histograms if keep_histograms else set()
    model = copy_model(float_model)
    carry_out(model, Plan(list(planned.values()), []))
    seen = collect(model, histograms, two_sided)
    return {path: seen[watcher] for path, watcher in watched.items()}


def _tensor_of(one: PlannedQuantizer) -> tuple[Any, ...]:
    """Returns what tells the tensor: two names may stand for one, `residual` and `add_right`."""
    return (one.module, one.sites, one.operand or one.role)
