"""What is impossible about a histogram: no tensors, of whatever values, leave such counts, edges and bounds behind."""

from __future__ import annotations

import math

import torch

from qzoo.quant.calibration.collectors import SMALLEST_EXPONENT
from qzoo.quant.calibration.histogram import ALIGNED_BINS, Histogram, exponent_of

MOST_COUNTED = 2**53
"""Values, which float64 still counts one by one."""
UNEVEN = 2.0**-20
"""Share of the last edge by which the width of a bin may differ from the others': reference edges are float32."""
SMALLEST_STEP = 2.0**-149
"""Between two float32 values."""


def histogram_fault(histogram: Histogram) -> str | None:
    """Returns what is impossible about a histogram, as the end of a sentence; None if nothing is.

    Args:
        histogram: its counts are integers, its edges one more than its counts.

    Example:
        >>> from qzoo.quant.calibration.collectors import HistogramCollector
        >>> collector = HistogramCollector()
        >>> collector.collect(torch.tensor([0.5, -1.0]))
        >>> histogram_fault(collector.histogram())
    """
    amin, amax, counts = histogram.amin, histogram.amax, histogram.counts
    if not (math.isfinite(amin) and math.isfinite(amax) and amin <= amax):
        return f"it saw values from {amin:g} to {amax:g}"
    if bool((counts < 0).any()):
        return f"it counted {int(counts.min())} values in a bin"
    if not 0 < float(counts.double().sum()) < MOST_COUNTED:
        return f"it counted {float(counts.double().sum()):g} values in all"
    fault = _aligned_fault(histogram) if histogram.binning == "aligned" else _reference_fault(histogram)
    return fault or _signs_fault(histogram)


def _aligned_fault(histogram: Histogram) -> str | None:
    """Aligned bins are as narrow as they can be, so the largest magnitude tells their width and the last that is used.

    Source: `AlignedBins`: the smallest k of at least -126 with `magnitude < 4096 * 2**k`.
    """
    exponent, magnitude = exponent_of(histogram), histogram.magnitude
    closed = magnitude == math.ldexp(ALIGNED_BINS, exponent)  # as if the last bin held its upper edge: it does no harm
    narrowest = max(math.frexp(magnitude)[1] - 12, SMALLEST_EXPONENT) if magnitude else SMALLEST_EXPONENT
    if exponent != narrowest - closed:
        return f"its bins are 2**{exponent} wide, which is not how they lie for values of up to {magnitude:g}"
    last = int(histogram.counts.nonzero()[-1])
    if last != int(math.ldexp(magnitude, -exponent)) - closed:
        return f"its last value lies in bin {last}, its largest magnitude, {magnitude:g}, in another"
    return None


def _signs_fault(histogram: Histogram) -> str | None:
    """Of the values in a bin no more are negative than there are, and the smallest lies in the last bin with one."""
    negatives = histogram.negatives
    if negatives is None:
        return None
    if bool(((negatives < 0) | (negatives > histogram.counts)).any()):
        return "it counted more negative values in a bin than values"
    used = [int(part.nonzero()[-1]) if bool(part.any()) else -1 for part in (negatives, histogram.counts - negatives)]
    signs = (histogram.amin < 0, histogram.amax >= 0)
    bounds = (-histogram.amin, histogram.amax)
    width = math.ldexp(1.0, exponent_of(histogram))
    expected = [int(bound / width) if there else -1 for bound, there in zip(bounds, signs, strict=True)]
    if used != [min(bin, ALIGNED_BINS - 1) for bin in expected]:
        return f"its values of one sign end in bin {used[0]}, of the other in {used[1]}, its bounds lie in others"
    return None


def _reference_fault(histogram: Histogram) -> str | None:
    """Reference bins are of one width, from 0 to the largest magnitude or, once they grew, less than two bins beyond.

    Source: `ReferenceBins`.
    """
    edges, widths, magnitude = histogram.edges, histogram.edges.diff(), histogram.magnitude
    if not bool(edges.isfinite().all()) or float(edges[0]) != 0 or not bool((widths > 0).all()):
        return "its edges are not finite, do not start at 0, or do not rise"
    last, width = float(edges[-1]), float(edges[-1]) / len(widths)
    tolerance = UNEVEN * last + len(widths) * SMALLEST_STEP
    if bool(((widths - width).abs() > tolerance).any()) or last > torch.finfo(torch.float32).max:
        return "its bins are not of one width, or beyond float32"
    if not last - 2 * width <= magnitude <= last + 2 * width:
        return f"its bins end at {last:g}, and its largest magnitude is {magnitude:g}"
    return None
