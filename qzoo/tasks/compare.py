"""Calibrators of one model side by side: one pass to collect, one to measure."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from qzoo.distributed import world_size
from qzoo.errors import ArgumentError, DataError, UnsupportedError
from qzoo.progress import Progress, silent
from qzoo.quant.eval_mode import device_of
from qzoo.quant.outputs import Logits
from qzoo.quant.ranges import get_ranges, quantizers, set_ranges
from qzoo.results.comparison import CompareRow, Comparison
from qzoo.schema.quantizer import Calibrator
from qzoo.schema.resolution.call import Calibration, calibrator_of, with_call
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.inputs.batches import Batch, ToInputs, as_batches
from qzoo.tasks.inputs.images import Images
from qzoo.tasks.measuring.deviation import Tally
from qzoo.tasks.measuring.running import Runner, checked_logits, measuring
from qzoo.tasks.solved_variants import SolvedVariants

USUAL: tuple[Calibration, ...] = ("max", {"percentile": 99.9}, {"percentile": 99.99}, "mse", "entropy")
Ranges = dict[str, Tensor]


def compare_calibrators(
    float_model: nn.Module,
    variant: ResolvedVariant,
    images: Any,
    labelled: Any,
    calibrators: Sequence[Calibration] = USUAL,
    *,
    to_inputs: ToInputs = None,
    logits: Logits = None,
    example: Any = None,
    progress: Progress = silent,
) -> Comparison:
    """Returns how a model does with the ranges that each calibrator finds for its inputs.

    All are solved from one collection, and a batch is measured with all of them before the next is asked for.

    Args:
        float_model: not changed.
        variant: resolved; the calibrator of its inputs is what is compared, all else is as it says.
        images: to calibrate on, as for `qzoo.calibrate`.
        labelled: to measure on, as for `qzoo.evaluate`.
        calibrators: `max`, `mse`, `entropy`, `{"percentile": 99.99}`.
        to_inputs: as for `qzoo.evaluate`; for both kinds of images.
        logits: as for `qzoo.evaluate`.
        example: an input, to find operators with.
        progress: shown the batches.

    Raises:
        ArgumentError: no calibrator is given.
        CalibrationError: a quantizer saw nothing, NaN or Inf.
        DataError: there are no images to measure on, or the model gives NaN.
        UnsupportedError: several processes run.
    """
    if world_size() > 1:
        raise UnsupportedError(f"A comparison runs in one process, not in {world_size()}. Start it without torchrun.")
    start = time.perf_counter()
    wanted = list(dict.fromkeys(map(calibrator_of, calibrators)))
    if not wanted:
        raise ArgumentError("compare() got calibrators=[]; expected at least one, such as 'mse'.")
    variants = {one: with_call(variant, calibrator=one) for one in wanted}
    solved = SolvedVariants(
        float_model, variants.values(), images, to_inputs=to_inputs, example=example, progress=progress,
        count=_count(images),
    )  # fmt: skip
    ranges = {}
    for one in wanted:  # of each model but the last, its ranges are all that is kept
        model = solved.model(variants[one])
        ranges[one] = get_ranges(model)
    batches = progress(as_batches(labelled, device_of(model), to_inputs), _count(labelled), "comparing")
    found = _measured(model, ranges, batches, logits)
    rows = [_row(one, found[one]) for one in wanted]
    return Comparison(
        name=variant.name,
        images=found[None].images,
        float_top1=found[None].top1,
        rows=sorted(rows, key=_rank),
        seconds=round(time.perf_counter() - start, 2),
    )


def _measured(
    model: nn.Module, ranges: Mapping[Calibrator, Ranges], batches: Iterable[Batch], logits: Logits
) -> dict[Calibrator | None, Tally]:
    """Returns a tally for each calibrator, and one for the float model, None."""
    tallies: dict[Calibrator | None, Tally] = {one: Tally() for one in (None, *ranges)}
    with measuring(model):
        runner = Runner(model)
        for batch in batches:
            _switch(model, None)
            reference = checked_logits(runner(batch), batch, logits)
            tallies[None].add(reference, batch.labels, reference)
            for calibrator, found in ranges.items():
                _switch(model, found)
                tallies[calibrator].add(checked_logits(runner(batch), batch, logits), batch.labels, reference)
    if not tallies[None].images:
        raise DataError("There are no images to compare on.")
    return tallies


def _switch(model: nn.Module, ranges: Ranges | None) -> None:
    """Gives the inputs their ranges, in place, or switches all quantizers off. Weights have the same throughout."""
    if ranges is None:
        for quantizer in quantizers(model).values():
            quantizer.state = "off"
        return
    set_ranges(model, ranges)


def _row(calibrator: Calibrator, tally: Tally) -> CompareRow:
    found = tally.deviation()
    agreement = round(100 * (1 - found.flips / tally.images), 4)
    return CompareRow(calibrator=calibrator, top1=found.top1, agreement=agreement, sqnr_db=found.sqnr_db)


def _rank(row: CompareRow) -> tuple[float, float, float]:
    noise = math.inf if row.sqnr_db is None else row.sqnr_db
    return (-(row.top1 or 0.0), -row.agreement, -noise)


def _count(images: Any) -> int | None:
    return len(images) if isinstance(images, Images) else None
