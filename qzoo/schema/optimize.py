"""The `optimize` block: what happens after calibration and before evaluation. It changes weights, never code."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_serializer, model_validator

from qzoo.schema.model import StrictModel, checked_fields

Share = Annotated[float, Field(ge=0, le=1)]
Method = Literal["nearest", "gptq", "gptaq", "adaround"]
Unit = Literal["layer", "block", "stage"]


class Equalize(StrictModel):
    """Cross-layer equalization (arXiv 1906.04721)."""

    iterations: int = Field(default=20, ge=1, le=1000)
    """Passes over all pairs, at most; it ends where nothing moves any more."""
    absorb_bias: bool = True
    """Move what is always positive behind a ReLU from one bias to the next."""


class Smooth(StrictModel):
    """Migrates the range of activations into the weights that read them (SmoothQuant, arXiv 2211.10438)."""

    alpha: Share | Literal["search"] = 0.5
    """How much: 0 leaves the activations alone, 1 the weights; `search`: whichever of a grid has the least error."""


class Ridge(StrictModel):
    """Moves weights against the error of quantized activations, in closed form (ERQ, arXiv 2407.06794)."""

    strength: float = Field(default=1.0, gt=0)
    """The weight of the ridge, relative to the mean of the diagonal of what is solved."""


class LearnedRounding(StrictModel):
    """What learning to round takes, of single layers (AdaRound) and of whole blocks alike."""

    iterations: int = Field(default=2000, ge=1, le=1_000_000)
    """Steps a unit."""
    batch_size: int = Field(default=32, ge=1)
    """Images a step."""
    lr: float = Field(default=1e-2, gt=0)
    """The learning rate of Adam, for the rounding: ten times that of the papers, for a tenth of their steps."""
    regularizer: float = Field(default=0.01, ge=0)
    """The weight of what drives each rounding to one of its two sides."""
    beta: tuple[float, float] = (20.0, 2.0)
    """The exponent of the regularizer, from the end of the warmup to the end."""
    warmup: float = Field(default=0.2, ge=0, lt=1)
    """The share of the steps before the regularizer sets in."""

    @model_validator(mode="before")
    @classmethod
    def _list_is_a_pair(cls, value: Any) -> Any:
        if isinstance(value, dict) and isinstance(value.get("beta"), list):
            return value | {"beta": tuple(float(one) for one in value["beta"])}
        return value


class Round(LearnedRounding):
    """How the weights of each layer are rounded."""

    method: Method = "nearest"
    """Each layer for itself by `gptq` or `adaround`; by `gptaq` in turn, so that products are the float model's."""
    damping: float = Field(default=0.01, gt=0)
    """For `gptq` and `gptaq`: what is added to the diagonal of the Hessian, relative to its mean."""
    block: int = Field(default=128, ge=1)
    """For both: how many columns are rounded before the rest is corrected."""
    order: Literal["diagonal", "given"] = "diagonal"
    """For both: columns of large Hessian diagonal first, or as they lie."""

    @model_validator(mode="after")
    def _fields_are_of_the_method(self) -> Round:
        closed = {"damping", "block", "order"}
        of = {"gptq": closed, "gptaq": closed, "adaround": set(LearnedRounding.model_fields)}
        known = of.get(self.method, set()) | {"method"}
        if odd := sorted(self.model_fields_set - known):
            raise ValueError(f"`{odd[0]}` says nothing of `{self.method}`: leave it out, or choose another method")
        return self


class Reconstruct(LearnedRounding):
    """Learns the rounding and the ranges of a whole unit at a time (BRECQ, arXiv 2102.05426; QDrop, arXiv 2203.05740).

    Example:
        >>> Reconstruct(iterations=20_000).unit
        'block'
    """

    unit: Unit = "block"
    """What is learned together."""
    drop: Share = 0.5
    """The probability that an element of an activation is left in float, in a step."""
    learn_ranges: bool = True
    """Learn the ranges of activations too (LSQ)."""
    range_lr: float = Field(default=1e-3, gt=0)
    """The learning rate of Adam for ranges, relative to the range that was calibrated, along half a cosine to 0."""
    targets: Literal["float", "own"] = "float"
    """What the unit is to give: what the float model has there, or what the float unit makes of its quantized input."""


def _in_a_word(name: str, accepted: Any) -> BeforeValidator:
    """Reads `true` as a step with its defaults, `false` as none, and a word or number as its most important field.

    Args:
        name: of that field.
        accepted: all that may be written, for the schema that editors read.
    """

    def read(value: Any) -> Any:
        if isinstance(value, bool):
            return {} if value else None
        return {name: value} if isinstance(value, str | int | float) else value

    return BeforeValidator(read, json_schema_input_type=accepted)


