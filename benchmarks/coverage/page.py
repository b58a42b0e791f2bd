"""docs/coverage.md: the results as tables, and reading them back."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import timm
import torchvision

from benchmarks.coverage.architectures import Architecture
from benchmarks.coverage.check import IMAGES, Result
from benchmarks.coverage.whole import SCHEME, Whole

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coverage.md"
HEAD = (
    "| module | architecture | size | weight | input | residual additions | operators in float | without data | s "
    "| result |",
    "|---|---|---:|---:|---:|---|---|---|---:|---|",
)
SOURCES = ("timm", "torchvision")
WHOLE = "Attention and own classes"
WHOLE_HEAD = ("| source | network | weights, % | layers | s | result |", "|---|---|---:|---|---:|---|")
SHOWN = 5
"""Operators in float that are named, the most frequent first."""

INTRODUCTION = """\
# Coverage

The generic int8 recipe, with quantizers on skip branches, was tried on the smallest architecture of each of timm's
{modules} model modules and on all {classifiers} torchvision classifiers: with quantizers off the output has to equal
the float model's bit for bit, in evaluation and in training, and after calibration it has to be finite.
{timm} of {modules} timm modules and {torchvision} of {classifiers} torchvision models pass.

Weights are random, images are {images} of random values. `weight` and `input` count the quantizers of layers.
`residual additions` says how many of those that were found have a quantizer; they include sums of parallel branches, as
in RepVGG. Sums that are spelled another way, and so are not quantized, are named. The operators in float are the
{shown} most frequent of those that compute. `without data` says what ranges were made from without an image: all are
finite and above 0, and `qzoo check` runs on images that were made (of large models it was not tried: `unchecked`).
`s` is seconds for everything, on a machine that others may have been using. Written by `make coverage`.

{versions}.
"""


WHOLE_INTRODUCTION = """
Models with attention, classifiers of Hugging Face's transformers of small configurations, and networks as people write
them (benchmarks/coverage/styles.py), by the scheme `{scheme}`. `weights` is the share that is quantized, those included
that operators read; `layers` how many layers and products of the file for ONNX Runtime have quantized inputs, or why
there is no file. With quantizers off the output equals the float network's bit for bit, and each quantizer of the file,
fed rightly, is within a step.
"""


class Row(NamedTuple):
    """What the page says of one architecture."""

    architecture: Architecture
    size: int
    weight: int
    input: int
    residual: str
    result: str

    @property
    def passes(self) -> bool:
        """Whether all checks were passed."""
        return self.result == "pass"


def written(results: list[Result], wholes: list[Whole]) -> str:
    """Returns the page for the results of a whole sweep."""
    by_source = {source: [r for r in results if r.architecture.source == source] for source in SOURCES}
    passed = {source: sum(not result.failure for result in found) for source, found in by_source.items()}
    text = INTRODUCTION.format(
        modules=len(by_source["timm"]), classifiers=len(by_source["torchvision"]), **passed, images=IMAGES, shown=SHOWN,
        versions=installed(),
    )  # fmt: skip
    for source, found in by_source.items():
        text += "\n".join([f"\n## {source}\n", *HEAD, *(line(result) for result in found), ""])
    return text + whole_section(wholes)


def whole_section(wholes: list[Whole]) -> str:
    """Returns the part of the page on networks of which the weights are counted."""
    rows = (whole_line(whole) for whole in wholes)
    return "\n".join([f"\n## {WHOLE}", WHOLE_INTRODUCTION.format(scheme=SCHEME), *WHOLE_HEAD, *rows, ""])


def whole_line(whole: Whole) -> str:
    """Returns one row of that part."""
    cells = (
        whole.source, whole.name, f"{whole.weights:.1f}", whole.exported.replace("|", "/"), f"{whole.seconds:.0f}",
        whole.failure.replace("|", "/") or ("pass" if " of " in whole.exported else "does not export"),
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def line(result: Result) -> str:
    """Returns one row of a table."""
    name, counts = result.architecture, result.quantizers
    cells = (
        name.module, name.name, result.size, counts["weight"], counts["input"], residual(result),
        _most(result.float_operators), result.without_data, f"{result.seconds:.0f}",
        result.failure.replace("|", "/") or "pass",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


def residual(result: Result) -> str:
    """Returns `16 of 16`, and the spellings of those that are not quantized.

    Example:
        >>> residual(Result(Architecture("timm", "x", "x"), additions=2, other_additions=Counter({"lerp": 3})))
        '0 of 5; not: 3 lerp'
    """
    others = result.other_additions
    total = result.additions + others.total()
    if not total:
        return "none"
    missed = f"; not: {_most(others)}" if others else ""
    return f"{result.quantizers['residual']} of {total}{missed}"


def _most(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.most_common(SHOWN))


def read() -> dict[Architecture, Row]:
    """Returns what the committed page says; nothing if there is none."""
    rows, source = {}, ""
    for text in PAGE.read_text().splitlines() if PAGE.exists() else ():
        if text.startswith("## "):
            source = text.removeprefix("## ")
        cells = [cell.strip() for cell in text.strip("|").split(" | ")]
        if source in SOURCES and text.startswith("| ") and cells[0] != "module":
            module, name, size, weight, given, additions, *_, result = cells
            architecture = Architecture(source, module, name)
            rows[architecture] = Row(architecture, int(size), int(weight), int(given), additions, result)
    return rows


def is_current() -> bool:
    """Whether the committed page was made with the installed timm and torchvision."""
    return PAGE.exists() and f"\n{installed()}.\n" in PAGE.read_text()


def installed() -> str:
    """Returns the versions of timm and torchvision, whatever they were compiled for."""
    return ", ".join(f"{library.__name__} {library.__version__.partition('+')[0]}" for library in (timm, torchvision))
