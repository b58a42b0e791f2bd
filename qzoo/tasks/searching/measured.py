"""What choices come to on images that were not searched on: models side by side, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from qzoo.errors import DataError
from qzoo.progress import Progress
from qzoo.quant.eval_mode import device_of
from qzoo.quant.outputs import Logits
from qzoo.results.search import SearchPoint
from qzoo.results.sensitivity import Deviation
from qzoo.tasks.evaluate import prediction_rows
from qzoo.tasks.inputs.batches import Batch, ToInputs, as_batches
from qzoo.tasks.measuring.deviation import Tally
from qzoo.tasks.measuring.running import Runner, checked_logits, measuring

MEMORY = 2**31
"""Bytes of models that are held at a time."""
NORMAL_975 = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""


@dataclass
class _Beside:
    """One model beside the float one."""

    tally: Tally = field(default_factory=Tally)
    lost: int = 0
    gained: int = 0

    def add(self, logits: Tensor, labels: Tensor | None, reference: Tensor) -> None:
        self.tally.add(logits, labels, reference)
        if labels is not None:
            right, was_right = (_first(one) == labels for one in (logits, reference))
            self.lost += int((was_right & ~right).sum())
            self.gained += int((right & ~was_right).sum())

    def told(self, point: SearchPoint) -> SearchPoint:
        found, images = self.tally.deviation(), self.tally.images
        labelled = found.top1 is not None
        return point.model_copy(
            update={
                "measured": found,
                "agreement": round(100 * (1 - found.flips / images), 4),
                "drop": round(100 * (self.lost - self.gained) / images, 4) if labelled else None,
                "drop_ci95": paired_interval(self.lost, self.gained, images) if labelled else None,
            }
        )


def paired_interval(lost: int, gained: int, images: int) -> tuple[float, float]:
    """Returns the 95 % confidence interval of a drop between two models on the same images, in points.

    Half an image is added to each cell of the table of pairs, then it is the normal interval:
    `d = (lost - gained) / n`, `var = ((lost + gained) - (lost - gained)^2 / n) / n^2`.

    Source: A. Agresti and Y. Min 2005, "Simple improved confidence intervals for comparing matched proportions",
    Statistics in Medicine 24.

    Args:
        lost: images that the float model has right and the other wrong.
        gained: the other way round.
        images: all.

    Example:
        >>> paired_interval(10, 4, 1000)
        (-0.16, 1.36)
    """
    lost_more, gained_more, count = lost + 0.5, gained + 0.5, images + 2
    mean = (lost_more - gained_more) / count
    spread = NORMAL_975 * float(np.sqrt(lost_more + gained_more - (lost_more - gained_more) ** 2 / count)) / count
    return round(100 * (mean - spread), 2), round(100 * (mean + spread), 2)


def measure(
    float_model: nn.Module, points: Sequence[SearchPoint], make: Callable[[SearchPoint], nn.Module], images: Any,
    *, to_inputs: ToInputs, logits: Logits, progress: Progress, count: int | None,
) -> tuple[list[SearchPoint], Deviation, int]:  # fmt: skip
    """Returns the points with what was measured, what the float model comes to, and the number of images.

    As many models as fit into two gigabytes run on a batch before the next is read.

    Args:
        float_model: the reference.
        points: to be measured.
        make: makes the model of a point, calibrated.
        images: batches, as for `qzoo.evaluate`; gone through as often as the models need.
        to_inputs: as for `qzoo.evaluate`.
        logits: as for `qzoo.evaluate`.
        progress: shown the runs.
        count: how many images there are, if known.

    Raises:
        DataError: there are no images, or a model gives NaN.
    """
    at_a_time = max(MEMORY // max(_bytes(float_model), 1), 1)
    found: list[SearchPoint] = []
    of_float: Tally | None = None
    for first in range(0, len(points), at_a_time):
        chosen = points[first : first + at_a_time]
        models = {point.name: make(point) for point in chosen}
        what = f"measuring choices {first + 1} to {first + len(chosen)} of {len(points)}"
        of_float, beside = _passed(
            float_model, models, images, to_inputs=to_inputs, logits=logits, progress=progress, count=count, what=what
        )
        if not of_float.images:
            raise DataError("There are no images to measure on.")
        found += [beside[point.name].told(point) for point in chosen]
    assert of_float is not None, "there is a point at least"
    return found, of_float.deviation(), of_float.images


def _passed(
    float_model: nn.Module, models: Mapping[str, nn.Module], images: Any, *, to_inputs: ToInputs, logits: Logits,
    progress: Progress, count: int | None, what: str,
) -> tuple[Tally, dict[str, _Beside]]:  # fmt: skip
    reference, beside = Tally(), {name: _Beside() for name in models}
    runners = {name: Runner(model) for name, model in models.items()}
    of_float = Runner(float_model)

    def runs() -> Iterator[Batch]:
        for batch in as_batches(images, device_of(float_model), to_inputs):
            exact = checked_logits(of_float(batch), batch, logits)
            reference.add(exact, batch.labels, exact)
            yield batch
            for name, runner in runners.items():
                beside[name].add(checked_logits(runner(batch), batch, logits), batch.labels, exact)
                yield batch

    with torch.no_grad(), measuring(float_model):
        for model in models.values():
            model.eval()
        total = None if count is None else count * (len(models) + 1)
        for _ in progress(runs(), total, what):
            pass
    return reference, beside


def _first(logits: Tensor) -> Tensor:
    return prediction_rows(logits, None)[:, 2].to(logits.device)


def _bytes(model: nn.Module) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
