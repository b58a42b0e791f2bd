"""Optimizing a quantized model after calibration: weights that fit the grid better, without labels and training."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from qzoo.arguments import checked
from qzoo.distributed import world_size
from qzoo.errors import ArgumentError, UnsupportedError
from qzoo.models.bases import base_digest
from qzoo.models.heads import requantize_replaced
from qzoo.models.provenance import note_ranges_from, provenance
from qzoo.models.quantize import float_copy
from qzoo.models.rounding import float_state, note_optimized, rounding_of
from qzoo.optimization.reconstruction.unit_results import UNIT_FILES
from qzoo.optimization.steps import Work, carry_out
from qzoo.progress import Progress, silent
from qzoo.quant.calibration.collecting import solve_ranges
from qzoo.quant.channel_factors import ChannelFactors
from qzoo.quant.eval_mode import device_of
from qzoo.quant.ranges import require_quantizers, uncalibrated
from qzoo.results.optimization import Optimization, StepResult
from qzoo.schema.calibration import Source
from qzoo.schema.model import all_described
from qzoo.schema.optimize import AFTER_RANGES, BEFORE_RANGES, OptimizeSpec
from qzoo.tasks.calibrate import collect
from qzoo.tasks.inputs.batches import ToInputs
from qzoo.tasks.inputs.data_free import source_of
from qzoo.tasks.inputs.kept_batches import KeptBatches, kept_batches


@checked
def optimize(
    model: nn.Module,
    images: Any,
    steps: OptimizeSpec | Mapping[str, Any] | None = None,
    *,
    to_inputs: ToInputs = None,
    folder: str | Path | None = None,
    progress: Progress = silent,
    count: int | None = None,
) -> Optimization:
    """Changes the weights of a quantized model so that it computes more of what the float model does, in place.

    No labels are needed, and about a thousand images. The steps and their order are in docs/low-bits.md. A model
    that has no ranges yet gets them from the same images; so does one whose steps move weights from layer to layer.
    Afterwards every quantized weight lies on its grid, and `qzoo.save` writes how it is rounded.

    Args:
        model: made by `qzoo.create(..., pretrained="float")` or `qzoo.quantize`, calibrated or not.
        images: batches, transformed, as for `qzoo.calibrate`; iterated over once, and kept in files meanwhile.
        steps: what an `optimize` block of a recipe says, such as `{"round": "gptaq"}`; default:
            what the model's own recipe says.
        to_inputs: a function that makes a batch of an item of `images`, whatever it is.
        folder: keeps each unit that is reconstructed, in files `unit-*.safetensors`, so that a run that was interrupted
            goes on where it was; they are gone when all is done. Default: nothing is kept.
        progress: shown the batches.
        count: how many images there are, for the progress.

    Returns:
        What each step did.

    Raises:
        ArgumentError: no steps are given and the recipe says none, or a step has a field that it does not know.
        UnsupportedError: the model is optimized already, or several processes run.
        CalibrationError: a quantizer saw nothing, NaN or Inf; the model is as it was.
        KeyboardInterrupt: after Ctrl-C; the model is as it was, and what is finished is kept in the folder.

    Example:
        >>> model = qzoo.create("resnet8_digits_w4a4", pretrained=True)
        >>> report = qzoo.optimize(model, images, {"round": "gptq"})
        >>> [step.step for step in report.steps]
        ['round']
    """
    spec = _spec(model, steps)
    requantize_replaced(model)
    require_quantizers(model)
    _check(model)
    base_sha256, before, factors = base_digest(model), float_state(model), ChannelFactors()
    units = None if folder is None else Path(folder)
    with _undone_by_errors(model), kept_batches(images, device_of(model), to_inputs, progress, count) as batches:
        key = f"{batches.digest} {base_sha256}"
        work = Work(model, model, spec, batches, batches.images, factors, progress, folder=units, key=key)
        results = carry_out(work, BEFORE_RANGES)
        if spec.moves_ranges or uncalibrated(model):
            results.append(_calibrated(model, batches, source_of(images), progress))
        results += carry_out(replace(work, float_model=float_copy(model)), AFTER_RANGES)
        note_optimized(model, base_sha256, before, factors)
    for file in units.glob(UNIT_FILES) if units is not None else ():
        file.unlink()
    return Optimization(steps=results, images=batches.images)


def _spec(model: nn.Module, steps: OptimizeSpec | Mapping[str, Any] | None) -> OptimizeSpec:
    made = provenance(model)
    own = made.variant.optimize if made and made.variant else None
    if steps is None and own is None:
        raise ArgumentError(
            "optimize() got no steps, and the model's recipe says none. Give some: steps={'round': 'gptq'}, or "
            "{'reconstruct': True}; docs/low-bits.md has all."
        )
    if steps is None or isinstance(steps, OptimizeSpec):
        return own if steps is None else steps  # type: ignore[return-value]
    try:
        return OptimizeSpec.model_validate(dict(steps))
    except ValidationError as error:
        raise ArgumentError(f"optimize(): {all_described(OptimizeSpec, dict(steps), error)}") from None


def _check(model: nn.Module) -> None:
    if world_size() > 1:
        raise UnsupportedError(
            f"optimize() runs in one process, not in {world_size()}. Run it in one, save what it makes with "
            "qzoo.save, and load that in all."
        )
    if rounding_of(model) is not None:
        raise UnsupportedError(
            "This model is optimized already. Start from its float base: qzoo.create(NAME, pretrained='float')."
        )


@contextlib.contextmanager
def _undone_by_errors(model: nn.Module) -> Iterator[None]:
    """Gives a model back the weights and ranges that it had, if what is done in the context fails or is stopped."""
    before = {key: value.detach().clone() for key, value in model.state_dict().items()}
    try:
        yield
    except BaseException:
        model.load_state_dict(before, strict=False)
        raise


def _calibrated(model: nn.Module, batches: KeptBatches, source: Source, progress: Progress) -> StepResult:
    start, made = time.perf_counter(), provenance(model)
    binning = made.variant.calibration.binning if made and made.variant else "aligned"
    # What is kept are inputs alone, also where they look like images and labels.
    seen = collect(
        model, batches, to_inputs=lambda inputs: (inputs,), binning=binning, source=source, progress=progress,
        count=batches.images,
    )  # fmt: skip
    solve_ranges(model, seen)
    note_ranges_from(model, source)
    return StepResult(step="calibrate", seconds=time.perf_counter() - start)
