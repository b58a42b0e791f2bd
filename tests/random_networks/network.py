"""A whole random network: a stem, a few parts, and a classifier."""

from __future__ import annotations

import random
from collections.abc import Callable
from random import Random

import torch
from torch import Tensor, nn

from tests.natural_images import natural_images
from tests.random_networks import convolutions, tokens, weights

CLASSES = 10
SIZE = 16
PARTS: dict[str, Callable[[Random, int, int], nn.Module]] = {
    "unit": lambda chance, channels, size: convolutions.unit(chance, channels, channels),
    "functional": lambda chance, channels, size: convolutions.Functional(chance, channels),
    "residual": lambda chance, channels, size: convolutions.Residual(chance, channels),
    "squeeze-excite": lambda chance, channels, size: convolutions.SqueezeExcite(chance, channels),
    "branches": lambda chance, channels, size: convolutions.Branches(chance, channels),
    "attention": tokens.attention,
    "feed-forward": tokens.feed_forward,
    "encoder": tokens.encoder,
    "recurrent": tokens.recurrent,
    "shared": lambda chance, channels, size: weights.Shared(chance, channels),
    "weight on tokens": lambda chance, channels, size: weights.OnTokens(chance, channels),
    "weight on maps": lambda chance, channels, size: weights.OnMaps(chance, channels),
}  # fmt: skip
FREQUENT = ("unit", "residual", "residual", "branches", "attention", "attention")
HEADS = ("adaptive", "mean", "amax", "first token", "flat")


class Network(nn.Module):
    """Maps images `(N, 3, 16, 16)` to logits `(N, 10)`."""

    def __init__(self, chance: Random) -> None:
        super().__init__()
        channels = chance.choice([4, 8, 8, 12])
        self.stem = nn.Sequential(
            nn.Conv2d(3, channels, chance.choice([2, 4]), stride=chance.choice([2, 4])), convolutions.norm(chance, channels)
        )  # fmt: skip
        names = [chance.choice([*PARTS, *FREQUENT]) for _ in range(chance.choice([1, 1, 2]))]
        size, self.parts = self.stem(torch.zeros(1, 3, SIZE, SIZE)).shape[-1] ** 2, nn.Sequential()
        for place, name in enumerate(names):
            self.parts.add_module(f"{place} {name}".replace(" ", "_"), PARTS[name](chance, channels, size))
        self.pool = convolutions.pooling(chance, channels) if chance.random() < 0.5 else nn.Identity()
        self.head = chance.choice(HEADS)
        self.adaptive = nn.AdaptiveAvgPool2d(1) if self.head == "adaptive" else nn.Identity()
        self.classifier = nn.Linear(self._features(torch.zeros(2, channels, *[int(size**0.5)] * 2)).shape[1], CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self._features(self.parts(self.stem(x))))  # type: ignore[no-any-return]

    def _features(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        if self.head == "adaptive":
            return self.adaptive(x).flatten(1)  # type: ignore[no-any-return]
        if self.head == "mean":
            return x.mean((2, 3))
        if self.head == "amax":
            return x.amax((2, 3))
        return x.flatten(2)[..., 0] if self.head == "first token" else x.flatten(1)

    def extra_repr(self) -> str:
        return self.head


def random_network(seed: int) -> tuple[nn.Module, Tensor]:
    """Returns a network in evaluation mode, and an example of its input; both the same for a seed.

    Weights are random, statistics of batch norms those of random images.

    Args:
        seed: any number.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Network(random.Random(seed))
        _see_images(network)
        return network.eval(), natural_images(2, SIZE, seed)


def _see_images(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # the statistics of all images seen, and of no others
    with torch.no_grad():
        network.train()(natural_images(16, SIZE, 1))
