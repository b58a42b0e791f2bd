"""Whatever holds images, as batches on the model's device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.errors import DataError


def as_batches(images: Any, device: torch.device) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yields `(x, y)` from any iterable of `x` or `(x, y)`; `y` is None where there are no labels.

    Args:
        images: one float tensor `(N, C, H, W)`, or an iterable of such tensors or of pairs of one and labels `(N,)`.
        device: where both are moved.

    Raises:
        DataError: an item is neither a tensor nor a pair that begins with one.
    """
    if not isinstance(images, Tensor | Iterable):
        raise DataError(f"The images are {images!r}; expected an iterable of tensors (N, C, H, W), or one such tensor.")
    items: Iterable[Any] = [images] if isinstance(images, Tensor) else images
    for position, item in enumerate(items):
        parts = [*item, None] if isinstance(item, (tuple, list)) and item else [item, None]
        x, y = parts[:2]
        if not isinstance(x, Tensor):
            raise DataError(
                f"Item {position} of the images is {type(item).__name__}; "
                "expected tensors (N, C, H, W), or pairs of one and labels (N,)."
            )
        if not x.is_floating_point():
            kind = str(x.dtype).removeprefix("torch.")
            raise DataError(f"Item {position} of the images is {kind}; expected floats, already transformed.")
        if y is not None and len(y) != len(x):
            raise DataError(f"Item {position} has {len(x)} images but {len(y)} labels.")
        yield x.to(device, non_blocking=True), None if y is None else torch.as_tensor(y).to(device)


def device_of(model: nn.Module) -> torch.device:
    """Returns where the model's first parameter or buffer lies; the CPU for a model without any."""
    first = next(chain(model.parameters(), model.buffers()), None)
    return torch.device("cpu") if first is None else first.device
