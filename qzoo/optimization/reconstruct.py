"""`reconstruct` and `round: adaround`: a model is learned unit by unit, each behind those that are done.

In place: afterwards the float weight of each learned layer holds values of its grid, which its quantizer returns as
they are, and the learned ranges are in the quantizers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.optimization.learn_unit import How, learn_unit, output_error
from qzoo.optimization.unit_inputs import unit_inputs
from qzoo.optimization.units import Unit, find_units
from qzoo.quant.eval_mode import evaluation_mode
from qzoo.quant.inputs import batch_size, with_images
from qzoo.quant.ranges import require_calibrated
from qzoo.results.optimization import Change
from qzoo.schema.optimize import LearnedRounding, Reconstruct, Round


def _pass_on(items: Iterable[Any], images: int | None, what: Any) -> Iterable[Any]:
    return items


def reconstruct(
    model: nn.Module, float_model: nn.Module, spec: Reconstruct, batches: Iterable[Any], *, seed: int,
    folder: Path | None = None, key: str = "", progress: Callable[..., Iterable[Any]] = _pass_on,
) -> list[Change]:  # fmt: skip
    how = How(spec, spec.drop, spec.range_lr if spec.learn_ranges else None)
    return _learn(model, float_model, spec.unit, how, batches, seed, spec.targets == "own", progress)


def _learn(model, float_model, kind, how, batches, seed, own, progress):  # type: ignore
    require_calibrated(model, "learn how to round its weights")
    first = next(iter(batches))
    images = sum(batch_size(batch) for batch in batches)
    units = find_units(model, float_model, with_images(first, 2), kind)
    changes = []
    with evaluation_mode(model), evaluation_mode(float_model), _frozen(model):
        for index, unit in enumerate(units):
            if not unit.learnable:
                changes.append(Change(path=unit.path, note=unit.note))
                continue
            with unit_inputs(model, float_model, unit.paths, batches, images, own_targets=own) as inputs:
                before = output_error(model, unit, inputs, 32)
                steps = progress(range(how.spec.iterations), how.spec.iterations, f"learning {unit.path}")
                learned = learn_unit(model, unit, inputs, how, seed * 1000 + index, steps)
                with torch.no_grad():
                    for path, values in learned.items():
                        unit.weights[path].values.copy_(values)
                after = output_error(model, unit, inputs, 32)
                changes.append(Change(path=unit.path, before=before, after=after, note=unit.note))
    return changes


@contextmanager
def _frozen(model: nn.Module) -> Iterator[None]:
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter in before:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter, requires in before.items():
            parameter.requires_grad_(requires)
