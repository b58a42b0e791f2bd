"""Recipes and schemes: what a YAML file of the zoo holds."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from qzoo.errors import did_you_mean
from qzoo.schema.finetune import FinetuneSpec
from qzoo.schema.model import StrictModel
from qzoo.schema.published import Claim
from qzoo.schema.quantizer import QuantizerField, QuantizerPatch
from qzoo.schema.rule import Rule

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.]*$")]


SHORTEST_SHA256 = 8
"""Digits of a SHA-256 that pin a file."""


class Base(StrictModel):
    """The float model: which library has it, and which weights."""

    source: Literal["torchvision", "timm", "qzoo"]
    architecture: str = Field(min_length=1)
    weights: str | None = None
    """The library's name for the weights; default: the library's default."""
    sha256: str | None = Field(default=None, pattern=rf"^[0-9a-f]{{{SHORTEST_SHA256},64}}$")
    """Of the weights file, whole or its first digits (at least 8)."""


class CalibrationSpec(StrictModel):
    """Which images a variant is calibrated on."""

    split: str = "train"
    images: int = Field(default=1024, ge=1)
    batch_size: int = Field(default=128, ge=1)
    seed: int = Field(default=0, ge=0)
    transform: Literal["eval", "train"] = "eval"
    """`train`: augmented, seeded per image."""
    binning: Literal["aligned", "reference"] = "aligned"
    """Of histograms. `reference`: the edges of NVIDIA's toolkit, with its faults, for parity."""
    allow_leak: bool = False
    """Permits calibrating on the evaluation split; every report then shows it."""


class CalibrationPatch(StrictModel):
    """What a variant changes of the recipe's calibration."""

    split: str | None = None
    images: int | None = Field(default=None, ge=1)
    batch_size: int | None = Field(default=None, ge=1)
    seed: int | None = Field(default=None, ge=0)
    transform: Literal["eval", "train"] | None = None
    binning: Literal["aligned", "reference"] | None = None
    allow_leak: bool | None = None


class ResidualPatch(QuantizerPatch):
    """Quantizers of residual additions; fields left out are those of `input`."""

    placement: Literal["skip", "both", "none"] | None = None
    """`skip`: the identity or downsample branch only; `both`: both operands."""


def _short_residual(value: Any) -> Any:
    return {"placement": value} if isinstance(value, str) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict | Claim) else value


Residual = Annotated[ResidualPatch, BeforeValidator(_short_residual, json_schema_input_type=str | ResidualPatch)]
Claims = Annotated[list[Claim], BeforeValidator(_as_list, json_schema_input_type=Claim | list[Claim])]


class Scheme(StrictModel):
    """A named, shared set of rules that variants start from."""

    description: str = ""
    rules: list[Rule] = Field(min_length=1)


class Variant(StrictModel):
    """One way of quantizing the base."""

    from_: str | None = Field(default=None, alias="from")
    """Another variant of this recipe, on which this one builds."""
    description: str | None = None
    scheme: str | None = None
    weight: QuantizerField | None = None
    """Of the layers that the scheme quantizes."""
    input: QuantizerField | None = None
    """Likewise, for layers that have weights."""
    output: QuantizerField | None = None
    """Likewise."""
    residual: Residual | None = None
    """`skip`, `both`, `none`, or fields."""
    rules: list[Rule] = Field(default_factory=list)
    calibration: CalibrationPatch | None = None
    finetune: FinetuneSpec | None = None
    published: Claims = Field(default_factory=list)


class Recipe(StrictModel):
    """A base, its dataset, and its variants. The file's stem is the base's name.

    Example:
        >>> base = Base(source="timm", architecture="resnet18")
        >>> recipe = Recipe(base=base, dataset="imagenet-1k", variants={"int8": Variant()})
        >>> recipe.scheme
        'int8'
    """

    version: int = Field(default=1, ge=1)
    """Raised whenever a change can move a number."""
    description: str = ""
    base: Base
    dataset: str = Field(min_length=1)
    calibration: CalibrationSpec = CalibrationSpec()
    published: Claims = Field(default_factory=list)
    """Of the float model."""
    scheme: str = "int8"
    """The scheme of variants that name none."""
    variants: dict[Name, Variant] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_exist(self) -> Recipe:
        for name, variant in self.variants.items():
            if variant.from_ is not None and variant.from_ not in self.variants:
                raise ValueError(
                    f"variants.{name}.from: unknown variant '{variant.from_}'. {did_you_mean(variant.from_, self.variants)}"
                )
            for claim in variant.published:
                if claim.top1_below is not None and claim.top1_below not in self.variants:
                    known = did_you_mean(claim.top1_below, self.variants)
                    raise ValueError(
                        f"variants.{name}.published.top1_below: unknown variant '{claim.top1_below}'. {known}"
                    )
            self.chain(name)
        return self

    def chain(self, name: str) -> list[str]:
        """Returns the variant's `from` chain, oldest first, the variant itself last.

        Raises:
            ValueError: the chain bites its tail.
        """
        chain = [name]
        while (parent := self.variants[chain[0]].from_) is not None and parent in self.variants:
            if parent in chain:
                raise ValueError(f"variants.{name}.from: the chain {' <- '.join([parent, *chain])} never ends")
            chain.insert(0, parent)
        return chain
