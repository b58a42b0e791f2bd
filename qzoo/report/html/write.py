"""`qzoo.html`: a result, or several, as one HTML file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qzoo.arguments import checked
from qzoo.errors import ArgumentError
from qzoo.files import write_text
from qzoo.report.html.blocks import Content
from qzoo.report.html.page import rendered
from qzoo.report.html.sections import (
    benchmark,
    calibrate,
    check,
    export,
    optimize,
    reproduce,
    search,
    sensitivity,
    training,
    verify,
)  # fmt: skip
from qzoo.results.benchmark import BenchmarkReport
from qzoo.results.calibration import Calibrated
from qzoo.results.check import CheckReport
from qzoo.results.details import Details
from qzoo.results.export import ExportReport
from qzoo.results.optimization import Optimization
from qzoo.results.reproduce import Report
from qzoo.results.search import SearchReport
from qzoo.results.sensitivity import SensitivityReport
from qzoo.results.training import TrainingReport
from qzoo.results.verification import VerificationReport

CONTENTS: dict[type, tuple[str, Callable[[Any, Details], Content]]] = {
    Report: ("reproduce", reproduce.content),
    SensitivityReport: ("sensitivity", sensitivity.content),
    SearchReport: ("search", search.content),
    CheckReport: ("check", check.content),
    VerificationReport: ("verify", verify.content),
    Optimization: ("optimize", optimize.content),
    TrainingReport: ("finetune", training.content),
    ExportReport: ("export", export.content),
    BenchmarkReport: ("benchmark", benchmark.content),
}
"""By type of a result, the command that makes it, and what a page says of it."""


@checked
def html(result: Any, file: str | Path, details: Details | None = None, *, images: bool = True) -> Path:
    """Writes a result as one HTML file, which opens from disk, in light and dark, and prints.

    Args:
        result: of `qzoo.reproduce`, `sensitivity`, `check`, `verify`, `finetune`, `export`, `benchmark` and so on; or
            several, which stand below each other.
        file: the path of the page; replaced in one step.
        details: what was gathered beside the figures; without it the page has no pictures and no histograms.
        images: whether pictures of images are in the page.

    Returns:
        The path.

    Raises:
        ArgumentError: there is no page for such a result.
        OSError: the file can't be written.

    Example:
        >>> details = qzoo.Details()
        >>> report = qzoo.reproduce("resnet8_digits", only=["w4a4"], details=details)
        >>> qzoo.html(report, "report.html", details).stat().st_size < 1_000_000
        True
    """
    given = details or Details()
    shown = given if images else replace(given, flips=[replace(one, picture=b"") for one in given.flips])
    results = [*result] if isinstance(result, Sequence) else [result]
    found = [*_contents(results, shown)]
    if not found:
        raise ArgumentError("html() got no result; give one, or a list of some.")
    kinds, contents = zip(*found, strict=True)
    if len(found) > 1:
        contents = tuple(replace(content, title=f"{content.title}: {kind}") for kind, content in found)
    write_text(file, rendered(" and ".join(dict.fromkeys(kinds)), contents, shown))
    return Path(file)


def _contents(results: Sequence[Any], details: Details) -> Iterator[tuple[str, Content]]:
    calibrated = [one for one in results if isinstance(one, Calibrated)]
    if calibrated:  # variants of one base, whose tensors are the same
        yield "calibrate", calibrate.content(calibrated, details)
    for one in results:
        if not isinstance(one, Calibrated):
            yield _content(one, details)


def _content(result: Any, details: Details) -> tuple[str, Content]:
    # What a command returns of a training, an optimization or a verification holds its report.
    found = result if type(result) in CONTENTS else getattr(result, "report", result)
    if type(found) not in CONTENTS:
        known = ", ".join(sorted(one.__name__ for one in (*CONTENTS, Calibrated)))
        raise ArgumentError(f"html() got {type(result).__name__}; expected a result that has a page: {known}.")
    kind, make = CONTENTS[type(found)]
    return kind, make(found, details.named(getattr(result, "name", "")))
