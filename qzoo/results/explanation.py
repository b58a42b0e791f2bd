"""Which quantizers a model gets, or has, and the rule that decided each. The JSON that `qzoo explain --json` writes."""

from __future__ import annotations

import json
from typing import ClassVar, Literal

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.schema.calibration import Source
from qzoo.schema.model import StrictModel
from qzoo.schema.quantizer import QuantizerSpec


class ExplainedQuantizer(Readable, StrictModel):
    """A quantizer, and why it is as it is."""

    not_shown: ClassVar[tuple[str, ...]] = ("module", "role")

    path: str
    """Its path in the model: `layer1.0.conv1.input_quantizer`."""
    module: str
    """Path of the layer, also of one that nobody calls, `attn.in_proj`; or of the module of the operator."""
    role: str
    """`input`, `weight` or `output` of a layer; `residual`, `matmul_left` ... of an operator."""
    spec: QuantizerSpec
    """Format, bits, granularity, sign and calibrator."""
    rule: str | None
    """The rule that spoke last, with file and line; None where no rule made the quantizer so."""
    fields: dict[str, str] = Field(default_factory=dict)
    """For each field that a rule set, the rule that set it, with file and line."""
    state: Literal["off", "calibrating", "quantizing"] | None = None
    """The state of the quantizer; None where it is only planned, in a model that is still float."""
    amax: tuple[float, float] | None = None
    """The smallest and the largest magnitude of its range, or width, where it has a zero point; None where there is no
    range yet."""
    zero_point: tuple[int, int] | None = None
    """The smallest and the largest zero point; None where there is none, or no range yet."""


class FloatOperator(Readable, StrictModel):
    """A functional operator that computes in float."""

    module: str
    """Path of the module whose forward evaluates it; empty for the model itself."""
    op: str
    """The name that a rule gives it."""
    residual: bool
    """Whether it is a residual addition."""


class FloatShare(Readable, StrictModel):
    """A weight that stays in float although no rule says so."""

    path: str
    """Path of the parameter."""
    weights: float
    """Its share of the model's weights, in percent."""
    macs: float | None = None
    """The share of the multiplications by weights that are by it, in percent; None where it is not known."""


class Explanation(Readable, StrictModel):
    """Each quantizer of a model with the rule that decided it, and all that stays in float."""

    name: str
    """Full name of the variant, or name of the scheme; of a model that neither made, its class."""
    quantizers: list[ExplainedQuantizer]
    """In the order of the model; where they are only planned, those of operators come last."""
    left_float: list[str] = Field(alias="float")
    """Paths of the layers with weights that have no quantizer."""
    float_rules: dict[str, str] = Field(default_factory=dict)
    """By path, the rule that left a layer in float, with file and line; of other layers no rule speaks."""
    float_weights: list[FloatShare] = Field(default_factory=list)
    """Weights that stay in float although no rule says so, the largest first: of layers that no rule speaks of, or of
    operators that are no layers."""
    float_operators: list[FloatOperator] | None
    """Operators that compute in float, but for those that only move values; None where the model runs on no image of a
    usual size, so that they are not known."""
    ranges_from: Source | None = None
    """What the ranges of a calibrated model, or those at hand for a name, were made from; null where there are none."""

    def to_json(self) -> str:
        """Returns the JSON."""
        return json.dumps(self.model_dump(mode="json", by_alias=True), indent=2)
