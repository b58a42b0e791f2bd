"""`python -m benchmarks.low_bits [--write] [cifar] [lite] [ablation] [long]`: the tables of docs/low-bits.md.

Each is what `qzoo reproduce` measures; it takes about an hour for all on two cores, and data in `QZOO_DATA`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.document import publish
from qzoo.cli.terminal.progress_bar import bar
from qzoo.commands.reproduce import reproduce
from qzoo.report.markdown import table

PAGE = "low-bits.md"
ABLATION = Path(__file__).with_name("ablation.yaml")
CLOSED = ["w4a8", "w4a8_gptq", "w4a8_opt"]
LITE = ["w4a8_gptq", "w4a8_opt", "int8_per_tensor", "int8_per_tensor_eq"]
PARTS: dict[str, dict[str | Path, list[str]]] = {
    "cifar": {
        "resnet20_cifar10": [*CLOSED, "w4a4_opt", "w3a3_opt", "w2a4_opt"],
        "resnet32_cifar10": CLOSED,
        "resnet44_cifar10": CLOSED,
        "resnet56_cifar10": [*CLOSED, "w4a4_opt"],
    },
    "lite": {f"tf_efficientnet_lite{size}": LITE for size in (0, 1, 2)},
    "ablation": {
        ABLATION: [
            "ranges", "bias", "gptq", "gptq_bias", "in_turn", "adaround", "layers", "rounding_alone", "without_drop",
            "blocks", "stages", "in_turn_blocks",
        ]
    },
    "long": {ABLATION: ["blocks_2000", "blocks_20000"]},
}  # fmt: skip
"""By part of the page: the bases, and their variants."""
HEADINGS = ["base", "variant", ">top-1", ">95 %", ">drop", ">lost, gained", ">same as float, %", ">s"]


def rows(reports: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """Yields the rows of all bases: the float model, and each variant beside it on the same images.

    Args:
        reports: as `qzoo reproduce --json` writes them; of several that speak of one model the first counts.
    """
    seen = set()
    for report in reports:
        for row in report["rows"]:
            model = (report["name"], row["variant"])
            if model not in seen:
                seen.add(model)
                yield [report["name"] if row["variant"] == "float" else "", *cells(row, report["rows"][0])]


def cells(row: dict[str, Any], base: dict[str, Any]) -> list[str]:
    """Returns what the table says of one model."""
    interval, seconds = "{:.1f}–{:.1f}".format(*row["ci95"]), f"{row['seconds']:.0f}"
    if row is base:
        return ["float", f"{row['top1']:.2f}", interval, "", "", "", seconds]
    drop, same = base["top1"] - row["top1"] + 0.0, f"{row['agreement_with_float']:.2f}"
    return [
        f"`{row['variant']}`", f"{row['top1']:.2f}", interval, f"{drop:+.2f}", f"{row['lost']}, {row['gained']}", same,
        seconds,
    ]  # fmt: skip


def measured(part: str) -> list[dict[str, Any]]:
    """Returns what `qzoo reproduce --json` would write of each base of a part."""
    made = (reproduce(name, only=variants, progress=bar) for name, variants in PARTS[part].items())
    return [json.loads(report.to_json()) for report in made]


def main() -> None:
    """Measures the parts that are named, or all, prints them, and writes them if asked to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.low_bits")
    parser.add_argument("parts", nargs="*", choices=[[], *PARTS], help="default: all")
    parser.add_argument("--write", action="store_true", help=f"put the result into docs/{PAGE}")
    parser.add_argument(
        "--reports", nargs="+", type=Path, default=[], help="of one part: take what `qzoo reproduce --json` wrote"
    )
    given = parser.parse_args()
    for part in given.parts or PARTS:
        reports = [json.loads(file.read_text()) for file in given.reports] or measured(part)
        first = reports[0]
        images = f"{first['images']:,} images of {first['dataset']} {first['split']}"
        machine = f"{first['environment']['cpu']}, {first['environment']['threads']} threads"
        told = f"On {images}, {date.today()}, {machine}, torch {first['environment']['torch']}."
        publish(part, f"{table(HEADINGS, list(rows(reports)))}\n\n{told}", given.write, PAGE)


if __name__ == "__main__":
    main()
