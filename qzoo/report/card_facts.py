"""What a model card tells: plain facts, measured or computed elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field

from qzoo.hub.manifest import Manifest, ModelConfig
from qzoo.results.export import ExportReport
from qzoo.results.training import TrainingReport
from qzoo.schema.published import Claim
from qzoo.schema.recipe import CalibrationSpec


@dataclass(frozen=True)
class Measured:
    """The figures that a receipt holds, float beside quantized.

    Attributes:
        dataset: its name in recipes.
        split: which images of it.
        images: how many.
        complete: whether these are all that published figures are measured on.
        float_top1: of the float model, in percent; None without labels.
        float_top5: of the float model, in percent; None without labels.
        top1: of the quantized model, in percent; None without labels.
        top5: of the quantized model, in percent; None without labels.
        agreement: share of images with the same first prediction, in percent.
        date: of the measurement.
        environment: what it was measured on.
    """

    dataset: str
    split: str
    images: int
    complete: bool
    float_top1: float | None
    float_top5: float | None
    top1: float | None
    top5: float | None
    agreement: float
    date: str
    environment: dict[str, str | int]


@dataclass(frozen=True)
class CardFacts:
    """Everything that a model card is written from.

    Attributes:
        manifest: names, versions, digests, files with their sizes.
        config: architecture, classes, transform.
        recipe: self-contained YAML.
        description: of the variant, or else of the recipe.
        method: how input ranges were found, `percentile 99.99`.
        calibration: which images the recipe calibrates on.
        calibration_images: how many were seen.
        weights: how many weights have which quantizer: `{"8bit per-channel max": 54}`.
        activations: how many activations have which quantizer: `{"8bit per-tensor percentile 99.99": 54}`.
        float_bytes: of the float model's parameters and buffers.
        license: of the weights, by the hub's short name; None where it is not known.
        base_model: repository of the float weights on the hub, if they lie there.
        repo: `owner/repo`; None where it is not known yet.
        measured: the figures; None without a receipt.
        published: claims for the variant.
        published_float: claims for the base.
        training: how it was trained; None where calibration alone made it.
        exports: its ONNX files.
    """

    manifest: Manifest
    config: ModelConfig
    recipe: str
    description: str
    method: str | None
    calibration: CalibrationSpec
    calibration_images: int
    weights: dict[str, int]
    activations: dict[str, int]
    float_bytes: int
    license: str | None = None
    base_model: str | None = None
    repo: str | None = None
    measured: Measured | None = None
    published: tuple[Claim, ...] = ()
    published_float: tuple[Claim, ...] = field(default=())
    training: TrainingReport | None = None
    exports: tuple[ExportReport, ...] = ()
