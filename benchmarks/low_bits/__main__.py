"""`python -m benchmarks.low_bits [--write] [cifar] [lite] [ablation] [long]`: the tables of docs/low-bits.md.

Each is what `qzoo reproduce` measures; it takes about an hour for all on two cores, and data in `QZOO_DATA`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmarks.document import publish, where
from qzoo.cli.terminal.progress_bar import bar
from qzoo.commands.reproduce import reproduce
from qzoo.report.markdown import table
from qzoo.results.reproduce import Report, ReportRow

PAGE = "low-bits.md"
ABLATION = Path(__file__).with_name("ablation.yaml")
GPTQ = ["w4a8", "w4a8_gptq"]
LITE = ["w4a8_gptq", "w4a8_opt", "int8_per_tensor", "int8_per_tensor_eq"]
PARTS: dict[str, dict[str | Path, list[str]]] = {
    "cifar": {
        "resnet20_cifar10": [*GPTQ, "w4a4_opt", "w3a3_opt", "w2a4_opt"],
        "resnet32_cifar10": GPTQ,
        "resnet44_cifar10": GPTQ,
        "resnet56_cifar10": [*GPTQ, "w4a4_opt"],
    },
    "lite": {f"tf_efficientnet_lite{size}": LITE for size in (0, 1, 2)},
    "ablation": {
        ABLATION: [
            "ranges", "bias", "gptq", "gptq_bias", "adaround", "layers", "rounding_alone", "without_drop", "blocks",
        ]
    },
    "long": {ABLATION: ["blocks", "blocks_20000"]},
}  # fmt: skip
"""By part of the page: the bases, and their variants."""
HEADINGS = ["base", "variant", ">top-1", ">95 %", ">drop", ">lost, gained", ">same as float, %", ">s"]


def rows(report: Report) -> Iterator[list[str]]:
    """Yields the rows of a base: the float model, and each variant beside it on the same images."""
    for row in report.rows:
        yield [report.name if row is report.rows[0] else "", *cells(report, row)]


def cells(report: Report, row: ReportRow) -> list[str]:
    """Returns what the table says of one model."""
    interval = f"{row.ci95[0]:.1f}–{row.ci95[1]:.1f}"
    if row is report.rows[0]:
        return ["float", f"{row.top1:.2f}", interval, "", "", "", f"{row.seconds:.0f}"]
    flips = f"{row.lost}, {row.gained}"
    return [
        f"`{row.variant}`", f"{row.top1:.2f}", interval, f"{report.drop(row):+.2f}", flips,
        f"{row.agreement_with_float:.2f}", f"{row.seconds:.0f}",
    ]  # fmt: skip


def main() -> None:
    """Measures the parts that are named, or all, prints them, and writes them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_bits")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parser.add_argument("--write", action="store_true", help=f"put the result into docs/{PAGE}")
    given = parser.parse_args()
    for part in given.parts or PARTS:
        reports = [reproduce(name, only=variants, progress=bar) for name, variants in PARTS[part].items()]
        images = f"{reports[0].images:,} images of {reports[0].dataset} {reports[0].split}"
        measured = table(HEADINGS, [row for report in reports for row in rows(report)])
        publish(part, f"{measured}\n\nOn {images}; {where(torch.get_num_threads())}.", given.write, PAGE)


if __name__ == "__main__":
    main()
