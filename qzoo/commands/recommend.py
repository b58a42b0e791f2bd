"""Recommending a variant by name: what recipes, receipts, searches, benchmarks and this machine say, gathered.

Nothing is measured, and nothing is made: what is not known here is told with the command that would find it out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import torch

from qzoo import environment
from qzoo.arguments import checked
from qzoo.commands.search import kept_at, starting_variant
from qzoo.errors import WeightsError
from qzoo.results.benchmark import BenchmarkReport
from qzoo.results.recommendation import KnownFigure, Quantity, Recommendation
from qzoo.results.search import SearchReport
from qzoo.runtimes.registry import REFERENCE, RUNTIMES, runtime_named
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.model import LARGEST_TEXT, StrictModel
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import recipe_digest
from qzoo.tasks.measuring.machine import cpu_flags, cpu_name, has_dot_products
from qzoo.tasks.recommend import Candidate, Machine
from qzoo.tasks.recommend import recommend as recommended
from qzoo.weights.kinds import BENCHMARK, RANGES, RECEIPT
from qzoo.weights.receipt import load_receipt
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel

M = TypeVar("M", bound=StrictModel)


@checked
def recommend(name: str | Path, target: str | None = None, *, max_drop: float | None = None) -> Recommendation:
    """Returns the variant to ship for a runtime on this machine, the flags to export it with, and why.

    Every figure has a source: a receipt beside the recipe or on this machine, what `qzoo search` and `qzoo benchmark`
    measured here, or a claim of the recipe. What nobody measured is told with the command that measures it.

    Args:
        name: a base, whose variants are weighed against each other, or a single variant.
        target: `onnxruntime`, `openvino` or `tensorrt`; default: the first that runs here, on a GPU if there is one.
        max_drop: points of top-1 that may be lost against float. What is known to lose more is left out.

    Raises:
        UnknownNameError: there is no such model or runtime; with the nearest.
        RecipeError: the recipe is faulty.

    Example:
        >>> found = qzoo.recommend("resnet8_digits", "tensorrt", max_drop=0.5)
        >>> found.variant, found.drop
        ('resnet8_digits_int8', 0.0)
    """
    runtime = default_target() if target is None else runtime_named(target)
    zoo_model = find(name)
    variants = zoo_model.variants if zoo_model.variant is None else [zoo_model]
    candidates = [_candidate(one, runtime) for one in variants]
    points = [point for one in _searched(zoo_model, runtime) for point in _points(one, runtime)]
    machine = this_machine(runtime)
    return recommended(zoo_model.address, [*candidates, *points], runtime, machine, max_drop=max_drop)


def default_target() -> Runtime:
    """Returns the runtime that is exported for if none is named: the first that runs here, on a GPU if there is one."""
    return next(iter(runtimes_here()), REFERENCE)


def runtimes_here() -> list[Runtime]:
    """Returns the runtimes that are installed and run on this machine, those on a GPU first."""
    able = [one for one in RUNTIMES.values() if find_spec(one.package) is not None and one.missing() is None]
    return sorted(able, key=lambda one: not one.on_gpu)


def this_machine(runtime: Runtime) -> Machine:
    """Returns what a runtime runs on here."""
    if runtime.on_gpu:
        gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "a GPU that this machine does not have"
        return Machine(gpu, [], None)
    flags = cpu_flags()
    return Machine(cpu_name(), flags, has_dot_products(flags))


def _candidate(zoo_model: ZooModel, runtime: Runtime) -> Candidate:
    at_hand = zoo_model.is_at_hand
    kept = environment.artifacts() / f"{zoo_model.name}{RECEIPT.suffix}"
    return Candidate(
        name=zoo_model.name,
        command=zoo_model.command,
        resolved=zoo_model.resolved,
        figures=[*_of_receipt(zoo_model), *_of_benchmark(zoo_model, runtime), *_published(zoo_model)],
        making=None if at_hand else zoo_model.making_command,
        only_calibrated=zoo_model.made_by is RANGES,
        receipt=str(kept),
    )


def _of_receipt(zoo_model: ZooModel) -> Iterator[KnownFigure]:
    """Yields the accuracy that a receipt holds, if it is of this state of the recipe and not damaged."""
    path = zoo_model.artifact_at_hand(RECEIPT)
    if path is None:
        return
    with suppress(WeightsError):
        receipt = load_receipt(path)
        info = receipt.info
        if info.recipe_sha256 != zoo_model.resolved.digest or not info.top1:
            return
        part = "" if info.complete else ", part of them"
        measured = f"{len(receipt):,} images of {info.dataset} {info.split}{part}, {info.date}"
        source = f"receipt {path.name}: {measured}"
        before, after = info.top1["float"], info.top1["quantized"]
        yield _figure("drop", before - after, "points", zoo_model.name, source)
        yield _figure("top-1", after, "%", zoo_model.name, source)
        yield _figure("float top-1", before, "%", zoo_model.entry.name, source)


def _of_benchmark(zoo_model: ZooModel, runtime: Runtime) -> Iterator[KnownFigure]:
    """Yields the latencies of one image that `qzoo benchmark` kept, if they are of this recipe and this processor."""
    path = environment.artifacts() / f"{zoo_model.name}.{runtime.name}{BENCHMARK.suffix}"
    report = _read(path, BenchmarkReport)
    if report is None or report.recipe_sha256 != zoo_model.resolved.digest or report.runtime != runtime.name:
        return
    if report.environment.get("cpu") != cpu_name():
        return
    source = f"measured on this machine, {report.threads} threads, {report.date or 'no date'}: {path.name}"
    for timing in report.timings:
        if timing.batch == 1:
            yield _figure("latency", timing.quantized_ms[1], "ms", zoo_model.name, source)
            yield _figure("float latency", timing.float_ms[1], "ms", zoo_model.entry.name, source)


def _published(zoo_model: ZooModel) -> Iterator[KnownFigure]:
    """Yields what others claim: of a bound or a drop, measured on other weights, there is no figure."""
    for claim in zoo_model.resolved.published:
        if claim.top1 is not None:
            yield _figure("published top-1", claim.top1, "%", zoo_model.name, _said_by(claim))
    for claim in zoo_model.entry.recipe.published:
        if claim.top1 is not None:
            yield _figure("published float top-1", claim.top1, "%", zoo_model.entry.name, _said_by(claim))


def _said_by(claim: Claim) -> str:
    return f"{'an earlier run of ours' if claim.own else 'published'}: {claim.source}"


def _searched(zoo_model: ZooModel, runtime: Runtime) -> list[ZooModel]:
    """Returns the variants that may have been searched from: of a base, that of the runtime's scheme too."""
    if zoo_model.variant is not None:
        return [zoo_model]
    start = starting_variant(zoo_model, runtime)
    known = {one.name for one in zoo_model.variants}
    return zoo_model.variants if start.name in known else [*zoo_model.variants, start]


