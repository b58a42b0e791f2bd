"""Choosing how each layer is quantized: scored from one pass, chosen by an integer programme, and then measured."""

from __future__ import annotations

import time
from pathlib import Path

from torch import nn

from qzoo.distributed import world_size
from qzoo.errors import UnsupportedError
from qzoo.models.example import runnable_example
from qzoo.progress import Progress, silent
from qzoo.quant.ranges import quantizers
from qzoo.results.search import SearchReport
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.candidates import FLOAT
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.searching.latencies import Latencies, Tabled, timed
from qzoo.tasks.searching.question import Question, SearchImages
from qzoo.tasks.searching.run import Search
from qzoo.tasks.searching.space import Space, space_of

UNGROUPED = "(kept)"
"""What the latency table calls the quantizers that no choice changes."""


def search_variant(
    float_model: nn.Module, variant: ResolvedVariant, images: SearchImages, question: Question, *,
    target: Runtime | None = None, tabled: Tabled | None = None, folder: Path | None = None,
    progress: Progress = silent,
) -> SearchReport:  # fmt: skip
    """Returns the best choice of candidates for a budget, with what it was chosen from and what it was measured to be.

    Args:
        float_model: not changed.
        variant: what choices are changes of.
        images: to calibrate, score and measure on.
        question: budget and candidates.
        target: the runtime that the model is for; where it runs here, the solution is timed in it.
        tabled: gives the latency table, where the budget or what is minimized is latency.
        folder: keeps scores, so that a search that was interrupted goes on.
        progress: shown the batches.

    Raises:
        UnsupportedError: no choice keeps to the budget, or several processes run.
        DataError: there are no images, or the model gives NaN.
    """
    if world_size() > 1:
        raise UnsupportedError(f"A search runs in one process, not in {world_size()}. Start it without torchrun.")
    start = time.perf_counter()
    space = space_of_question(float_model, variant, images, question, progress)
    latencies = None if tabled is None else Latencies(*tabled(_on_integers(space), _by_group(space)))
    search = Search(space, images, question, latencies, folder, progress)
    report = search.report()
    if target is not None and target.kernels is not None and target.missing() is None:
        report = _timed(report, search, target, progress)
    return report.model_copy(
        update={"target": target and target.name, "seconds": round(time.perf_counter() - start, 2)}
    )


def space_of_question(
    float_model: nn.Module, variant: ResolvedVariant, images: SearchImages, question: Question, progress: Progress
) -> Space:
    """Returns what can be chosen; see `space_of`."""
    return space_of(
        float_model, variant, question.candidates, images.calibration, keep=question.keep, to_inputs=images.to_inputs,
        example=images.example, progress=progress, count=images.counts[0],
    )  # fmt: skip


def _on_integers(space: Space) -> nn.Module:
    """Returns the model as the first candidate has it everywhere."""
    return next(iter(space.mixture.candidates.values()))


def _by_group(space: Space) -> dict[str, list[str]]:
    groups = {group.name: group.paths for group in space.groups}
    known = {path for paths in groups.values() for path in paths}
    rest = [path for path in quantizers(_on_integers(space)) if path not in known]
    return groups | ({UNGROUPED: rest} if rest else {})


def _timed(report: SearchReport, search: Search, target: Runtime, progress: Progress) -> SearchReport:
    """Returns the report with the latency of the solution, and of the first uniform choice, side by side with float.

    Latencies of choices are predicted; where the uniform one keeps to the budget and is measured to be faster, it is
    the solution.
    """
    uniform = next((point for point in report.points if point.name.startswith("uniform")), report.solution)
    chosen = {point.name: point for point in (report.solution, uniform)}
    given = search.images.example
    float_model = search.space.solved.float_model
    example = runnable_example(float_model) if given is None else given
    models = {name: search.made(point).eval() for name, point in chosen.items()}
    found = timed(models, float_model, target, example, progress)
    points = [point.model_copy(update={"latency_ms": found.get(point.name)}) for point in report.points]
    if report.minimize == "latency" and found[uniform.name] < found["solution"] and search.question.keeps(uniform):
        faster = next(point for point in points if point.name == uniform.name)
        slower = points[0].model_copy(update={"name": "predicted to be faster"})
        points = [faster.model_copy(update={"name": "solution"}), slower, *points[1:]]
    return report.model_copy(update={"points": points, "float_latency_ms": found[FLOAT]})
