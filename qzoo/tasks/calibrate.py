"""Calibrating a model on images, in one process or several, as if one had seen all."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from qzoo.arguments import checked
from qzoo.distributed import failing_together, meet, named_by_process, rank, reduced, world_size
from qzoo.errors import CalibrationError
from qzoo.models.heads import requantize_replaced
from qzoo.models.provenance import note_ranges_from, provenance
from qzoo.models.rounding import is_optimized
from qzoo.progress import Progress, silent
from qzoo.quant.calibration.collecting import Collection, collecting, solve_ranges
from qzoo.quant.calibration.collectors import HistogramCollector, MaxCollector
from qzoo.quant.eval_mode import device_of, evaluation_mode
from qzoo.quant.ranges import require_quantizers
from qzoo.schema.calibration import Source
from qzoo.tasks.inputs.batches import ToInputs, as_batches
from qzoo.tasks.inputs.data_free import as_remembered, data_free_images_for, source_of
from qzoo.tasks.inputs.images import Images
from qzoo.tasks.measuring.running import Runner


def require_mergeable(collection: Collection) -> None:
    """Refuses histograms that several processes can't bring together, before any image is seen.

    Raises:
        CalibrationError: their bins depend on the order of the batches.
    """
    if world_size() == 1:
        return
    for seen in collection.values():
        if isinstance(seen, HistogramCollector):
            try:
                seen.mergeable()
            except CalibrationError as error:
                raise CalibrationError(
                    "`binning: reference` depends on the order of all batches, which "
                    f"{world_size()} processes with a share each don't know. Calibrate with `binning: aligned`, or in "
                    "one process."
                ) from error


def reduce_collection(collection: Collection) -> None:
    """Merges what all processes saw, in place: afterwards each holds what one process would of all their images.

    Minima, maxima and counts are exact, so neither the number of processes nor their shares change a bit of the result.

    Raises:
        PeerError: another process failed before it got here.
        CalibrationError: the processes calibrate different quantizers.
    """
    if world_size() == 1:
        return
    meet()
    _require_the_same(collection)
    if not collection:
        return
    _reduce_extremes(collection)
    _reduce_histograms(collection)


def _require_the_same(collection: Collection) -> None:
    described = "\n".join(f"{path} {_kind(seen)}" for path, seen in collection.items())
    digest = torch.tensor(zlib.crc32(described.encode()))
    if not torch.equal(reduced(digest, "min"), reduced(digest, "max")):
        raise CalibrationError(
            f"The processes calibrate different models: process {rank()} has {len(collection)} quantizers, of other "
            "names or calibrators than another process has. Give every process the same model."
        )


def _kind(seen: MaxCollector | HistogramCollector) -> str:
    two_sided = isinstance(seen, HistogramCollector) and seen.mergeable().negatives is not None
    return f"two-sided {type(seen).__name__}" if two_sided else type(seen).__name__


def _reduce_extremes(collection: Collection) -> None:
    # A NaN becomes an infinity of the same effect: all-reduces differ in what they make of NaN.
    low = torch.stack([seen.amin.cpu().nan_to_num(-torch.inf, torch.inf, -torch.inf) for seen in collection.values()])
    high = torch.stack([seen.amax.cpu().nan_to_num(torch.inf, torch.inf, -torch.inf) for seen in collection.values()])
    for seen, amin, amax in zip(collection.values(), reduced(low, "min"), reduced(high, "max"), strict=True):
        seen.amin, seen.amax = amin.clone(), amax.clone()


def _reduce_histograms(collection: Collection) -> None:
    bins = [seen.mergeable() for seen in collection.values() if isinstance(seen, HistogramCollector)]
    if not bins:
        return
    widest = reduced(torch.tensor([one.exponent for one in bins]), "max").tolist()
    for one, exponent in zip(bins, widest, strict=True):
        one.grow(exponent)
    for one, counts in zip(bins, reduced(torch.stack([one.counts for one in bins]), "sum"), strict=True):
        one.counts = counts.clone()
    if two_sided := [one for one in bins if one.negatives is not None]:
        negatives = torch.stack([one.negatives for one in two_sided if one.negatives is not None])
        for one, counts in zip(two_sided, reduced(negatives, "sum"), strict=True):
            one.negatives = counts.clone()


@checked
def calibrate(
    model: nn.Module,
    images: Any,
    *,
    to_inputs: ToInputs = None,
    binning: str | None = None,
    progress: Progress = silent,
    count: int | None = None,
) -> nn.Module:
    """Gives every quantizer of a model its range, in place, from the images it is shown.

    In a script that made a `torch.distributed` group, every process has to call this, each with its own share of the
    images, in any number of batches, or none. The ranges are those of all shares together, the same in each process.

    Args:
        model: made by `qzoo.create` or `qzoo.quantize`. `qzoo.calibrate` takes the name of a variant too, and then,
            without images, those that the recipe calibrates on. Of an optimized model the ranges of weights stay.
        images: batches, transformed: `x`, `(x, y)`, `((x, x2), y)` or a dict, see docs/batches.md; or one such
            batch. What the model gives does not matter. Or `synthetic`, `distilled` or `statistics`: images that are
            made, see docs/no-images.md.
        to_inputs: a function that makes such a batch of an item of `images`, whatever it is.
        binning: the binning of histograms, `aligned` or `reference`; default: what the recipe says, else `aligned`.
        progress: shown the batches.
        count: how many images there are, for the progress.

    Returns:
        The model itself.

    Raises:
        NotCalibratedError: the model has no quantizers.
        CalibrationError: a quantizer saw nothing, NaN or Inf; the model is as it was. Or several processes are to
            bring histograms of `reference` binning together.
        PeerError: another process failed.

    Example:
        >>> model = qzoo.create("resnet8_digits_int8", pretrained="float")
        >>> model = qzoo.calibrate(model, torch.linspace(-1, 1, 64).view(1, 1, 8, 8))
        >>> model.conv1.input_quantizer.amax
        tensor(1.)
    """
    with failing_together():
        requantize_replaced(model)
        made = provenance(model)
        binning = binning or (made.variant.calibration.binning if made and made.variant else "aligned")
        require_quantizers(model)
        if isinstance(images, str):
            images = data_free_images_for(model, images)
        source = source_of(images)
        seen = collect(
            model, images, to_inputs=to_inputs, binning=binning, source=source, progress=progress, count=count
        )
        # Weights that were optimized lie on their grids: other ranges would round them anew.
        solve_ranges(model, seen, weights=not is_optimized(model))
        note_ranges_from(model, source)
    return model


def collect(
    model: nn.Module,
    images: Any,
    *,
    to_inputs: ToInputs = None,
    binning: str = "aligned",
    histograms: Iterable[str] = (),
    two_sided: Iterable[str] = (),
    source: Source = "images",
    progress: Progress = silent,
    count: int | None = None,
) -> Collection:
    """Returns what each activation quantizer saw of the images; the model's ranges stay as they are.

    Of several processes each gives its share of the images, and gets what all saw.

    Args:
        model: a quantized model; it runs in evaluation mode, in float.
        images: as for `calibrate`.
        to_inputs: as for `calibrate`.
        binning: the binning of histograms.
        histograms: paths of quantizers that get a histogram although their own calibrator needs only a maximum.
        two_sided: paths of quantizers that get one of both signs although their own calibrator needs none.
        source: of the images; with `statistics` batch norms see what they remember.
        progress: shown the batches.
        count: how many images there are, for the progress.
    """
    remembering = as_remembered(model, images, source, to_inputs)
    with failing_together(), remembering, collecting(model, binning, histograms, two_sided) as collection:
        require_mergeable(collection)
        _show(model, images, progress, count, to_inputs)
        reduce_collection(collection)
    return collection


def collect_images(
    model: nn.Module, images: Images, *, binning: str, histograms: Iterable[str] = (), two_sided: Iterable[str] = (),
    progress: Progress = silent,
) -> Collection:  # fmt: skip
    """Returns what each activation quantizer saw of a recipe's images, of which each process takes its share.

    With `reference` binning, whose bins depend on the order of all batches, each process sees all of them instead.
    """
    if binning == "reference":
        remembering = as_remembered(model, images, images.source)
        with failing_together(), remembering, collecting(model, binning, histograms, two_sided) as collection:
            _show(model, images, progress, len(images))
        return collection
    share = images.shard(rank(), world_size())
    return collect(
        model, share, binning=binning, histograms=histograms, two_sided=two_sided, source=share.source,
        progress=progress, count=len(share),
    )  # fmt: skip


def _show(model: nn.Module, images: Any, progress: Progress, count: int | None, to_inputs: ToInputs = None) -> None:
    with evaluation_mode(model), torch.no_grad():
        runner = Runner(model)
        batches = as_batches(images, device_of(model), to_inputs)
        for batch in progress(batches, count, named_by_process("calibrating")):
            runner(batch)
