"""Every result that a public function gives is a short block where it is printed, and tables in a notebook."""

from __future__ import annotations

import re
import typing
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qzoo
from qzoo.commands.calibrate import calibrate_variants
from qzoo.results.readable import Readable
from qzoo.zoo.name_lookup import find

NAME = "resnet8_digits_int8"
BATCHES = [(torch.rand(8, 1, 8, 8), torch.arange(8))]


@cache
def model() -> nn.Module:
    return qzoo.create(NAME, pretrained=True)


@cache
def calibrated(folder: Path) -> Any:
    return calibrate_variants([find("resnet8_digits_int8")], output=folder)[0]


RESULTS: dict[str, Callable[[Path], Any]] = {
    "evaluate": lambda folder: qzoo.evaluate(model(), BATCHES),
    "predictions": lambda folder: qzoo.evaluate(model(), BATCHES).predicted,
    "sensitivity": lambda folder: qzoo.sensitivity(model(), BATCHES),
    "check": lambda folder: qzoo.check(model(), 2 * BATCHES),
    "a layer's sensitivity": lambda folder: qzoo.sensitivity(model(), BATCHES, mend=0).layers[0],
    "reproduce": lambda folder: qzoo.reproduce("resnet8_digits"),
    "a row of a report": lambda folder: qzoo.reproduce("resnet8_digits").rows[1],
    "finetune": lambda folder: qzoo.finetune(qzoo.create(NAME, pretrained=True), BATCHES, epochs=1, lr=1e-4),
    "explain": lambda folder: qzoo.explain("resnet50_int8_residual"),
    "verify": lambda folder: qzoo.verify(NAME),
    "what verify compares": lambda folder: qzoo.verify(NAME).usual,
    "a receipt": lambda folder: qzoo.verify(NAME).receipt,
    "calibrate": calibrated,
    "solve": lambda folder: qzoo.solve(calibrated(folder).histograms, "entropy", bits=6, output=folder / "solved"),
    "push": lambda folder: qzoo.push(NAME, "me/x", dry_run=True, folder=folder / "made"),
}
ON_RUNTIMES: dict[str, Callable[[Path], Any]] = {
    "export": lambda folder: qzoo.export(model(), folder / "a.onnx", images=BATCHES),
    "parity": lambda folder: qzoo.export(model(), folder / "a.onnx", images=BATCHES).parity,
    "a finding": lambda folder: qzoo.export(model(), folder / "a.onnx", example=BATCHES[0][0][:1]).findings[0],
    "lint": lambda folder: qzoo.lint(RESULTS["export"](folder).file, "openvino"),
    "benchmark": lambda folder: qzoo.benchmark(model(), batches=(1,)),
}
ALL = [*RESULTS, *(pytest.param(name, marks=pytest.mark.runtimes) for name in ON_RUNTIMES)]
RESULTS |= ON_RUNTIMES


@pytest.mark.parametrize("name", ALL)
def test_is_a_short_block_and_tables(name: str, tmp_path: Path) -> None:
    found = RESULTS[name](tmp_path)
    text = repr(found)
    first, *lines = text.split("\n")
    assert first == type(found).__name__
    assert 1 <= len(lines) <= 40
    assert max(map(len, lines)) <= 200
    assert all(line.startswith("  ") for line in lines)
    assert not re.search(r"tensor\(|\w\(\w+=|\{'", text)  # no dump of tensors, of objects, of dicts
    html = found._repr_html_()
    assert html.startswith(f"<table><caption>{first}</caption>")
    assert html.count("<table>") == html.count("</table>")


def test_no_public_function_gives_anything_else() -> None:
    given: set[Any] = set()
    for name in qzoo.__all__:
        function = getattr(qzoo, name)
        if callable(function) and not isinstance(function, type):
            given.add(typing.get_type_hints(function, localns={"LintReport": qzoo.LintReport})["return"])
    plain = {nn.Module, Path, Any, list[str], qzoo.Recipe, type(None)}
    rows = {typing.get_args(kind)[0] if typing.get_origin(kind) is list else kind for kind in given - plain}
    others = {kind for kind in rows if not (isinstance(kind, type) and issubclass(kind, Readable))}
    assert not others
