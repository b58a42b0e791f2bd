"""What a model card tells, and the words that several of its parts have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from qzoo import environment
from qzoo.errors import QzooError
from qzoo.hub.manifest import Manifest, ModelConfig
from qzoo.report.markdown import plain
from qzoo.results.export import ExportReport
from qzoo.results.training import TrainingReport
from qzoo.schema.calibration import CalibrationSpec, Source
from qzoo.schema.datasets import dataset_named
from qzoo.schema.optimize import OptimizeSpec
from qzoo.schema.reading.catalog import Catalog
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import resolve


@dataclass(frozen=True)
class Measured:
    """The figures that a receipt holds, float beside quantized.

    Attributes:
        dataset: its name in recipes.
        split: which images of it.
        images: how many.
        complete: whether these are all that published figures are measured on.
        float_top1: the top-1 of the float model, in percent; None without labels.
        float_top5: the top-5 of the float model, in percent; None without labels.
        top1: the top-1 of the quantized model, in percent; None without labels.
        top5: the top-5 of the quantized model, in percent; None without labels.
        agreement: share of images with the same first prediction, in percent.
        date: the date of the measurement.
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
        description: the description of the variant, or else of the recipe.
        method: how input ranges were found, `percentile 99.99`.
        calibration: which images the recipe calibrates on.
        calibration_images: how many were seen.
        calibration_source: what they were.
        weights: how many weights have which quantizer: `{"8bit per-channel max": 54}`.
        activations: how many activations have which quantizer: `{"8bit per-tensor percentile 99.99": 54}`.
        float_bytes: the bytes of the float model's parameters and buffers.
        license: the license of the weights, by the hub's short name; None where it is not known.
        base_model: repository of the float weights on the hub, if they lie there.
        repo: `owner/repo`; None where it is not known yet.
        measured: the figures; None without a receipt.
        published: claims for the variant.
        published_float: claims for the base.
        training: how it was trained; None where calibration alone made it.
        exports: its ONNX files.
        optimize: the steps that changed its weights after calibration; None where there were none.
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
    optimize: OptimizeSpec | None = None
    calibration_source: Source = "images"


def address(facts: CardFacts) -> str:
    """Returns what to type for the model: its repository, or a folder of its name while there is none."""
    return f"hf-hub:{facts.repo}" if facts.repo else f"./{facts.manifest.name}"


def verify_command(facts: CardFacts) -> str:
    """Returns the command that recomputes the predictions behind the quantized model's figures."""
    return f"qzoo verify {address(facts)}{dataset_named(facts.config.dataset).data_option}"


def reproduce_command(facts: CardFacts) -> str:
    """Returns the command that calibrates and measures anew: by the recipe's name, if qzoo has this very recipe."""
    manifest = facts.manifest
    name = f"{manifest.base} --only {manifest.variant}" if _is_shipped(facts) else address(facts)
    stage = " --stage all" if facts.training else ""
    return f"qzoo reproduce {name}{stage}{dataset_named(facts.config.dataset).data_option}"


def where(measured: Measured) -> str:
    """Returns what figures were measured on: `500 images of ImageNet-1k val`."""
    every = "all " if measured.complete else ""
    dataset = dataset_named(measured.dataset).title
    return f"{every}{measured.images:,} images of {plain(dataset)} {plain(measured.split)}"


def formats(kinds: Iterable[str]) -> list[str]:
    """Returns the number formats among kinds of quantizers, each once.

    Example:
        >>> formats(["narrow 4bit per-channel max", "8bit per-tensor mse", "e4m3 per-tensor max"])
        ['int4', 'int8', 'fp8']
    """
    found = [re.search(r"\b(\d+)bit\b", kind) for kind in kinds]
    return list(dict.fromkeys(f"int{bits[1]}" if bits else "fp8" for bits in found))


def _is_shipped(facts: CardFacts) -> bool:
    try:
        entry = Catalog([environment.packaged()]).recipes.get(facts.manifest.base)
        return entry is not None and resolve(entry, facts.manifest.variant).digest == facts.manifest.recipe_sha256
    except QzooError:
        return False  # it has no such variant