class _Steps(StrictModel):
    """What a list of steps, and what a recipe says of one, have in common."""

    fold: bool | None = None
    """Fold batch norm into the convolution before it, by value: what a runtime does before it quantizes."""
    equalize: Annotated[Equalize | None, _in_a_word("iterations", bool | int | Equalize)] = None
    """`true`, or fields."""
    smooth: Annotated[Smooth | None, _in_a_word("alpha", bool | Share | Literal["search"] | Smooth)] = None
    """`true`, an alpha such as 0.5, `search`, or fields."""
    norm_outputs: bool | None = None
    """Give all channels that a norm makes one range (RepQ-ViT, arXiv 2212.08254)."""
    ridge: Annotated[Ridge | None, _in_a_word("strength", bool | float | Ridge)] = None
    """`true`, a strength, or fields."""
    round: Annotated[Round | None, _in_a_word("method", bool | Method | Round)] = None
    """`nearest`, `gptq`, `gptaq`, `adaround`, or fields such as {method: gptq, damping: 0.1}."""
    reconstruct: Annotated[Reconstruct | None, _in_a_word("unit", bool | Unit | Reconstruct)] = None
    """`true`, a unit, or fields."""
    correct_bias: Literal["empirical", "analytic"] | bool | None = None
    """Take the mean error out of biases: measured on the images (`true`, `empirical`), or from batch norm."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """The seed of the order of images and of what is dropped."""


STEPS = ("fold", "equalize", "smooth", "norm_outputs", "ridge", "round", "reconstruct", "correct_bias")
"""In the order in which they are done, whatever the order in the recipe."""
BEFORE_RANGES = ("fold", "equalize", "smooth", "norm_outputs")
"""Those that leave the float function as it is, and move ranges: what is calibrated is the model after them."""
AFTER_RANGES = tuple(step for step in STEPS if step not in BEFORE_RANGES)
"""Those that need ranges."""


@checked_fields
class OptimizeSpec(_Steps):
    """The steps of a variant.

    Example:
        >>> OptimizeSpec.model_validate({"round": "gptq", "correct_bias": True}).steps
        ['round', 'correct_bias']
    """

    @model_validator(mode="after")
    def _says_something(self) -> OptimizeSpec:
        if not self.steps:
            raise ValueError(f"an `optimize` block needs one of {', '.join(STEPS)}")
        return self

    @property
    def steps(self) -> list[str]:
        """What is done, in order."""
        return [name for name in STEPS if getattr(self, name)]

    @property
    def moves_ranges(self) -> bool:
        """Whether a step changes what activations are, so that ranges have to be found after it."""
        return any(getattr(self, name) for name in BEFORE_RANGES)


class OptimizePatch(_Steps):
    """What a variant says of its steps; what it leaves out is as along its `from` chain, or not done.

    Example:
        >>> merged_steps([OptimizePatch(fold=True, seed=1), OptimizePatch(fold=False, correct_bias=True)])
        {'correct_bias': True, 'seed': 1}
    """

    @model_serializer
    def _as_said(self) -> dict[str, Any]:
        return {name: _plain(getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set}


def merged_steps(patches: Iterable[OptimizePatch]) -> dict[str, Any]:
    """Returns the steps that are done, the last of the patches winning step by step, and their seed."""
    said: dict[str, Any] = {}
    for patch in patches:
        said |= patch.model_dump()
    return {name: said[name] for name in sorted(said) if said[name] is not None and said[name] is not False}


def _plain(value: Any) -> Any:
    return value.model_dump(exclude_unset=True) if isinstance(value, StrictModel) else value


def step_rows(spec: OptimizeSpec) -> list[tuple[str, str]]:
    """Returns the steps as pairs of words, in the order in which they are done.

    Example:
        >>> step_rows(OptimizeSpec.model_validate({"round": "gptq", "fold": True}))
        [('fold', 'yes'), ('round', 'gptq, damping 0.01, blocks of 128 columns, order: diagonal')]
    """
    return [(name, _words(getattr(spec, name))) for name in spec.steps]


def _words(step: Any) -> str:
    if isinstance(step, Round):
        return f"{step.method}{_of_method(step)}"
    if isinstance(step, Reconstruct):
        ranges = f"ranges learned at {step.range_lr:g}" if step.learn_ranges else "ranges as calibrated"
        return f"by {step.unit}{_learning(step)}, drop {step.drop:g}, {ranges}, targets: {step.targets}"
    if isinstance(step, StrictModel):
        return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in step.model_dump().items())
    return "yes" if step is True else str(step)


def _of_method(step: Round) -> str:
    if step.method == "gptq":
        return f", damping {step.damping:g}, blocks of {step.block} columns, order: {step.order}"
    return _learning(step) if step.method == "adaround" else ""


def _learning(step: LearnedRounding) -> str:
    return (
        f", {step.iterations:,} steps of {step.batch_size} images, learning rate {step.lr:g}, regularizer "
        f"{step.regularizer:g}"
    )
