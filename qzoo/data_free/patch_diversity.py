"""The objective of images for transformers, which have no batch norm: patches that attention tells apart.

What attention gives for the patches of a photograph is alike within an object and unlike between objects; for noise
all is alike. So the similarities of patches are spread widely, and their distribution has a high entropy:

    S    = cosine similarities of all pairs of patches, of what attention gives in a block
    f(t) = mean over pairs of N(t; s, BANDWIDTH ** 2)          a kernel density estimate, at POINTS places
    H    = -integral of f(t) log f(t) dt
    loss = mean of (log(width) - H) over blocks and images    0 where all similarities are equally frequent

Source: Z. Li et al. 2022, "Patch Similarity Aware Data-Free Quantization for Vision Transformers" (PSAQ-ViT,
arXiv 2203.02250), equations 6 to 9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.quant.operators.composite import OperatorMode
from qzoo.quant.operators.spellings import MOVES, operator_name

BANDWIDTH = 0.05
"""Of the density estimate, in units of similarity."""
POINTS, WIDTH = 64, 2 * (1 + 4 * BANDWIDTH)
"""How many places a density is estimated at, and how wide these lie: beyond -1 and 1, so that no kernel is cut off."""
MOST_PATCHES = 64
"""Patches of an image whose pairs are looked at; of more, evenly spaced ones."""


class PatchDiversity:
    """How diverse the patches of images are to each attention; see `objective.Objective`.

    Args:
        model: a transformer, in evaluation mode when it is used.
    """

    name = f"patch diversity, bandwidth {BANDWIDTH}, points {POINTS}, patches {MOST_PATCHES}"

    def __init__(self, model: nn.Module) -> None:
        self.model = model

    def statistics(self, x: Tensor) -> list[Tensor]:
        """Returns the entropy at each attention, the mean over images: a number each, none without attention."""
        attended = _Attended()
        with attended:
            self.model(x)
        return [similarity_entropy(one).mean() for one in attended.outputs]

    def loss(self, statistics: Sequence[Tensor]) -> Tensor:
        """Returns the loss, at least 0: the less, the more diverse patches are."""
        return math.log(WIDTH) - torch.stack(list(statistics)).mean()


def similarity_entropy(patches: Tensor) -> Tensor:
    """Returns the differential entropy of the similarities between patches, in nats.

    Args:
        patches: `(n, patches, features)`.

    Returns:
        `(n,)`.
    """
    chosen = patches[:, :: math.ceil(patches.shape[1] / MOST_PATCHES)]
    unit = nn.functional.normalize(chosen, dim=2)
    one, other = torch.triu_indices(chosen.shape[1], chosen.shape[1], 1, device=patches.device)
    density = kernel_density((unit @ unit.transpose(1, 2))[:, one, other])
    # Where no kernel reaches the density is 0, at which entropy has no gradient.
    density = density.clamp(min=torch.finfo(density.dtype).tiny)
    return -(density * density.log()).mean(1) * WIDTH


def kernel_density(values: Tensor) -> Tensor:
    """Returns an estimate of the density of values at `POINTS` places, evenly spaced from below -1 to above 1.

    Args:
        values: `(n, values)`, from -1 to 1.

    Returns:
        `(n, POINTS)`, whose mean times the width is about 1.
    """
    cells = torch.arange(POINTS, device=values.device, dtype=values.dtype) + 0.5
    places = (cells / POINTS - 0.5) * WIDTH
    distance = (places[:, None] - values[:, None]) / BANDWIDTH
    return (-distance.square() / 2).exp().mean(2) / (BANDWIDTH * math.sqrt(2 * math.pi))


class _Attended(OperatorMode):
    """Notes what each attention gives, `(n, patches, features)`: torch's own, or a softmax that multiplies values."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[Tensor] = []
        # Weights of attention; kept, since a tensor that were freed could lend its id to the next.
        self.weights: dict[int, Tensor] = {}

    def evaluated(self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result, name = func(*args, **kwargs), operator_name(func)
        of_weights = bool(args) and id(args[0]) in self.weights
        # Talking heads mix the weights of attention by a linear layer.
        if name == "softmax" or (of_weights and (name in MOVES or name == "linear")):
            self.weights[id(result)] = result
        elif (name == "sdpa" or (name == "matmul" and of_weights)) and _has_patches(result):
            self.outputs.append(_by_patch(result))
        return result


def _has_patches(attended: Tensor) -> bool:
    """Whether attention gives several patches, and not one token that stands for the image."""
    return attended.dim() >= 3 and attended.shape[-2] > 2


def _by_patch(attended: Tensor) -> Tensor:
    """Returns `(n, patches, features)` of `(..., heads, patches, features)`, or of a head an image."""
    if attended.dim() == 3:
        return attended
    return attended.flatten(0, -4).transpose(1, 2).flatten(2)
