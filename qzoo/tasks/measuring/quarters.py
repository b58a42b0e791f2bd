"""What quantizers see of images, a quarter at a time, and the ranges that follow from any three of the quarters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

from qzoo.quant.calibration.collecting import activation_quantizers, check_collection, collecting, solve_activations
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.inputs import split
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.zero_point import Range
from qzoo.schema.quantizer import QuantizerSpec
from qzoo.tasks.inputs.batches import Batch

QUARTERS = 4
LARGEST_PIECE = 8
"""Images that are shown at a time."""
Seen = dict[str, HistogramCollector]


def pieces(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yields the batches in pieces of a few images, at least four of each batch that has as many, without labels."""
    for batch in batches:
        size = max(1, min(LARGEST_PIECE, batch.images // QUARTERS))
        yield from (Batch(inputs, None, batch.position) for inputs in split(batch.inputs, size))


class Quarters:
    """Histograms of all that quantizers see, in four parts: what is shown goes to each in turn.

    Args:
        model: with quantizers; those that are switched on are watched.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        watched = activation_quantizers(model)
        self.quantizers = {path: one for path, one in watched.items() if one.state == "quantizing"}
        self._parts: list[Seen] = [_empty(self.quantizers) for _ in range(QUARTERS)]
        self._shown = 0

    @contextmanager
    def next(self) -> Iterator[None]:
        """Lets the model compute in float, for the time of the context, and takes note of it for the next quarter."""
        with collecting(self.model, histograms=self.quantizers, two_sided=self.quantizers) as seen:
            yield
        part = self._parts[self._shown % QUARTERS]
        for path in self.quantizers:
            part[path].merge(seen[path])
        self._shown += 1

    def seen(self) -> Seen:
        """Returns all that was seen.

        Raises:
            CalibrationError: a quantizer saw nothing, NaN or Inf.
        """
        everything = self._without(None)
        check_collection(everything)
        return everything

    def smallest_ranges(self) -> dict[str, Range]:
        """Returns the range that each quantizer's calibrator finds without that quarter that makes it largest."""
        specs = {path: _with_its_sign(one) for path, one in self.quantizers.items()}
        found = [solve_activations(specs, self._without(one)) for one in range(min(self._shown, QUARTERS))]
        return {path: min((one[path] for one in found), key=lambda one: float(one.amax)) for path in specs}

    def _without(self, left_out: int | None) -> Seen:
        merged = _empty(self.quantizers)
        for number, part in enumerate(self._parts):
            for path in self.quantizers:
                if number != left_out:
                    merged[path].merge(part[path])
        return merged


def _empty(paths: Iterable[str]) -> Seen:
    return {path: HistogramCollector(two_sided=True) for path in paths}


def _with_its_sign(quantizer: TensorQuantizer) -> QuantizerSpec:
    """Returns the spec of `unsigned: auto` as it was decided: a few odd images don't decide it anew."""
    if quantizer.unsigned is None:
        return quantizer.spec
    return quantizer.spec.model_copy(update={"unsigned": bool(quantizer.unsigned)})
