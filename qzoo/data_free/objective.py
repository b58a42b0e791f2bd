"""What images are distilled towards: a function of statistics over all of them, and what images look like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Objective(Protocol):
    """A loss of what a network makes of images.

    It is a function of means over all images, so that images that go through the network a few at a time have one
    objective together.

    Attributes:
        name: says what it is, with every setting of it.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    def statistics(self, x: Tensor) -> list[Tensor]:
        """Returns means over some images, through which gradients pass to them.

        Args:
            x: the model's input, `(n, C, H, W)`.
        """

    def loss(self, statistics: Sequence[Tensor]) -> Tensor:
        """Returns the loss, a number, of the means over all images."""


def total_variation(pixels: Tensor) -> Tensor:
    """Returns the mean squared difference of neighbours, down and across: little in photographs, much in noise.

    Args:
        pixels: `(n, C, H, W)`, in 0..1.

    Source: A. Mahendran and A. Vedaldi 2015, "Understanding Deep Image Representations by Inverting Them"
    (arXiv 1412.0035), section 2.2, with beta = 2.

    Example:
        >>> import torch
        >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]]))
        tensor(0.5000)
    """
    if min(pixels.shape[2:]) < 2:
        return pixels.new_zeros(())
    down, across = pixels.diff(dim=2), pixels.diff(dim=3)
    return (down.square().mean() + across.square().mean()) / 2
