"""What an export found out: the file, the rules, and how close the runtime comes to the fake-quantized model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel

Rest = Literal["fp32", "fp16"]
"""The type of what is not quantized."""
Dynamic = Literal["none", "batch", "size"]
"""What of a graph's inputs may be of any size: nothing; how many images; and their height and width too."""

LEAST_AGREEMENT = 90.0
"""Percent of images. Roundings flip a few close predictions; more is a fault of graph or runtime."""


class Finding(Readable, StrictModel):
    """One thing that a rule found in a graph."""

    rule: str
    """Its name."""
    level: Literal["error", "note"]
    """`error`: the graph computes something else than meant, or its runtime can't use it as meant; `note`: what stays
    in float, and what depends on the processor."""
    node: str
    """Its name."""
    message: str
    """What is there, and what should be."""

    def __str__(self) -> str:
        """One line: rule, node, message."""
        return f"{self.rule}: {self.node}: {self.message}"


class NodeParity(Readable, StrictModel):
    """How far the integers of one quantizer are from the fake-quantized model's, in steps."""

    node: str
    """Path of the quantizer."""
    alone: int = Field(ge=0)
    """The largest difference where the part before it is fed with the fake-quantized model's own values."""
    plain: int = Field(ge=0)
    """The largest difference end to end, in ONNX Runtime without optimizations."""
    plain_share: float = Field(ge=0, le=1)
    """Share of values that differ at all, in ONNX Runtime without optimizations."""
    optimized: int | None = Field(ge=0)
    """The largest difference end to end, in ONNX Runtime with optimizations; None: it can't optimize this graph."""
    optimized_share: float | None = Field(ge=0, le=1)
    """Share of values that differ at all, in ONNX Runtime with optimizations."""
    optimized_alone: int | None = Field(default=None, ge=0)
    """The largest difference where the part before it is fed rightly, in ONNX Runtime with optimizations; None: the
    graph is another runtime's, or was compared by a qzoo that did not measure it."""


class Parity(Readable, StrictModel):
    """How close a runtime comes to the fake-quantized model, on real images."""

    images: int = Field(ge=1)
    own_runtime: bool
    """Whether the runtime itself ran; if not, ONNX Runtime without optimizations in its place."""
    agreement_plain: float
    """Percent of images with the same top-1, in ONNX Runtime without optimizations."""
    agreement: float
    """Percent of images with the same top-1, in the runtime, with its optimizations."""
    logit_difference_plain: float
    """The largest, in ONNX Runtime without optimizations."""
    logit_difference: float
    """The largest, in the runtime, with its optimizations."""
    largest_logit: float
    """The largest logit of the fake-quantized model, to compare differences with."""
    nodes: list[NodeParity]
    first_diverging: str | None = None
    """The first quantizer that is more than one step off though it was fed rightly, without optimizations or, where the
    graph is for ONNX Runtime, with them: a fault, not a rounding, and not products that overflow. `logits`: a 127th of
    the largest is a step, and the layers after the last quantizers are wrong."""
    first_overflowing: str | None = None
    """The first quantizer that is more than one step off though it was fed rightly, in ONNX Runtime with optimizations,
    and is not where all its inputs are halved: sums of products overflow 16 bits on this CPU."""
    logit_limit: float | None = None
    """The largest difference of logits that is no fault; None: each part is right in the runtime if fed rightly, so
    that roundings are all there is; or compared by a qzoo that set none."""
    seven_bit_difference: float | None = None
    """The largest difference of logits between the runtime and ONNX Runtime without optimizations, for the same graph
    with weights of 7 bits, whose products can't overflow; measured where `agreement` or `logit_difference` are beyond
    the limits."""

    @property
    def beyond(self) -> bool:
        """Whether the runtime is further from the model than roundings explain."""
        logits = self.logit_limit is not None and not self.logit_difference <= self.logit_limit
        return self.agreement < LEAST_AGREEMENT or logits

    @property
    def overflows(self) -> bool:
        """Whether it is, by sums of products that overflow 16 bits on this CPU: with weights of 7 bits it is not."""
        seven = self.seven_bit_difference
        return self.beyond and seven is not None and self.logit_limit is not None and seven <= self.logit_limit


class ByLevel:
    """What has findings, apart by level."""

    findings: list[Finding]

    @property
    def errors(self) -> list[Finding]:
        """Rules that are broken."""
        return [one for one in self.findings if one.level == "error"]

    @property
    def notes(self) -> list[Finding]:
        """What stays in float, and what depends on the processor."""
        return [one for one in self.findings if one.level == "note"]


class ExportReport(Readable, StrictModel, ByLevel):
    """What `qzoo export --json` writes."""

    name: str
    runtime: str
    file: str
    opset: int
    bytes: int
    float_bytes: int
    """The size of the float weights: parameters and buffers, 4 bytes each."""
    layers: int
    quantized_layers: int
    findings: list[Finding]
    parity: Parity | None
    fault: str | None = None
    """What the comparison found wrong, why, and the remedy; None: nothing, or nothing was compared."""
    seconds: float
    environment: dict[str, str | int]


class Exports(Readable, StrictModel):
    """The `exports.json` beside the ONNX files of a hub model."""

    exports: list[ExportReport]
