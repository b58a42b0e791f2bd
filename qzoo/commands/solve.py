"""Solving ranges from histograms: another method, percentile or bit width in seconds, without any image."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from qzoo.arguments import checked
from qzoo.errors import RecipeError, WeightsError, did_you_mean
from qzoo.models.bases import base_digest, create_base
from qzoo.models.example import runnable_example
from qzoo.models.full_checkpoint import check_histograms_fit
from qzoo.models.provenance import note_ranges_from
from qzoo.models.quantize import quantize_in_place
from qzoo.models.survey import survey_of_base
from qzoo.quant.calibration.collecting import solve_ranges
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.weights import show_computed_weights
from qzoo.results.readable import Readable
from qzoo.schema.quantizer import METHODS
from qzoo.schema.reading.catalog import Catalog, RecipeEntry
from qzoo.schema.reading.loading import parse_recipe
from qzoo.schema.recipe import Variant
from qzoo.schema.resolution.resolve import ResolvedVariant, resolve
from qzoo.tasks.saving import save
from qzoo.weights.histograms import HistogramsInfo, load_histograms
from qzoo.weights.kinds import RANGES
from qzoo.weights.ranges import check_base

TUTORIAL_PERCENTILE = 99.99
"""What NVIDIA's ResNet-50 tutorial ends with."""


@dataclass(frozen=True, repr=False)
class Solved(Readable):
    """What was solved.

    Attributes:
        model: calibrated.
        variant: what it is; resolved.
        written: how a recipe says it, as plain data.
        path: the path of the ranges file.
    """

    model: nn.Module
    variant: ResolvedVariant
    written: dict[str, Any]
    path: Path


@checked
def solve(
    histograms: str | Path,
    method: str | None = None,
    *,
    percentile: float | None = None,
    bits: int | None = None,
    weight_bits: int | None = None,
    symmetric: Literal[True, False, "auto"] | None = None,
    output: Path | str | None = None,
) -> Solved:
    """Solves the ranges of a variant that differs from a calibrated one in its quantizers, and writes them.

    No image is needed, and the result is that of a calibration on the images the histograms were collected from, bit
    for bit.

    Args:
        histograms: a file that `qzoo calibrate` wrote.
        method: for the inputs of layers with weights: `max`, `percentile`, `mse` or `entropy`; default: as it was.
        percentile: for `percentile`, up to 100; default 99.99.
        bits: the number of bits of these inputs, 2 to 16.
        weight_bits: the number of bits of the weights, whose ranges are solved from the base's weights.
        symmetric: whether these inputs have no zero point; where they may have one, mse and percentile need histograms
            of both signs, which older versions of qzoo did not keep.
        output: a ranges file, or a folder; default: beside the histograms.

    Returns:
        The model, and what a recipe has to say for it.

    Raises:
        WeightsError: the file is missing or corrupt, or the base's weights are not those it was collected with.
        RecipeError: method, percentile or bits are out of range.
        CalibrationError: the histograms count magnitudes alone, and a range with a zero point is asked for.

    Example:
        >>> made = qzoo.reproduce("resnet8_digits", only="int8", artifacts=Path("made"))
        >>> solved = qzoo.solve("made/resnet8_digits_int8.histograms.safetensors", "mse", bits=6)
        >>> solved.path.name
        'resnet8_digits_int8_a6_mse.ranges.safetensors'
    """
    path = Path(histograms)
    collected, info = load_histograms(path)
    entry = _entry(path, info)
    written = _written(info.variant, method, percentile, bits, weight_bits, symmetric)
    variant = _resolved(entry, written)
    target = _target(Path(output or path.parent), variant.name)
    check_histograms_fit(resolve(entry, info.variant), path, collected)
    model = create_base(variant.base, pretrained=True)
    quantize_in_place(model, variant, seen=survey_of_base(model))
    check_base(path, info, base_digest(model))
    show_computed_weights(model, lambda: runnable_example(model))
    solve_ranges(model, {place: HistogramCollector.recorded(one) for place, one in collected.items()})
    note_ranges_from(model, info.calibration_source)
    save(model, target, images=info.calibration_images, sample_sha256=info.calibration_sha256)
    return Solved(model, variant, written, target)


