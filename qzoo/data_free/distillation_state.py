"""Where a distillation is: pixels, what Adam remembers, statistics; and as a file from which it goes on bit for bit."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from qzoo.errors import WeightsError
from qzoo.weights.artifact import ArtifactInfo, read_artifact, write_artifact
from qzoo.weights.kinds import Kind

DISTILLATION = Kind("distillation", largest=50_000_000_000, remedy="Delete it: images are distilled anew.")
FILE = f"images{DISTILLATION.suffix}"
"""The name of the file in its folder."""
BETAS = (0.5, 0.9)
"""How long Adam remembers gradients, and their squares: a few steps, since there are few."""
TINY = 1e-12
"""Added to the root of squares by Adam: gradients of pixels are small."""


class DistillationInfo(ArtifactInfo):
    """What such a file says of itself: all that the result depends on."""

    objective: str
    """What is aimed at, with every setting of it."""
    images: int = Field(ge=1)
    steps: int = Field(ge=0)
    lr: float
    smooth: float
    seed: int = Field(ge=0)
    size: int = Field(ge=1)
    mean: tuple[float, ...]
    std: tuple[float, ...]
    threads: int
    """Sums of floats depend on how threads share them."""


@dataclass
class DistillationState:
    """A distillation after some of its steps.

    Attributes:
        pixels: float32 `(N, C, H, W)` in 0..1.
        gradients: mean of gradients, as Adam weighs it, in the shape of the pixels.
        squares: mean of squared gradients, likewise.
        statistics: of each of the objective's statistics those of every chunk, float32 `(chunks, ...)`.
        losses: the loss of each step so far.
    """

    pixels: Tensor
    gradients: Tensor
    squares: Tensor
    statistics: list[Tensor]
    losses: list[float]

    def step(self, rows: slice, gradient: Tensor, lr: float) -> None:
        """Moves the pixels of some images by a step of Adam, and keeps them within 0..1.

        Args:
            rows: which images.
            gradient: of their pixels.
            lr: how far a pixel moves at most, about.

        Source: D. P. Kingma and J. Ba 2015, "Adam: A Method for Stochastic Optimization" (arXiv 1412.6980),
        algorithm 1.
        """
        made, (short, long) = len(self.losses) + 1, BETAS
        mean = self.gradients[rows].lerp_(gradient, 1 - short) / (1 - short**made)
        square = self.squares[rows].lerp_(gradient.square(), 1 - long) / (1 - long**made)
        self.pixels[rows].addcdiv_(mean, square.sqrt_().add_(TINY), value=-lr).clamp_(0, 1)


def save_state(folder: Path, state: DistillationState, info: DistillationInfo) -> None:
    """Writes a state into a folder; the one before is replaced in one step."""
    tensors = {"pixels": state.pixels, "gradients": state.gradients, "squares": state.squares}
    tensors |= {f"statistics.{place}": one for place, one in enumerate(state.statistics)}
    tensors["losses"] = torch.tensor(state.losses, dtype=torch.float64)
    write_artifact(folder / FILE, DISTILLATION, tensors, info)


def load_state(folder: Path, info: DistillationInfo, device: torch.device) -> DistillationState | None:
    """Returns the state in a folder; None where there is none, or one of other settings or weights, or a broken one."""
    with contextlib.suppress(WeightsError):
        found, said = read_artifact(folder / FILE, DISTILLATION, DistillationInfo)
        if said == info:
            losses = found.pop("losses").tolist()
            found = {key: tensor.to(device) for key, tensor in found.items()}
            statistics = [found[f"statistics.{place}"] for place in range(len(found) - 3)]
            return DistillationState(found["pixels"], found["gradients"], found["squares"], statistics, losses)
    return None
