"""What every source of base models hands over."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor, nn


@dataclass(frozen=True)
class BaseModel:
    """A float model as its library made it.

    Attributes:
        model: with weights, if they were requested.
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
        mean: the mean of each channel, for pixels in 0..1.
        std: standard deviation of each channel.
        interpolation: the interpolation of a resize: `bilinear`, `bicubic` ...
    """

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class WeightsFacts:
    """What a library says of a base's weights, without loading them.

    Attributes:
        library: its name and version.
        tag: its name for the weights; None if it has none for this architecture.
        files: what the weights' file may be called.
        path: the path of the file, where it is on this machine.
        sha256: the first digits that stand in the file's name, if they do.
        top1: the accuracy that the library itself states, in percent.
    """

    library: str
    tag: str | None
    files: tuple[str, ...]
    path: Path | None
    sha256: str | None = None
    top1: float | None = None


@dataclass(frozen=True)
class BaseCard:
    """What a library says of a base that a model card tells.

    Attributes:
        license: the license of the weights, by the hub's short name; None where it is not known.
        classes: the name of each class; empty where they are not known.
        hub_repo: where the weights lie on the hub, if they do.
    """

    license: str | None
    classes: tuple[str, ...]
    hub_repo: str | None = None
