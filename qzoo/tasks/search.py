"""Choosing how each layer is quantized: scored from one pass, chosen by an integer programme, and then measured."""

from __future__ import annotations

import time
from pathlib import Path

from torch import nn

from qzoo.distributed import world_size
from qzoo.errors import UnsupportedError
from qzoo.progress import Progress, silent
from qzoo.results.search import SearchReport
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.searching.latencies import Latencies
from qzoo.tasks.searching.question import Question, SearchImages
from qzoo.tasks.searching.run import Search
from qzoo.tasks.searching.space import Space, space_of


def search_variant(
    float_model: nn.Module, variant: ResolvedVariant, images: SearchImages, question: Question, *,
    latencies: Latencies | None = None, folder: Path | None = None, progress: Progress = silent,
) -> SearchReport:  # fmt: skip
    """Returns the best choice of candidates for a budget, with what it was chosen from and what it was measured to be.

    Args:
        float_model: not changed.
        variant: what choices are changes of.
        images: to calibrate, score and measure on.
        question: budget and candidates.
        latencies: of groups in float, where the budget or what is minimized is latency.
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
    found = Search(space, images, question, latencies, folder, progress).report()
    return found.model_copy(update={"seconds": round(time.perf_counter() - start, 2)})


def space_of_question(
    float_model: nn.Module, variant: ResolvedVariant, images: SearchImages, question: Question, progress: Progress
) -> Space:
    """Returns what can be chosen; see `space_of`."""
    return space_of(
        float_model, variant, question.candidates, images.calibration, keep=question.keep, to_inputs=images.to_inputs,
        example=images.example, progress=progress, count=images.counts[0],
    )  # fmt: skip
