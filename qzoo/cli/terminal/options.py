"""The options that several commands share; `--set FIELD=VALUE` sets any field of a training schedule."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from qzoo.errors import RecipeError, UnknownNameError, did_you_mean
from qzoo.runtimes.registry import spelled
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.yaml_source import parse_yaml

Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of the dataset, or of all datasets.", envvar="QZOO_DATA", show_default=False),
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
    typer.Option("--ranges", help="A file of ranges, or of a whole model; default: by name.", show_default=False),
]
Runtime = Annotated[str, typer.Option("--runtime", "-r", help=f"{spelled()}.")]
ReduceRange = Annotated[
    bool, typer.Option("--reduce-range", help="Adapt, with weights of 7 bits: for CPUs without VNNI.")
]
Device = Annotated[str, typer.Option("--device", help="cpu, cuda, cuda:1, mps.")]
Json = Annotated[str | None, typer.Option("--json", help="Write the result as JSON to FILE, or - for stdout.",
                                          metavar="FILE", show_default=False)]  # fmt: skip


def parse_changes(given: Sequence[str]) -> dict[str, Any]:
    """Returns the fields that are set, by name; the values are read as YAML, and checked when they are used.

    Raises:
        UnknownNameError: a field has no such name; with the nearest.
        RecipeError: there is no `=`, or the value is no YAML.

    Example:
        >>> parse_changes(["schedule=cosine", "ema=0.99", "distill={temperature: 2}"])
        {'schedule': 'cosine', 'ema': 0.99, 'distill': {'temperature': 2}}
    """
    changes = {}
    for text in given:
        field, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            raise RecipeError(f"--set {text}: expected FIELD=VALUE, such as --set schedule=cosine.")
        if field not in FinetuneSpec.model_fields:
            raise UnknownNameError(f"--set {text}: {_no_field(field, value)}")
        changes[field] = _value(text, value)
    return changes


def _no_field(field: str, value: str) -> str:
    block, _, inner = field.partition(".")
    if inner and block in FinetuneSpec.model_fields:
        return f"the fields of `{block}` are given together: --set '{block}={{{inner}: {value}}}'."
    return f"a schedule has no field '{field}'. {did_you_mean(field, FinetuneSpec.model_fields)}"


def _value(text: str, value: str) -> Any:
    try:
        return parse_yaml(value, "the value")[0]
    except RecipeError as error:
        raise RecipeError(f"--set {text}: the value is no YAML. Write it as in a recipe: --set ema=0.99.") from error