def _points(zoo_model: ZooModel, runtime: Runtime) -> Iterator[Candidate]:
    """Yields the points of the variant's search that were measured for this runtime, the solution first."""
    path = kept_at(zoo_model.name)
    report = _read(path, SearchReport)
    current = (None, zoo_model.resolved.digest, recipe_digest(zoo_model.entry))
    if report is None or report.target != runtime.name or report.recipe_sha256 not in current:
        return
    on = f"{report.images:,} images of {report.dataset} {report.split}"
    for point in report.points:
        if point.drop is None:
            continue
        source = f"search {path.name}: {on}, {report.environment.get('cpu', 'processor unknown')}"
        figures = [_figure("drop", point.drop, "points", zoo_model.name, source)]
        if point.latency_ms is not None and report.environment.get("cpu") == cpu_name():
            figures.append(_figure("latency", point.latency_ms, "ms", zoo_model.name, source))
        yield Candidate(zoo_model.name, zoo_model.command, zoo_model.resolved, figures, point=point.name)


def _figure(quantity: Quantity, value: float, unit: Any, of: str, source: str) -> KnownFigure:
    return KnownFigure(quantity=quantity, value=round(value + 0.0, 4), unit=unit, of=of, source=source)


def _read(path: Path, kind: type[M]) -> M | None:
    """Returns what a JSON file of this machine holds, or None: what is damaged or of another version is not known."""
    with suppress(OSError, ValueError, AttributeError, RecursionError):
        if path.stat().st_size <= LARGEST_TEXT:
            content = json.loads(path.read_text(encoding="utf-8"))
            # `to_json` writes a number in front of the fields.
            fields = {name: value for name, value in content.items() if name != "schema"}
            return kind.model_validate_json(json.dumps(fields))
    return None
