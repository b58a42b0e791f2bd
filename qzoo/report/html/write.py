"""`qzoo.html`: a result, or several, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qzoo.arguments import checked
from qzoo.errors import ArgumentError
from qzoo.files import write_text
from qzoo.report.html.blocks import Content
from qzoo.report.html.page import rendered
from qzoo.report.html.sections import reproduce, training
from qzoo.results.details import Details
from qzoo.results.reproduce import Report
from qzoo.results.training import TrainingReport

CONTENTS: dict[type, tuple[str, Callable[[Any, Details], Content]]] = {
    Report: ("reproduce", reproduce.content),
    TrainingReport: ("finetune", training.content),
}
"""By type of a result, what made it, and what a page says of it."""


@checked
def html(result: Any, file: str | Path, details: Details | None = None, *, images: bool = True) -> Path:
    """Writes a result as one HTML file, which opens from disk, in light and dark, and prints.

    Args:
        result: of `qzoo.reproduce`, `sensitivity`, `check`, `verify`, `finetune`, `optimize`, `export`, `benchmark`; or
            several, which stand below each other.
        file: the path of the page; replaced in one step.
        details: what was gathered beside the figures; without it the page has no pictures and no histograms.
        images: whether pictures of images are in the page.

    Returns:
        The path.

    Raises:
        ArgumentError: it is no result that there is a page for.
        OSError: the file can't be written.

    Example:
        >>> details = qzoo.Details()
        >>> report = qzoo.reproduce("resnet8_digits", only=["w4a4"], details=details)
        >>> page = qzoo.html(report, tmp_path / "report.html", details)
        >>> "<h1>resnet8_digits@1</h1>" in page.read_text()
        True
    """
    given = details or Details()
    shown = given if images else replace(given, flips=[replace(one, picture=b"") for one in given.flips])
    results = [*result] if isinstance(result, Sequence) else [result]
    kinds, contents = zip(*(_content(one, shown) for one in results), strict=True) if results else ((), ())
    if not contents:
        raise ArgumentError("html() got no result; give one, or a list of some.")
    write_text(file, rendered(" and ".join(dict.fromkeys(kinds)), contents, shown))
    return Path(file)


def _content(result: Any, details: Details) -> tuple[str, Content]:
    # What a command returns of a training or an optimization holds its report.
    found = result if type(result) in CONTENTS else getattr(result, "report", result)
    if type(found) not in CONTENTS:
        known = ", ".join(sorted(one.__name__ for one in CONTENTS))
        raise ArgumentError(f"html() got {type(result).__name__}; expected a result with a page: {known}.")
    kind, make = CONTENTS[type(found)]
    return kind, make(found, details)
