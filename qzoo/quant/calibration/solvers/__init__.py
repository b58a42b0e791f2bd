"""Solvers: from histograms to ranges. Pure functions over the histograms of all quantizers at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qzoo.errors import CalibrationError
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.calibration.solvers.entropy import entropy_amax
from qzoo.quant.calibration.solvers.mse import mse_amax
from qzoo.quant.calibration.solvers.percentile import percentile_amax
from qzoo.quant.calibration.solvers.stack import EVERY_BIN, Search, Stack, stack
from qzoo.schema.quantizer import QuantizerSpec

Solver = Callable[[Stack, QuantizerSpec, Search], Tensor]


def max_amax(histograms: Stack, spec: QuantizerSpec, search: Search = EVERY_BIN) -> Tensor:
    """Returns the largest magnitudes, float64 `(n,)`."""
    return histograms.magnitude


SOLVERS: dict[str, Solver] = {
    "max": max_amax,
    "percentile": percentile_amax,
    "mse": mse_amax,
    "entropy": entropy_amax,
}


def solve(histograms: Sequence[Histogram], specs: Sequence[QuantizerSpec], search: Search = EVERY_BIN) -> Tensor:
    """Returns the range of each quantizer, float32 `(n,)`.

    Args:
        histograms: what each quantizer collected.
        specs: what each quantizer is. `unsigned: auto` is unsigned where no negative value was seen.
        search: which ranges mse and entropy try.

    Raises:
        CalibrationError: a histogram counted nothing.

    Example:
        >>> from qzoo.quant.calibration.collectors import HistogramCollector
        >>> collector = HistogramCollector()
        >>> collector.collect(torch.tensor([0.5, -1.0]))
        >>> solve([collector.histogram()], [QuantizerSpec()])
        tensor([1.])
    """
    groups: dict[tuple[QuantizerSpec, str, int], list[int]] = defaultdict(list)
    for position, (histogram, spec) in enumerate(zip(histograms, specs, strict=True)):
        if histogram.total == 0:
            raise CalibrationError(f"Histogram {position} counted nothing, so it has no range.")
        groups[_signed(spec, histogram), histogram.binning, len(histogram.counts)].append(position)
    amax = torch.empty(len(histograms), dtype=torch.float32)
    for (spec, *_), positions in groups.items():
        solved = SOLVERS[spec.calibrator.method](stack([histograms[p] for p in positions]), spec, search)
        amax[positions] = solved.float()
    return amax


def _signed(spec: QuantizerSpec, histogram: Histogram) -> QuantizerSpec:
    """Returns the spec with signedness settled, and without what no solver looks at, so that equal work is grouped."""
    unsigned = histogram.amin >= 0 if spec.unsigned == "auto" else spec.unsigned
    return spec.model_copy(update={"unsigned": unsigned, "per": "tensor"})
