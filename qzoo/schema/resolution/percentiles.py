"""Percentiles that are valid and hardly meant: 0.9999, where 99.99 percent are."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

from qzoo.errors import Fault
from qzoo.schema.quantizer import QuantizerPatch
from qzoo.schema.resolution.precedence import BoundRule

LIKELY = 50.0
"""Percent; a range that clips more than half of all values is of no use."""


class UnlikelyPercentileWarning(UserWarning):
    """A percentile so low that it was hardly meant.

    Attributes:
        fault: what and where.
    """

    def __init__(self, text: str, fault: Fault) -> None:
        super().__init__(text)
        self.fault = fault


def is_unlikely(percentile: float) -> bool:
    """Whether a percentile clips so much that it is a slip.

    Example:
        >>> is_unlikely(0.9999), is_unlikely(99.99)
        (True, False)
    """
    return percentile < LIKELY


def advice(percentile: float) -> str:
    """Returns what to say of an unlikely percentile.

    Example:
        >>> advice(0.9999)
        'percentile 0.9999 clips 99.0001 % of all values. Did you mean 99.99? It is in percent.'
    """
    meant = percentile * 100 if LIKELY <= percentile * 100 < 100 else 99.99
    clipped = f"percentile {percentile:g} clips {100 - percentile:g} % of all values"
    return f"{clipped}. Did you mean {meant:g}? It is in percent."


def warn_of_unlikely(rules: Iterable[BoundRule]) -> None:
    """Warns of each percentile that was hardly meant, with its place.

    Warns:
        UnlikelyPercentileWarning: once for each.
    """
    for rule in rules:
        for role, patch in rule.patches.items():
            calibrator = patch.calibrator if isinstance(patch, QuantizerPatch) else None
            if calibrator is not None and calibrator.percentile is not None and is_unlikely(calibrator.percentile):
                text, field = advice(calibrator.percentile), rule.origin.field
                field = field if field.endswith(role) else f"{field}.{role}"
                file, line, column, _ = rule.origin.place
                where = f"{file}:{line}" if line else file
                warning = UnlikelyPercentileWarning(f"{where}: {field}: {text}", Fault(text, file, line, column, field))
                warnings.warn(warning, stacklevel=3)
