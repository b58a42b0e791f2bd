"""The steps of an `optimize` block by name: what each of them does with a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from qzoo.optimization.equalize import equalize
from qzoo.optimization.fold import fold_batch_norm
from qzoo.optimization.reconstruct import reconstruct
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.results.optimization import Change, StepResult
from qzoo.schema.optimize import OptimizeSpec


@dataclass
class Work:
    """What steps work on, and with.

    Attributes:
        model: quantized; changed in place.
        spec: the steps, with their fields.
        batches: inputs of the model; iterated over again and again.
        factors: notes what weights are multiplied by before they are rounded.
        progress: shown batches, or steps of learning.
        folder: keeps each unit that is reconstructed; None keeps none.
        key: says which weights and images these are.
        float_model: the float model, as it is after the steps that move ranges.
    """

    model: nn.Module
    spec: OptimizeSpec
    batches: Iterable[Any]
    factors: ChannelFactors
    progress: Callable[..., Iterable[Any]]
    folder: Path | None = None
    key: str = ""
    float_model: nn.Module | None = None


def carry_out(work: Work, steps: Iterable[str]) -> list[StepResult]:
    """Carries out those of the steps that the block says, in place, and returns what each did."""
    results = []
    for name in steps:
        if getattr(work.spec, name):
            start = time.perf_counter()
            changes = STEPS[name](work)
            results.append(StepResult(step=name, seconds=time.perf_counter() - start, changes=changes))
    return results


def _round(work: Work) -> list[Change]:
    spec = work.spec.round
    if spec.method != "adaround":
        return round_weights(work.model, spec, work.batches, progress=work.progress)
    return adaround(
        work.model, work.float_model, spec, work.batches, seed=work.spec.seed, folder=work.folder, key=work.key,
        progress=work.progress,
    )  # fmt: skip


def _reconstruct(work: Work) -> list[Change]:
    return reconstruct(
        work.model, work.float_model, work.spec.reconstruct, work.batches, seed=work.spec.seed, folder=work.folder,
        key=work.key, progress=work.progress,
    )  # fmt: skip


STEPS: dict[str, Callable[[Work], list[Change]]] = {
    "fold": lambda work: fold_batch_norm(work.model, work.factors),
    "equalize": lambda work: equalize(work.model, work.spec.equalize, work.factors, work.batches),
    "smooth": lambda work: smooth(work.model, work.spec.smooth, work.batches, work.factors),
    "norm_outputs": lambda work: equalize_norm_outputs(work.model, work.batches, work.factors),
    "ridge": lambda work: ridge(work.model, work.spec.ridge, work.batches),
    "round": _round,
    "reconstruct": _reconstruct,
    "correct_bias": lambda work: correct_bias(work.model, work.spec.correct_bias, work.batches, work.float_model),
}
