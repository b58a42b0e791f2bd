"""The options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qzoo.runtimes.registry import spelled
from qzoo.schema.calibration import DATA_FREE

Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the dataset, or of all datasets.", envvar="QZOO_DATA", show_default=False),
]
CalibrationData = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help=f"Folder of the dataset, or of all datasets; or, to calibrate without any: {', '.join(DATA_FREE)}.",
        envvar="QZOO_DATA",
        show_default=False,
    ),
]
CalibImages = Annotated[
    int | None,
    typer.Option(
        "--calib-images", min=1, help="Images to calibrate on, if not as the recipe says.", show_default=False
    ),
]
EvalImages = Annotated[
    int | None,
    typer.Option(
        "--eval-images",
        min=1,
        help="Images to evaluate on: a seeded sample instead of all.",
        show_default=False,
    ),
]
BatchSize = Annotated[int | None, typer.Option("--batch-size", min=1, help="Images at a time.", show_default=False)]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=0,
        help="Processes that decode images; 0: none. Default: one a core for image files.",
        show_default=False,
    ),
]
Ranges = Annotated[
    Path | None,
    typer.Option("--ranges", help="A file of ranges, or of a full checkpoint; default: by name.", show_default=False),
]
Runtime = Annotated[str, typer.Option("--runtime", "-r", help=f"{spelled()}.")]
Adapt = Annotated[bool, typer.Option("--adapt", help="Derive what the runtime runs best, with the ranges.")]
ReduceRange = Annotated[
    bool, typer.Option("--reduce-range", help="Adapt, with weights of 7 bits: for CPUs without VNNI.")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
Html = Annotated[
    Path | None,
    typer.Option(
        "--html", help="Write a report as one HTML FILE: charts, tables, what to rerun.", metavar="FILE",
        show_default=False,
    ),
]  # fmt: skip
NoImages = Annotated[bool, typer.Option("--no-images", help="Leave pictures of images out of the HTML file.")]
Json = Annotated[str | None, typer.Option("--json", help="Print the result as JSON; or write it to FILE.json.",
                                          metavar="[FILE]", show_default=False)]  # fmt: skip