def _entry(path: Path, info: HistogramsInfo) -> RecipeEntry:
    entry = RecipeEntry.from_recipe(parse_recipe(info.recipe, f"the recipe in {path.name}"), info.base)
    if resolve(entry, info.variant).digest != info.recipe_sha256:
        raise WeightsError(f"{path} holds another recipe than the one it was collected by. Calibrate again.")
    return entry


def _written(
    start: str,
    method: str | None,
    percentile: float | None,
    bits: int | None,
    weight_bits: int | None,
    symmetric: Literal[True, False, "auto"] | None = None,
) -> dict[str, Any]:
    """Returns what a recipe has to say: `{from: int8, input: {calibrator: mse}}`."""
    said: dict[str, dict[str, Any]] = {"weight": {"bits": weight_bits}, "input": {"bits": bits}}
    if method is not None or percentile is not None:
        said["input"]["calibrator"] = _calibrator(method or "percentile", percentile)
    if symmetric is not None:
        said["input"]["symmetric"] = symmetric
    for role, fields in said.items():
        if fields["bits"] is None:
            del fields["bits"]
        elif fields["bits"] not in range(2, 17):
            raise RecipeError(f"{fields['bits']} bits for the {role}: give 2 to 16.")
    return {"from": start, **{role: fields for role, fields in said.items() if fields}}


def _calibrator(method: str, percentile: float | None) -> str | dict[str, float]:
    if method not in METHODS:
        raise RecipeError(f"Unknown method '{method}'. {did_you_mean(method, METHODS)}")
    if method != "percentile":
        if percentile is not None:
            raise RecipeError(f"The method {method} has no percentile. Leave it out, or say --method percentile.")
        return method
    value = TUTORIAL_PERCENTILE if percentile is None else percentile
    if not 0 < value <= 100:
        raise RecipeError(f"A percentile of {value:g}: give one above 0, at most 100, such as 99.99.")
    return {"percentile": value}


def _resolved(entry: RecipeEntry, written: dict[str, Any]) -> ResolvedVariant:
    """Returns the variant that is to be solved; under its own name, where the zoo has it already."""
    start = written["from"]
    if len(written) == 1:
        return resolve(entry, start)
    name = "_".join([start, *_words(written)])
    while name in entry.recipe.variants:  # of another content, on which this one may build
        name += "_"
    added = {name: Variant.model_validate_json(json.dumps(written))}
    recipe = entry.recipe.model_copy(update={"variants": entry.recipe.variants | added})
    variant = resolve(RecipeEntry.from_recipe(recipe, entry.name), name)
    return _known(variant, entry.name) or variant


_SYMMETRIC = {True: "sym", False: "asym", "auto": "autosym"}


def _words(written: dict[str, Any]) -> list[str]:
    """Returns what tells the variant from the one it starts from: `w4`, `a6`, `p99.9`."""
    of_input = written.get("input", {})
    words = [f"w{written['weight']['bits']}"] if "weight" in written else []
    words += [f"a{of_input['bits']}"] if "bits" in of_input else []
    words += [_SYMMETRIC[of_input["symmetric"]]] if "symmetric" in of_input else []
    calibrator = of_input.get("calibrator")
    if isinstance(calibrator, dict):
        return [*words, f"p{calibrator['percentile']:.10g}"]
    return [*words, calibrator] if calibrator else words


def _known(variant: ResolvedVariant, base: str) -> ResolvedVariant | None:
    entry = Catalog.load().recipes.get(base)
    if entry is None:
        return None
    resolved = (resolve(entry, name) for name in entry.variants)
    return next((one for one in resolved if one.digest == variant.digest), None)


def _target(output: Path, name: str) -> Path:
    if output.suffix == ".safetensors" and not output.is_dir():
        return output
    if output.suffix and not output.is_dir():
        raise RecipeError(f"{output} is neither a folder nor a .safetensors file. Ranges are safetensors.")
    return output / f"{name}{RANGES.suffix}"
