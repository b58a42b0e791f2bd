"""Every error qzoo raises on purpose.

    QzooError
    ├── UnknownNameError   (LookupError)   a name that no catalogue, registry or table holds
    ├── RecipeError        (ValueError)    a recipe file that can't be read, parsed or validated
    │   └── RuleError                      a rule that does not fit the model it is bound to
    ├── DataError          (ValueError)    a dataset that is missing, empty or of the wrong kind
    ├── WeightsError       (ValueError)    weights or ranges that are missing, corrupt or of another base
    ├── CalibrationError   (RuntimeError)  a quantizer that can't get a range from what it saw
    ├── NotCalibratedError (RuntimeError)  a model used before it has ranges
    ├── TrainingError      (RuntimeError)  a training that left the finite numbers, or can't go on from its checkpoint
    ├── UnsupportedError   (RuntimeError)  a request that is valid, but which this version can't serve
    └── PeerError          (RuntimeError)  another process of the same run failed

Each message says what was given, where, what is accepted, and what to do next.
The command line prints the message alone and exits with 2.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_SHOWN = 500
"""Signs that a message shows of what a file says."""


class QzooError(Exception):
    """The root of every error that qzoo raises on purpose."""


class UnknownNameError(QzooError, LookupError):
    """A name that no catalogue, registry or table holds."""


class RecipeError(QzooError, ValueError):
    """A recipe that can't be read, parsed or validated."""


class RuleError(RecipeError):
    """A rule that does not fit the model it is bound to."""


class DataError(QzooError, ValueError):
    """A dataset that is missing, empty or of the wrong kind."""


class WeightsError(QzooError, ValueError):
    """Weights or ranges that are missing, corrupt or made for another base."""


class CalibrationError(QzooError, RuntimeError):
    """A quantizer that can't get a range from what it saw."""


class NotCalibratedError(QzooError, RuntimeError):
    """A model that is used before its quantizers have ranges."""


class TrainingError(QzooError, RuntimeError):
    """A training that left the finite numbers, or that can't go on from its checkpoint."""


class UnsupportedError(QzooError, RuntimeError):
    """A request that is valid, but which this version can't serve."""


class PeerError(QzooError, RuntimeError):
    """Another process of the same run failed.

    Attributes:
        known: it failed with a known mistake, whose message this is; if not, with a bug, whose traceback this is.
    """

    def __init__(self, message: str, known: bool = True) -> None:
        super().__init__(message)
        self.known = known


LONGEST_NAME = 100
"""Characters, from which on nothing near is looked for."""
MANY = 100
"""Names, from which on they are not listed."""


def nearest(given: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Returns up to ``most`` of the known names that look like the given one, best first.

    Example:
        >>> nearest("percentle", ["max", "mse", "percentile"])
        ['percentile']
    """
    if len(given) > LONGEST_NAME:
        return []  # comparing takes the square of the length, and this is no slip of the finger
    names = {name.lower(): name for name in known}
    return [names[match] for match in difflib.get_close_matches(given.lower(), names, n=most, cutoff=0.5)]


def did_you_mean(given: str, known: Iterable[str], most_listed: int = 12) -> str:
    """Returns the sentence that ends a message about an unknown name.

    Of a hundred names or more only those that look alike are listed: a dozen of them in the alphabet help nobody.

    Example:
        >>> did_you_mean("percentle", ["max", "mse", "percentile"])
        "Did you mean 'percentile'? Known: max, mse, percentile."
    """
    names = sorted(set(known))
    first, *others = nearest(given, names, most=5) or [""]
    question = f"Did you mean '{first}'? " if first else ""
    if first and len(names) >= MANY:
        return question + (f"Also near: {', '.join(others)}." if others else f"There are {len(names):,} names.")
    more = f" and {len(names) - most_listed} more" if len(names) > most_listed else ""
    return f"{question}Known: {', '.join(names[:most_listed])}{more}."


def shown(said: object) -> str:
    """Returns what a file says, for a message: it may be of any length, and hold what a terminal obeys."""
    text = str(said)
    start = "".join(sign if sign.isprintable() else "?" for sign in text[:MOST_SHOWN])
    return start if len(text) <= MOST_SHOWN else f"{start}..."
