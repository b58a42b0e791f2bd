"""`python -m benchmarks.no_images [--write] [cifar] [lite] [rounding] [time]`: the tables of docs/no-images.md.

Data in `QZOO_DATA`. The four CIFAR nets take a quarter of an hour on two cores, EfficientNet-Lite an hour.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.document import publish, where
from benchmarks.low_bits.__main__ import ABLATION
from qzoo.cli.terminal.progress_bar import bar
from qzoo.models.bases import create_base, input_format
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.derived import copy_model
from qzoo.report.markdown import table
from qzoo.schema.calibration import Source
from qzoo.tasks.calibrate import calibrate
from qzoo.tasks.evaluate import Evaluation, evaluate_images, flips_between
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.data_free import data_free_images, usual_count
from qzoo.tasks.inputs.images import Images, evaluation_images
from qzoo.tasks.optimize import optimize
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel

PAGE = "no-images.md"
ALL: tuple[Source, ...] = ("images", "statistics", "synthetic", "distilled")
QUICK = ALL[:-1]
PARTS: dict[str, dict[str, tuple[Source, ...]]] = {
    "cifar": {f"resnet{depth}_cifar10_int8": ALL for depth in (20, 32, 44, 56)},
    "lite": {
        "tf_efficientnet_lite0_int8": ALL,
        "tf_efficientnet_lite1_int8": QUICK,
        "tf_efficientnet_lite2_int8": QUICK,
    },
    # What is learned is learned on images; statistics say ranges alone.
    "rounding": {f"{ABLATION}:blocks": ("images", "synthetic", "distilled")},
}
"""By part of the page: the variants, and what their ranges are made from."""
HEADINGS = ["variant", "ranges of", ">images", ">top-1", ">95 %", ">drop", ">lost, gained", ">same as float, %",
            ">same as calibrated on images, %", ">s"]  # fmt: skip


@dataclass(frozen=True)
class _Measured:
    """A variant with ranges of one source."""

    images: int
    result: Evaluation
    seconds: float


def rows(name: str, sources: Iterable[Source]) -> Iterator[list[str]]:
    """Yields the rows of a variant: the float model, and the variant with the ranges of each source, images first."""
    zoo_model = find(name)
    judged = evaluation_images(zoo_model.base, zoo_model.dataset)
    base = evaluate_images(create_base(zoo_model.base, pretrained=True), judged, progress=bar, what="evaluating float")
    yield [f"`{zoo_model.name}`", "float", "", *_top1(base), "", "", "", "", ""]
    measured: dict[Source, _Measured] = {}
    for source in sources:
        measured[source] = _measured(zoo_model, source, judged)
        yield ["", source, *_cells(measured[source], base, measured["images"].result, judged)]


def _measured(zoo_model: ZooModel, source: Source, judged: Images) -> _Measured:
    resolved, start = zoo_model.resolved, time.perf_counter()
    spec = resolved.calibration.model_copy(update={"source": source})
    count = None if source == "images" else usual_count(input_format(resolved.base), source)
    images = calibration_images(resolved.base, resolved.dataset, spec, images=count, progress=bar)
    model = create_base(resolved.base, pretrained=True)
    quantize_in_place(model, resolved)
    calibrate(model, images, progress=bar, count=len(images))
    if resolved.optimize is not None:
        optimize(model, images, progress=bar, count=len(images))
    seconds = time.perf_counter() - start
    return _Measured(len(images), evaluate_images(model, judged, progress=bar, what=f"evaluating {source}"), seconds)


def _top1(result: Evaluation) -> list[str]:
    low, high = result.ci95 or (0.0, 100.0)
    return [f"{result.top1:.2f}", f"{low:.1f}–{high:.1f}"]


def _cells(one: _Measured, base: Evaluation, on_images: Evaluation, judged: Images) -> list[str]:
    flips = flips_between(base, one.result, judged.labels)
    drop = (base.top1 or 0.0) - (one.result.top1 or 0.0) + 0.0
    return [
        f"{one.images:,}", *_top1(one.result), f"{drop:+.2f}", f"{flips.lost}, {flips.gained}",
        f"{one.result.agreement(base):.2f}", f"{one.result.agreement(on_images):.2f}", f"{one.seconds:.0f}",
    ]  # fmt: skip


def seconds_of(source: Source) -> list[str]:
    """Returns a row: how long ranges of ResNet-50 take, from the float model to the calibrated one."""
    torch.manual_seed(0)
    resolved = find("resnet50_int8").resolved
    float_model = _plausible("resnet50")
    model = copy_model(float_model)
    quantize_in_place(model, resolved)
    start = time.perf_counter()
    images = data_free_images(input_format(resolved.base), source, lambda: float_model, batch_size=32, progress=bar)
    calibrate(model, images, progress=bar, count=len(images))
    return [source, f"{len(images)}", f"{time.perf_counter() - start:.1f}"]


def _plausible(name: str) -> nn.Module:
    """Returns a base with random weights, whose batch norms remember what random images leave behind."""
    model = create_base(find(name).base)
    for norm in (one for one in model.modules() if isinstance(one, nn.BatchNorm2d)):
        norm.momentum = None
    model.train()
    with torch.no_grad():
        model(torch.randn(8, 3, 224, 224))
    return model.eval()


def main() -> None:
    """Measures the parts that are named, or all, prints them, and writes them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.no_images")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS, "time"], help="default: all")
    parser.add_argument("--write", action="store_true", help=f"put the result into docs/{PAGE}")
    given = parser.parse_args()
    for part in given.parts or (*PARTS, "time"):
        headings = ["ranges of", ">images", ">s"] if part == "time" else HEADINGS
        made: list[list[str]] = []
        # What is measured is kept, whatever becomes of the rest.
        for row in map(seconds_of, ALL[1:]) if part == "time" else _rows_of(part):
            made.append(row)
            publish(part, f"{table(headings, made)}\n\n{where(torch.get_num_threads())}.", given.write, PAGE)


def _rows_of(part: str) -> Iterator[list[str]]:
    for name, sources in PARTS[part].items():
        yield from rows(name, sources)


if __name__ == "__main__":
    main()
