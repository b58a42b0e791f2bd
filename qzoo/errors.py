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
import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from qzoo.redaction import redact

MOST_SHOWN = 500
"""Signs that a message shows of what a file says."""
LONGEST_WORD, LONGEST_LINE, MOST_LINES = 1_000, 4_000, 100
"""Limits of a message: signs without a space between, signs in a line, lines. A longer one holds what a file says."""


@dataclass(frozen=True)
class Fault:
    """What is wrong at one place of a file, for programs that read it.

    Attributes:
        message: what is wrong, without the place.
        file: as messages name it.
        line: counted from 1; None where it is not known.
        column: counted from 1; None where it is not known.
        field: dotted, `variants.int8.input`; None for the whole file.
    """

    message: str
    file: str | None = None
    line: int | None = None
    column: int | None = None
    field: str | None = None


class QzooError(Exception):
    """The root of every error that qzoo raises on purpose.

    Its text holds nothing that a terminal obeys and no token or password, and is of bounded length, whatever the names
    in it are.

    Attributes:
        faults: those of a file, one by one, where the message lists several or the place is known.
    """

    def __init__(self, *arguments: object, faults: Sequence[Fault] = ()) -> None:
        super().__init__(*(redact(one) if isinstance(one, str) else one for one in arguments))
        self.faults = tuple(faults)

    def __str__(self) -> str:
        """The message, fit for a terminal."""
        return readable(super().__str__())


class UnknownNameError(QzooError, LookupError):
    """A name that no catalogue, registry or table holds.

    Attributes:
        field: a field of a recipe, that holds such names: `("base", "architecture")`; None for a name from elsewhere.
    """

    def __init__(self, *arguments: object, field: tuple[str, ...] | None = None, faults: Sequence[Fault] = ()) -> None:
        super().__init__(*arguments, faults=faults)
        self.field = field


class ArgumentError(QzooError, ValueError):
    """An argument that a function does not take, or does not take with such a value."""


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
"""Characters, from which on nothing near is looked for, and which a message shows of a name among others."""
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
    return list(_nearest(given.lower(), tuple(known), most))


@functools.lru_cache(maxsize=64)
def _nearest(given: str, known: tuple[str, ...], most: int) -> list[str]:
    names = {name.lower(): name for name in known if len(name) <= 2 * LONGEST_NAME}
    close = difflib.get_close_matches(given, names, n=most, cutoff=LIKENESS)
    # `onnx` for `onnxruntime`; and of names as short as `my`, two swapped letters are all there is.
    begun = [name for name in names if len(given) >= SHORTEST_BEGINNING and name.startswith(given)]
    swapped = [name for name in names if sorted(name) == sorted(given)]
    return [names[match] for match in close or (begun or swapped)[:most]]


def did_you_mean(given: str, known: Iterable[str], most_listed: int = 12) -> str:
    """Returns the sentence that ends a message about an unknown name.

    Of a hundred names or more only those that look alike are listed: a dozen of them in the alphabet help nobody.

    Example:
        >>> did_you_mean("percentle", ["max", "mse", "percentile"])
        "Did you mean 'percentile'? Known: max, mse, percentile."
    """
    names = sorted(set(known))
    first, *others = nearest(given, names, most=5) or [""]
    question = f"Did you mean '{shown(first, LONGEST_NAME)}'? " if first else ""
    if first and len(names) >= MANY:
        return question + (f"Also near: {some(others)}." if others else f"There are {len(names):,} names.")
    return f"{question}Known: {some(names, most_listed)}."


def some(names: Sequence[str], most: int = 12) -> str:
    """Returns names on one line: the first of them, and how many more there are.

    Example:
        >>> some(["conv1", "conv2", "fc"], most=2)
        'conv1, conv2 and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(shown(name, LONGEST_NAME) for name in names[:most]) + more


def shown(said: object, most: int = MOST_SHOWN) -> str:
    r"""Returns what a file says, for one line of a message: it may be of any length, and hold what a terminal obeys.

    Example:
        >>> print(shown("a\x1b[2Jb\nc"))
        a\x1b[2Jb\nc
    """
    return shortened(escaped(shortened(str(said), most)), most)


def readable(message: str) -> str:
    """Returns a message of several lines, in the words of qzoo and of files, as `shown` does with each of its lines."""
    lines = message.split("\n")
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], f"... and {len(lines) - MOST_LINES:,} lines more."]
    return "\n".join(_without_long_words(escaped(line)) for line in lines)


def escaped(text: str, kept: str = "") -> str:
    """Returns a text with a Python escape in place of each sign that is none to look at, as `repr` has it.

    Those are control characters, which a terminal obeys, marks that turn the direction of writing, unusual spaces,
    lone surrogates.

    Args:
        text: from anywhere.
        kept: signs that stay as they are, such as a line break.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in kept else ascii(sign)[1:-1] for sign in text)


def shortened(text: str, most: int) -> str:
    """Returns a text of at most so many signs: a longer one without its middle.

    Example:
        >>> shortened("layer1.0.conv1.weight", 13)
        'layer1...ight'
    """
    if len(text) <= most:
        return text
    end = most // 3
    return f"{text[: most - 3 - end]}...{text[len(text) - end :]}"


def _without_long_words(line: str) -> str:
    if len(line) <= LONGEST_WORD:
        return line
    return shortened(_LONG_WORD.sub(lambda word: shortened(word[0], MOST_SHOWN), line), LONGEST_LINE)


SHORTEST_BEGINNING = 3
"""Signs of a name that stands for the rest."""
LIKENESS = 0.6
"""The likeness from which on one name may be a slip of another: `train` and `trian` have 0.8, `perc` and `nope` 0.5."""
_LONG_WORD = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
