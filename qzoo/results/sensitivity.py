"""The report of a sensitivity analysis. The JSON that `qzoo sensitivity --json` writes."""

from __future__ import annotations

import json
from typing import Any

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.results.reproduce import CalibrationReport
from qzoo.schema.model import StrictModel
from qzoo.schema.reading.yaml_source import yaml_line


class Deviation(Readable, StrictModel):
    """How far one way of quantizing is from the float model."""

    sqnr_db: float | None
    """Signal to quantization noise of the logits, in dB; null where they are equal bit for bit."""
    top1: float | None
    """In percent; null without labels."""
    flips: int
    """Images whose first prediction is another one."""


class LayerSensitivity(Readable, StrictModel):
    """What quantizing one layer does."""

    name: str
    """Module path of a layer with all its quantizers, or of a quantizer that belongs to no layer."""
    alone: Deviation
    """Only this layer is quantized."""
    left_out: Deviation
    """All but this layer are quantized."""
    drop: float | None
    """Points of top-1 that are lost with this layer alone."""
    gain: float | None
    """Points of top-1 that are won when it is left out."""
    rank_by_sqnr: int
    """1 for the layer whose noise alone is worst."""
    rank_by_drop: int
    """1 for the layer whose drop alone is worst; ties go by flips, then by noise."""
    rule: dict[str, Any] | None
    """What leaves it in float, as a recipe says it; null for the model itself, which no rule can name."""

    def reasoned_rule(self) -> dict[str, Any]:
        """Returns the rule with its reason, for people."""
        noise = "no noise" if self.alone.sqnr_db is None else f"SQNR {self.alone.sqnr_db:.1f} dB"
        return {**(self.rule or {}), "why": f"sensitivity: {noise} alone"}


class Excluded(Readable, StrictModel):
    """What is won when the rules of some layers are added."""

    layers: list[str]
    deviation: Deviation
    gain: float | None
    """Points of top-1."""


class SensitivityReport(Readable, StrictModel):
    """A sensitivity analysis of one quantized model. What only a recipe knows is null without one."""

    name: str
    version: int | None = None
    dataset: str | None = None
    split: str | None = None
    images: int
    complete: bool | None = None
    """Whether these are all images that published figures are measured on."""
    float_top1: float | None
    quantized: Deviation
    """Everything is quantized."""
    layers: list[LayerSensitivity]
    """Worst noise alone first."""
    mended: list[Excluded]
    """The worst layer left out, the worst two, the worst three ..."""
    calibration: CalibrationReport | None = None
    """If this run calibrated; null where ranges were at hand."""
    recipe_sha256: str | None = None
    environment: dict[str, str | int] = Field(default_factory=dict)
    seconds: float

    def by_drop(self) -> list[LayerSensitivity]:
        """Returns the layers, worst drop of top-1 first."""
        return sorted(self.layers, key=lambda layer: layer.rank_by_drop)

    def rules(self) -> list[dict[str, Any]]:
        """Returns the rules that leave out the worst layers."""
        worst = self.mended[-1].layers if self.mended else []
        named = [layer for layer in self.layers if layer.name in worst and layer.rule is not None]
        # Both operands of an addition have one rule; the reason is that of the worse.
        first = {json.dumps(layer.rule): layer for layer in reversed(named)}
        return [layer.reasoned_rule() for layer in named if first[json.dumps(layer.rule)] is layer]

    def rules_yaml(self) -> str:
        """Returns those rules as YAML that goes under `rules:` of a variant, one a line."""
        return "".join(f"- {yaml_line(rule)}\n" for rule in self.rules())

    def to_json(self) -> str:
        """Returns the JSON."""
        return json.dumps({"schema": 1, **self.model_dump(mode="json"), "rules": self.rules()}, indent=1)
