"""What a search is asked, and what it looks at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qzoo.errors import ArgumentError
from qzoo.quant.outputs import Logits
from qzoo.results.search import Budget, Cost, SearchPoint
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.candidates import FLOAT, INTEGER_KERNELS, USUAL, Changes
from qzoo.schema.candidates import candidates as candidates_named
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.searching.limits import LIMITED, checked_budget, limits_of
from qzoo.tasks.searching.problem import TIGHT


@dataclass(frozen=True)
class Question:
    """What a search is asked.

    Attributes:
        budget: what may be spent, see `qzoo.tasks.searching.limits.MEANING`.
        candidates: by name, what each changes of the variant.
        keep: globs over names of layers that stay as the variant has them.
        minimize: the cost that is made small where the budget says how much may be lost.
        score_images: images that losses are computed from.
        points: of the curve.
        neighbours: choices beside the best that are tried in each round.
    """

    budget: Mapping[Budget, float]
    candidates: Mapping[str, Changes]
    keep: Sequence[str] = ()
    minimize: Cost = "size"
    score_images: int = 128
    points: int = 6
    neighbours: int = 12

    @property
    def limits(self) -> dict[str, float]:
        """The most that costs may be."""
        return limits_of(self.budget)

    def keeps(self, point: SearchPoint) -> bool:
        """Whether a measured point keeps to the budget."""
        costs = all(point.cost[name] <= most + TIGHT for name, most in self.limits.items())
        return costs and point.lost <= self.budget.get("max_drop", 100.0)

    @property
    def needs_latency(self) -> bool:
        """Whether latency is limited or made small."""
        return "latency" in (self.cost, *self.limits)

    @property
    def cost(self) -> Cost:
        """The cost that the curve goes along."""
        return (
            self.minimize
            if "max_drop" in self.budget
            else next(LIMITED[name] for name in self.budget if name in LIMITED)
        )


def question(
    budget: Mapping[str, float | None], candidates: Sequence[str] | Mapping[str, Any] | None, target: Runtime | None,
    *, has_latency: bool = False, **how: Any,
) -> Question:  # fmt: skip
    """Returns what a search is asked, with what nobody said filled in.

    Args:
        budget: by name; None for what is not limited.
        candidates: names, or a mapping from names to changes; default: those that make a difference for the target,
            and without one weights of 2 to 8 bits.
        target: the runtime that the model is for.
        has_latency: latencies of groups in float are known, so that they can be limited.
        how: the other fields of `Question`.

    Raises:
        ArgumentError: there is no budget, a value is out of its range, a candidate is none, or latency is not known.
    """
    limits = checked_budget(budget)
    if "latency" in limits and not has_latency:
        raise ArgumentError(
            "The budget latency needs a table that was measured in a runtime. Name one: target='onnxruntime' or "
            "'openvino'; for TensorRT give the table of your own."
        )
    if candidates is None:
        usual = INTEGER_KERNELS if target else USUAL
        candidates = usual if FLOAT in usual or "max_drop" not in limits else (*usual, FLOAT)
    minimize: Cost = "latency" if has_latency else "macs_float" if target else "size"
    return Question(limits, candidates_named(candidates), minimize=minimize, **how)


@dataclass(frozen=True)
class SearchImages:
    """What a search looks at.

    Attributes:
        calibration: batches to calibrate and to score on, as for `qzoo.calibrate`.
        evaluation: batches to measure choices on, as for `qzoo.evaluate`: others than those.
        scored: those of the first whose losses are computed; default: the first of `calibration`.
        counts: how many images the first two hold, where that is known.
        to_inputs: as for `qzoo.evaluate`.
        logits: as for `qzoo.evaluate`.
        example: an input, to find operators with.
    """

    calibration: Any
    evaluation: Any
    scored: Any = None
    counts: tuple[int | None, int | None] = (None, None)
    to_inputs: ToInputs = None
    logits: Logits = None
    example: Any = None
