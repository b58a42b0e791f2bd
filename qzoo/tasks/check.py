"""How good are the ranges of a model? Asked of a few images of one's own, without labels."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable
from typing import Any

from torch import nn

from qzoo.arguments import checked
from qzoo.distributed import world_size
from qzoo.errors import DataError, NotCalibratedError, UnsupportedError
from qzoo.models.provenance import provenance
from qzoo.progress import Progress, silent
from qzoo.quant.calibration.collecting import DeadActivationWarning
from qzoo.quant.eval_mode import device_of, evaluation_mode
from qzoo.quant.outputs import Logits
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers, require_calibrated, require_quantizers
from qzoo.quant.weights import quantized_weights
from qzoo.results.check import CheckedQuantizer, CheckReport
from qzoo.tasks.evaluate import wilson_interval
from qzoo.tasks.inputs.batches import Batch, ToInputs, as_batches
from qzoo.tasks.measuring.deviation import Tally
from qzoo.tasks.measuring.quarters import Quarters, pieces
from qzoo.tasks.measuring.range_faults import check_activation, check_weight
from qzoo.tasks.measuring.running import Runner, checked_logits, measuring

FEW, FEWEST = 64, 16
"""Images that do, and those below which nothing can be said."""


@checked
def check(
    model: nn.Module,
    images: Any,
    *,
    to_inputs: ToInputs = None,
    logits: Logits = None,
    float_model: nn.Module | None = None,
    progress: Progress = silent,
    count: int | None = None,
) -> CheckReport:
    """Returns how well the ranges of a model fit some images: those that it is to see, 64 of them, without labels.

    The range of each quantizer is held against the one that its own calibrator finds, for activations on these images,
    for weights in their values; the predictions of the model against those of the float model. docs/check.md says what
    counts as wrong.

    Args:
        model: calibrated; afterwards it is as it was. `qzoo.check` takes the name of a variant too, and then, without
            images, 64 of those that its recipe is measured on. Quantizers that are off stay off.
        images: batches, transformed: `x`, `(x, y)`, `((x, x2), y)` or a dict, see docs/batches.md. Labels are not
            looked at. At least 16 images.
        to_inputs: a function that makes such a batch of an item of `images`, whatever it is.
        logits: which of the model's outputs they are, as for `qzoo.evaluate`.
        float_model: what the predictions are held against, on the same device; default: the model without its
            quantizers, or, of the name of a variant whose weights were changed, its base.
        progress: shown the images.
        count: how many images there are, for the progress.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are none that are on.
        DataError: there are fewer than 16 images, they do not fit the model, or it gives NaN.
        UnsupportedError: several processes run.

    Example:
        >>> found = qzoo.check("resnet8_digits_int8")
        >>> found.verdict, found.images, found.sentence
        ('fine', 64, '17 ranges fit these images.')
    """
    if world_size() > 1:
        raise UnsupportedError(f"A check runs in one process, not in {world_size()}. Start it without torchrun.")
    # What dynamo compiled does not tell whose forward runs.
    model = getattr(model, "_orig_mod", model)
    require_quantizers(model)
    start = time.perf_counter()
    with measuring(model):
        require_calibrated(model, "check its ranges")
        if all(one.state == "off" for one in quantizers(model).values()):
            raise NotCalibratedError(
                "Every quantizer of this model is off: quantizer.state = 'quantizing' puts one on."
            )
        batches = progress(pieces(as_batches(images, device_of(model), to_inputs)), count, "checking")
        quarters, tally = watch(model, batches, logits, float_model)
        report = report_of(model, quarters, tally)
    return report.model_copy(update={"seconds": round(time.perf_counter() - start, 2)})


def watch(
    model: nn.Module, batches: Iterable[Batch], logits: Logits = None, float_model: nn.Module | None = None
) -> tuple[Quarters, Tally]:
    """Returns what quantizers see in float, and how far the quantized model is from float.

    Args:
        model: calibrated, in a state to be measured.
        batches: small ones, at least four.
        logits: as for `check`.
        float_model: as for `check`.

    Raises:
        DataError: there are fewer than 16 images, they do not fit the model, or it gives NaN.
    """
    quarters, tally, runner = Quarters(model), Tally(), Runner(model)
    reference = None if float_model is None else Runner(float_model)
    for batch in batches:
        with quarters.next():
            output = runner(batch)
        if reference is not None:
            with evaluation_mode(reference.model):
                output = reference(batch)
        tally.add(checked_logits(runner(batch), batch, logits), None, checked_logits(output, batch, logits))
    if tally.images < FEWEST:
        raise DataError(
            f"check() got {tally.images} images, of which nothing follows for ranges; expected at least {FEWEST}, "
            f"better {FEW}, of the kind that the model is to see."
        )
    return quarters, tally


def checked_quantizers(model: nn.Module, quarters: Quarters) -> list[CheckedQuantizer]:
    """Returns what is to be said of each quantizer that is on: faults first, then by how far the ranges differ.

    Args:
        model: calibrated.
        quarters: what its quantizers saw; their ranges may have been changed since.

    Raises:
        CalibrationError: a quantizer saw nothing, NaN or Inf.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeadActivationWarning)  # it is about ranges that are to be made
        seen = quarters.seen()
    found = quarters.smallest_ranges()
    activations = [
        check_activation(path, one, found[path], seen[path], judged=_is_judged(model, one, of_weight=False))
        for path, one in quarters.quantizers.items()
    ]
    weights = [
        check_weight(path, one, judged=_is_judged(model, one.quantizer, of_weight=True))
        for path, one in quantized_weights(model).items()
        if one.values is not None and one.quantizer.state == "quantizing"
    ]
    return sorted(activations + weights, key=_rank)


def _is_judged(model: nn.Module, quantizer: TensorQuantizer, *, of_weight: bool) -> bool:
    """Whether a range is to be the one that its calibrator finds, and was not learned, nor its weight trained."""
    if quantizer.learned is not None or quantizer.was_learned:
        return False
    made = provenance(model)
    variant = made.variant if made else None
    if variant is None:
        return True
    trained, steps = variant.finetune, variant.optimize
    learns = trained is not None and (of_weight or trained.scales.learn)
    reconstructs = steps is not None and steps.reconstruct is not None and steps.reconstruct.learn_ranges
    return not (learns or (reconstructs and not of_weight))


def _rank(row: CheckedQuantizer) -> tuple[bool, float]:
    times = row.ratio if row.ratio is not None else 1.0
    return row.fault is None, -abs(math.log2(times)) if times else -math.inf


def report_of(model: nn.Module, quarters: Quarters, tally: Tally) -> CheckReport:
    """Returns the report of what `watch` returned, for the ranges that the model has now."""
    deviation, made = tally.deviation(), provenance(model)
    agreeing = tally.images - deviation.flips
    return CheckReport(
        name=made.variant.name if made and made.variant else type(model).__name__,
        images=tally.images,
        agreement=round(100 * agreeing / tally.images, 4),
        ci95=wilson_interval(agreeing, tally.images),
        sqnr_db=deviation.sqnr_db,
        quantizers=checked_quantizers(model, quarters),
        seconds=0.0,
    )
