"""The steps of an `optimize` block by name: what each of them does with a model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from qzoo.optimization.channels.equalize import equalize
from qzoo.optimization.channels.fold import fold_batch_norm
from qzoo.optimization.channels.norm_outputs import equalize_norm_outputs
from qzoo.optimization.channels.smooth import smooth
from qzoo.optimization.closed_form.correct_bias import correct_bias
from qzoo.optimization.closed_form.gptaq import gptaq
from qzoo.optimization.closed_form.ridge import ridge
from qzoo.optimization.closed_form.rounding import round_weights
from qzoo.optimization.reconstruction.reconstruct import adaround, reconstruct
from qzoo.progress import Progress
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.quant.weights import quantized_weights
from qzoo.results.optimization import Change, StepResult
from qzoo.schema.optimize import OptimizeSpec, Round


@dataclass
class Work:
    """What steps work on, and with.

    Attributes:
        model: quantized; changed in place.
        float_model: the float model, as it is after the steps that move ranges; before them the model itself, whose
            quantizers they leave out.
        spec: the steps, with their fields.
        batches: inputs of the model; iterated over again and again.
        images: how many they hold.
        factors: notes what weights are multiplied by before they are rounded.
        progress: shown batches.
        folder: keeps each unit that is reconstructed; None keeps none.
        key: says which weights and images these are.
        unrounded: weights as they are before they are rounded, by the path of their quantizer; filled by `round`.
    """

    model: nn.Module
    float_model: nn.Module
    spec: OptimizeSpec
    batches: Iterable[Any]
    images: int
    factors: ChannelFactors
    progress: Progress
    folder: Path | None = None
    key: str = ""
    unrounded: dict[str, Tensor] = field(default_factory=dict)


def carry_out(work: Work, steps: Iterable[str]) -> list[StepResult]:
    """Carries out those of the steps that the block says, in place, and returns what each did."""
    results = []
    for name in steps:
        if said := getattr(work.spec, name):
            start = time.perf_counter()
            changes = STEPS[name](work, said)
            results.append(StepResult(step=name, seconds=time.perf_counter() - start, changes=changes))
    return results


def _round(work: Work, said: Round) -> list[Change]:
    if work.spec.reconstruct is not None:
        weights = quantized_weights(work.model).items()
        work.unrounded |= {path: one.values.detach().clone() for path, one in weights if one.values is not None}
    if said.method == "adaround":
        return adaround(work.model, work.float_model, said, work.batches, **_learning(work))
    if said.method == "gptaq":
        rounded = gptaq(work.model, work.float_model, said, work.batches, progress=work.progress)
        work.unrounded |= rounded.moved
        return rounded.changes
    return round_weights(work.model, said, work.batches, images=work.images, progress=work.progress)


def _learning(work: Work) -> dict[str, Any]:
    return {"seed": work.spec.seed, "folder": work.folder, "key": work.key, "progress": work.progress}


def _shown(work: Work) -> dict[str, Any]:
    return {"images": work.images, "progress": work.progress}


STEPS: dict[str, Callable[[Work, Any], list[Change]]] = {
    "fold": lambda work, _: fold_batch_norm(work.model, work.factors, work.batches),
    "equalize": lambda work, said: equalize(work.model, said, work.factors, work.batches),
    "smooth": lambda work, said: smooth(work.model, said, work.batches, work.factors),
    "norm_outputs": lambda work, _: equalize_norm_outputs(work.model, work.batches, work.factors),
    "ridge": lambda work, said: ridge(work.model, said, work.batches, **_shown(work)),
    "round": _round,
    "reconstruct": lambda work, said: reconstruct(
        work.model, work.float_model, said, work.batches, unrounded=work.unrounded, **_learning(work)
    ),
    "correct_bias": lambda work, said: correct_bias(work.model, said, work.batches, work.float_model, **_shown(work)),
}
"""What each step does, given its fields."""
