"""`python -m benchmarks.planted_ranges [NAME] [--samples N] [--write]`: the table of docs/check.md.

Of a variant with ranges, from samples of 64 images each without labels: is the sound model called fine, and is a range
that was made twice or half as large found, it and no other? A sample is shown once: what quantizers see in float does
not depend on ranges, so every quantizer can be planted in turn. Takes about five minutes on two cores for 20 samples of
EfficientNet-Lite0, and images in `QZOO_DATA/imagenet-mini`.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

import qzoo
from benchmarks.document import publish, where
from qzoo import environment
from qzoo.cli.terminal.progress_bar import bar
from qzoo.quant.eval_mode import device_of
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.report.markdown import table
from qzoo.results.check import CheckReport, Fault
from qzoo.tasks.check import FEW, report_of, watch
from qzoo.tasks.inputs.batches import as_batches
from qzoo.tasks.inputs.images import Images, evaluation_images
from qzoo.tasks.measuring.quarters import Quarters, pieces
from qzoo.tasks.measuring.range_faults import check_activation
from qzoo.tasks.measuring.running import measuring
from qzoo.zoo.name_lookup import find

NAME = "tf_efficientnet_lite0_int8"
FACTORS: dict[float, Fault] = {2.0: "wide", 0.5: "narrow"}
FIRST_SEED = 1000
"""Bounds were chosen on samples of other seeds."""


class Case(NamedTuple):
    """A sample of images, with and without a planted range.

    Attributes:
        seed: of the sample.
        sound: the verdict on the model as it is.
        path: the quantizer whose range was changed.
        factor: what it was multiplied by.
        found: whether that range, and no other, is called wrong, and in the right way.
        missed: all (path, factor) that were not found, of every quantizer planted alone.
        planted: how many these were.
    """

    seed: int
    sound: str
    path: str
    factor: float
    found: bool
    missed: list[tuple[str, float]]
    planted: int


@contextmanager
def planted(quantizer: TensorQuantizer, factor: float) -> Iterator[None]:
    """Multiplies a range, for the time of the context."""
    before = quantizer.amax.clone()
    quantizer.amax.mul_(factor)
    try:
        yield
    finally:
        quantizer.amax.copy_(before)


def sample(name: str, seed: int, data: Path | None) -> Images:
    """Returns the images of a sample, of the split that the variant is measured on."""
    zoo_model = find(name)
    return evaluation_images(zoo_model.base, zoo_model.dataset, data, images=FEW, seed=seed)


def measured(model: nn.Module, images: Images, seed: int, drawn: random.Random) -> Case:
    """Returns what is found of one sample."""
    with measuring(model):
        batches = bar(pieces(as_batches(images, device_of(model))), len(images), f"sample {seed}")
        quarters, tally = watch(model, batches)
        sound = report_of(model, quarters, tally)
        path, factor = drawn.choice(list(quarters.quantizers)), drawn.choice(list(FACTORS))
        with planted(quarters.quantizers[path], factor):
            found = told(report_of(model, quarters, tally)) == [(path, FACTORS[factor])]
        missed = list(missed_of(quarters))
    return Case(seed, sound.verdict, path, factor, found, missed, len(quarters.quantizers) * len(FACTORS))


def told(report: CheckReport) -> list[tuple[str, Fault | None]]:
    """Returns which ranges a report calls wrong, and how."""
    return [(one.path, one.fault) for one in report.faults]


def missed_of(quarters: Quarters) -> Iterator[tuple[str, float]]:
    """Yields what is not found where each quantizer is planted alone, by each factor."""
    seen, found = quarters.seen(), quarters.smallest_ranges()
    for path, quantizer in quarters.quantizers.items():
        for factor, fault in FACTORS.items():
            with planted(quantizer, factor):
                row = check_activation(path, quantizer, found[path], seen[path], judged=True)
            if row.fault != fault:
                yield path, factor


def told_of(name: str, cases: list[Case]) -> str:
    """Returns the table, and the sentence below it."""
    rows = [
        [str(case.seed), case.sound, f"`{case.path}`", f"{case.factor:g}", "found" if case.found else "**missed**"]
        for case in cases
    ]
    alarms, found = sum(case.sound != "fine" for case in cases), sum(case.found for case in cases)
    missed, planted = sum(len(case.missed) for case in cases), sum(case.planted for case in cases)
    return (
        f"{table(['>sample', 'as it is', 'planted range', '>times', ''], rows)}\n\n"
        f"`{name}`: {found} of {len(cases)} planted ranges found, {alarms} false alarms in {len(cases)}. Every input "
        f"quantizer planted in turn, by each factor: {planted - missed:,} of {planted:,} found.\n\n"
        f"{FEW} unlabelled images a sample, {where(torch.get_num_threads())}."
    )


def main() -> None:
    """Measures, prints, and writes the table if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planted_ranges")
    parser.add_argument("name", nargs="?", default=NAME, help=f"a variant with ranges; default: {NAME}")
    parser.add_argument("--samples", type=int, default=20, help="of 64 images each")
    parser.add_argument("--seed", type=int, default=FIRST_SEED, help="of the first sample; the others follow")
    parser.add_argument("--data", type=Path, help="default: imagenet-mini in QZOO_DATA for ImageNet, else QZOO_DATA")
    parser.add_argument("--write", action="store_true", help="put the table into docs/check.md")
    given = parser.parse_args()
    root, mini = environment.data_root(), find(given.name).dataset == "imagenet-1k"
    data = given.data or (root / "imagenet-mini" if root and mini else root)
    model, drawn = qzoo.create(given.name, pretrained=True), random.Random(given.seed)
    seeds = range(given.seed, given.seed + given.samples)
    cases = [measured(model, sample(given.name, seed, data), seed, drawn) for seed in seeds]
    for case in cases:
        for path, factor in case.missed:
            print(f"sample {case.seed} misses {path} times {factor:g}")
    publish("planted", told_of(given.name, cases), given.write, "check.md")


if __name__ == "__main__":
    main()
