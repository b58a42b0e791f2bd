"""What every source of base models hands over."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class BaseModel:
    """A float model as its library made it.

    Attributes:
        model: with weights, if they were asked for.
        old_head: the classifier's tensors in the weights file, where the model got a new one by `num_classes`; they
            are not in the model, but belong to the identity of its weights.
    """

    model: nn.Module
    old_head: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class InputFormat:
    """What a base expects of its input, as its weights say.

    Attributes:
        size: height and width.
        mean: of each channel, for pixels in 0..1.
        std: likewise.
        interpolation: of a resize: `bilinear`, `bicubic` ...
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
