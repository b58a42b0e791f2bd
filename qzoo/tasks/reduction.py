"""Merging what the quantizers of several processes saw: as if one process had seen all images."""

from __future__ import annotations

import zlib

import torch

from qzoo.distributed import meet, rank, reduced, world_size
from qzoo.errors import CalibrationError
from qzoo.quant.calibration.collecting import Collection
from qzoo.quant.calibration.collectors import HistogramCollector


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
    described = "\n".join(f"{path} {type(seen).__name__}" for path, seen in collection.items())
    digest = torch.tensor(zlib.crc32(described.encode()))
    if not torch.equal(reduced(digest, "min"), reduced(digest, "max")):
        raise CalibrationError(
            f"The processes calibrate different models: process {rank()} has {len(collection)} quantizers, of other "
            "names or calibrators than another process has. Give every process the same model."
        )


def _reduce_extremes(collection: Collection) -> None:
    # A NaN becomes an infinity of the same effect: reductions differ in what they make of NaN.
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
