"""What a variant's artifacts have to hold, by names and shapes, before its model takes memory or its weights are read.

A recipe from elsewhere is a text of some lines, and may name a model of any size beside artifacts of another.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import nn

from qzoo.errors import WeightsError, shown
from qzoo.models.bases import meta_model
from qzoo.models.quantize import quantize_in_place
from qzoo.quant.calibration.collecting import require_collected
from qzoo.quant.ranges import quantizers
from qzoo.schema.resolve import ResolvedVariant
from qzoo.weights.model_file import misfit, spec_of
from qzoo.weights.ranges import check_ranges_header


def outline(variant: ResolvedVariant) -> nn.Module:
    """Returns a variant's quantized model on the meta device: names and shapes, without memory for its weights.

    The random numbers of whoever asks stay as they are.

    Raises:
        RuleError: a rule does not fit the model.
    """
    with torch.random.fork_rng(devices=[]):
        model = meta_model(variant.base)
        quantize_in_place(model, variant)
    return model


def check_ranges_fit(variant: ResolvedVariant, path: Path) -> None:
    """Refuses a file of ranges that are not those of a variant's quantizers, without reading them.

    Raises:
        WeightsError: the file is missing, damaged, or lacks a range, or has one of another name or shape.
    """
    expected = {
        f"{place}.{name}": spec_of(tuple(buffer.shape), buffer.dtype)
        for place, quantizer in quantizers(outline(variant)).items()
        for name, buffer in quantizer.named_buffers()
    }
    check_ranges_header(path, lambda header, _: misfit(header, expected))


def check_histograms_fit(variant: ResolvedVariant, path: Path, places: Iterable[str]) -> None:
    """Refuses histograms that are not those of a variant's quantizers.

    Raises:
        CalibrationError: a quantizer of the model has none.
        WeightsError: one is of no quantizer.
    """
    given = set(places)
    odd = sorted(given - require_collected(outline(variant), given).keys())
    if odd:
        raise WeightsError(
            f"{path} does not fit {variant.name}: the model has no quantizer {shown(', '.join(odd[:3]))} ({len(odd)} "
            "such). Take the file and the recipe of one calibration, or calibrate again."
        )
