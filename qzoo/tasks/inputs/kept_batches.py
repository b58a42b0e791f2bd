"""Batches that are iterated over again and again: kept in files, so that images are decoded and transformed once."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map, tree_unflatten

from qzoo.errors import DataError
from qzoo.progress import Progress
from qzoo.quant.inputs import batch_size, to_device
from qzoo.tasks.inputs.batches import ToInputs, as_batches
from qzoo.weights.artifact import content_digest


class KeptBatches:
    """The inputs of a model, batch by batch, as often as one likes; on the model's device.

    A batch is read from its file when its turn comes, so memory holds one at a time.

    Attributes:
        images: how many all batches hold.
    """

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._folder, self._device = folder, device
        self._kept: list[tuple[list[Any], TreeSpec]] = []
        self.images, self._digest = 0, hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of all tensors, batch by batch."""
        return self._digest.hexdigest()

    def add(self, inputs: Any) -> None:
        """Keeps one batch: a tensor, a tuple of arguments, or a dict of them by name."""
        leaves, tree = tree_flatten(inputs)
        # A tensor that is given twice is two in the file.
        tensors = {str(n): leaf.detach().cpu().clone() for n, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
        tensors = {n: leaf.contiguous() for n, leaf in tensors.items()}
        save_file(tensors, self._file(len(self._kept)))
        self._digest.update(content_digest(tensors).encode())
        rest = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._kept.append((rest, tree))
        self.images += batch_size(inputs)

    def __iter__(self) -> Iterator[Any]:
        for position, (rest, tree) in enumerate(self._kept):
            with safe_open(self._file(position), framework="pt") as file:
                tensors = {int(n): file.get_tensor(n) for n in file.keys()}  # noqa: SIM118
            leaves = [tensors.get(n, leaf) for n, leaf in enumerate(rest)]
            yield to_device(tree_unflatten(leaves, tree), self._device)

    def _file(self, position: int) -> Path:
        return self._folder / f"{position}.safetensors"


@contextmanager
def kept_batches(
    images: Any, device: torch.device, to_inputs: ToInputs, progress: Progress, count: int | None,
    most: int | None = None,
) -> Iterator[KeptBatches]:  # fmt: skip
    """Yields the batches of any iterable, kept in a temporary folder for the time of the context.

    Args:
        images: batches, as for `as_batches`; iterated over once.
        device: where the batches are wanted.
        to_inputs: as for `as_batches`.
        progress: shown the batches as they are read.
        count: how many images there are, if known.
        most: how many images are kept, the first; default: all.

    Raises:
        DataError: there are none, or one is no batch.
    """
    with tempfile.TemporaryDirectory(prefix="qzoo-batches-") as folder:
        kept = KeptBatches(Path(folder), device)
        for batch in progress(as_batches(images, torch.device("cpu"), to_inputs), count, "reading images"):
            kept.add(batch.inputs if most is None else _cut(batch.inputs, most - kept.images))
            if kept.images == most:
                break
        if not kept.images:
            raise DataError("There is no image. Give at least one batch; about a thousand images serve.")
        yield kept


def _cut(inputs: Any, most: int) -> Any:
    return tree_map(lambda leaf: leaf[:most] if isinstance(leaf, Tensor) else leaf, inputs)
