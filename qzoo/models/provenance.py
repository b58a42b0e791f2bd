"""What a model remembers of how it was made. It travels with copies and files, and is no part of the state dict."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from torch import Tensor, nn

from qzoo.quant.layers import QuantizedLayer
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.calibration import Source
from qzoo.schema.recipe import Base
from qzoo.schema.resolution.plan import PlannedQuantizer
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.weights.rounding import CodeFormat

_ATTRIBUTE = "_qzoo_provenance"
_IN_FLOAT = "_qzoo_in_float"


@dataclass(frozen=True)
class Optimized:
    """What makes the weights of an optimized model of those of its float base.

    Attributes:
        base_sha256: the digest of the base's weights.
        tensors: what a rounding file holds of them, see `weights.rounding`.
        formats: how to read the codes of each weight.
        output_axis: of each weight that has factors, the axis of its output channels.
        sha256: the digest of the model's own weights; they were changed again where it differs.
        grids_sha256: the digest of the ranges of its weights.
    """

    base_sha256: str
    tensors: dict[str, Tensor]
    formats: dict[str, CodeFormat]
    output_axis: dict[str, int]
    sha256: str = ""
    grids_sha256: str = ""


@dataclass(frozen=True)
class Provenance:
    """How a model was made.

    Attributes:
        base: None for a user's own model.
        keywords: what its constructor was given, as text.
        old_head: digests of the classifier's tensors in the weights file, where the model got another classifier.
        variant: None for a float model.
        quantizers: the quantizers of each quantized layer, by path and role.
        operators: by the path of a quantizer at an operator, the name of the class whose forward evaluates that.
        left_float: paths of the layers with weights that the plan left in float.
        planned: each quantizer of the plan, by its path.
        optimized: what makes its weights of those of the base, where steps changed them.
        ranges_from: what the ranges of its activations were made from.
    """

    base: Base | None = None
    keywords: str = ""
    old_head: dict[str, str] = field(default_factory=dict)
    variant: ResolvedVariant | None = None
    quantizers: dict[str, dict[str, TensorQuantizer]] = field(default_factory=dict)
    operators: dict[str, str] = field(default_factory=dict)
    left_float: frozenset[str] = frozenset()
    planned: dict[str, PlannedQuantizer] = field(default_factory=dict)
    optimized: Optimized | None = None
    ranges_from: Source = "images"


def provenance(model: nn.Module) -> Provenance | None:
    """Returns how a model was made, or None if qzoo did not make it."""
    return model.__dict__.get(_ATTRIBUTE)


def remember(model: nn.Module, made: Provenance) -> None:
    """Notes in the model how it was made, in place."""
    model.__dict__[_ATTRIBUTE] = made


def ranges_from(model: nn.Module) -> Source:
    """Returns what the ranges of a model's activations were made from."""
    made = provenance(model)
    return made.ranges_from if made else "images"


def note_ranges_from(model: nn.Module, source: Source) -> None:
    """Notes in the model what the ranges of its activations were made from, in place."""
    if ranges_from(model) != source:
        remember(model, replace(provenance(model) or Provenance(), ranges_from=source))


def planned_quantizers(model: nn.Module) -> dict[str, PlannedQuantizer]:
    """Returns what was planned for each quantizer, by its path, also where a planned model is a part of this one."""
    parts = [(path, made) for path, part in model.named_modules() if (made := provenance(part)) is not None]
    return {f"{path}.{own}".strip("."): one for path, made in parts for own, one in made.planned.items()}


def mark_in_float(model: nn.Module) -> None:
    """Notes in every module of a quantized model that is no quantized layer that it was there, and stayed as it was."""
    for module in model.modules():
        if not isinstance(module, QuantizedLayer):
            module.__dict__[_IN_FLOAT] = True


def stayed_in_float(module: nn.Module) -> bool:
    """Whether a module was there when the model was quantized, here or at another path, and is no quantized layer."""
    return _IN_FLOAT in module.__dict__
