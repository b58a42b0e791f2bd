"""Whatever holds images, as batches on the model's device.

A batch has one of these forms; docs/batches.md shows them all, and what `to_inputs` is for.

- `x`, or `(x,)`: the model is called with the tensor.
- `(x, y)`: what is last of a pair are its labels, int64 `(N,)`, or None.
- `((x, x2), y)`, `((x, x2),)`: a tuple or a list in the first place holds the arguments of the model, in order.
- `{"pixel_values": x, "mask": m, "labels": y}`: a dict holds them by name; what is called `labels` or `label` are its
  labels. A dict may stand in the first place of a pair too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from qzoo.data.split import LABEL_KEYS
from qzoo.errors import DataError
from qzoo.quant.inputs import batch_size, tensors, to_device

FORMS = (
    "a tensor (N, C, H, W); (x, y) with labels y (N,); ((x, x2), y) or a dict, for models of several inputs; of "
    "anything else, to_inputs= has to make one of these"
)
INDICES = (torch.int32, torch.int64)
"""What an embedding takes; images of other whole numbers are bytes that were not transformed."""
ToInputs: TypeAlias = Callable[[Any], Any] | None
"""A function that makes of an item, whatever it is, a batch in one of the forms; None: it is one."""


class Batch(NamedTuple):
    """What a model is shown at a time.

    Attributes:
        inputs: a tensor, or the arguments of the model: a tuple, or a dict by name.
        labels: int64 `(N,)`; None where there are none.
        position: the place of the batch among all, from 0.
    """

    inputs: Any
    labels: Tensor | None
    position: int

    @property
    def images(self) -> int:
        """How many the batch holds."""
        return batch_size(self.inputs)

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"Item {self.position} of the images"


def as_batches(images: Any, device: torch.device, to_inputs: ToInputs = None) -> Iterator[Batch]:
    """Yields the batches of any iterable whose items have one of the forms above.

    Args:
        images: an iterable of batches; or one float tensor, or one dict, which is a batch itself.
        device: where all tensors are moved; arrays of NumPy become tensors.
        to_inputs: makes a batch of an item.

    Raises:
        DataError: an item is nothing of this; the item is named.
    """
    if not isinstance(images, Tensor | Iterable):
        raise DataError(f"The images are {images!r}; expected an iterable, each item {FORMS}; or one such tensor.")
    items: Iterable[Any] = [images] if isinstance(images, Tensor | Mapping) else images
    for position, item in enumerate(converted(items, to_inputs)):
        inputs, labels = _parts(item, position)
        batch = Batch(tree_map(_as_tensor, inputs), labels, position)
        found = tensors(batch.inputs)
        if not found:
            raise DataError(f"{batch.name} is {described(batch.inputs)}; expected {FORMS}.")
        for tensor in found:
            _check_tensor(tensor, batch)
        if not batch.images:
            raise DataError(f"{batch.name}, {described(batch.inputs)}, holds no image; expected at least one.")
        labels = None if batch.labels is None else _checked_labels(batch).to(device)
        yield Batch(to_device(batch.inputs, device), labels, position)


def converted(items: Iterable[Any], to_inputs: ToInputs) -> Iterator[Any]:
    """Yields what `to_inputs` makes of each item; an error that it raises goes on with a note on the item."""
    for position, item in enumerate(items):
        try:
            made = item if to_inputs is None else to_inputs(item)
        except Exception as error:
            error.add_note(f"to_inputs= was called with item {position} of the images, {described(item)}.")
            raise
        yield made


def described(inputs: Any) -> str:
    """Returns what a message says of inputs: `float32 (4, 3, 8, 8)`."""
    if isinstance(inputs, Tensor):
        shape = "(N, ...)" if inputs.is_nested else tuple(inputs.shape)
        return f"{str(inputs.dtype).removeprefix('torch.')} {shape}"
    if isinstance(inputs, (tuple, list)) and inputs:
        return ", ".join(map(described, inputs[:4])) + (", ..." if len(inputs) > 4 else "")
    if isinstance(inputs, dict) and inputs:
        return ", ".join(f"{key}: {described(value)}" for key, value in list(inputs.items())[:4])
    return type(inputs).__name__ if not isinstance(inputs, (tuple, list, dict)) else f"an empty {type(inputs).__name__}"


def _parts(item: Any, position: int) -> tuple[Any, Any]:
    if isinstance(item, Mapping):
        key = next((key for key in LABEL_KEYS if key in item), None)
        return _arguments({name: value for name, value in item.items() if name != key}), item[key] if key else None
    if not isinstance(item, (tuple, list)):
        return item, None
    if len(item) not in (1, 2):
        raise DataError(
            f"Item {position} of the images has {len(item)} elements ({described(item)}), and nothing tells which are "
            "inputs. Put the inputs together, ((x, x2), y); or say which are inputs and which labels: "
            "to_inputs=lambda item: (item[0], item[1])."
        )
    return _arguments(item[0]), item[1] if len(item) == 2 else None


def _arguments(inputs: Any) -> Any:
    if isinstance(inputs, Mapping):
        return dict(inputs)
    # A `DataLoader` makes lists of tuples.
    return tuple(inputs) if isinstance(inputs, list) else inputs


def _as_tensor(leaf: Any) -> Any:
    # A copy: what an array shares its memory with might not be written to.
    return torch.tensor(leaf) if isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biufc" else leaf


def _check_tensor(tensor: Tensor, batch: Batch) -> None:
    alone = tensor is batch.inputs
    if kind := _unusual(tensor):
        raise DataError(f"{batch.name} is {kind}, {described(tensor)}; expected an ordinary tensor, with its values.")
    if tensor.is_complex() or (alone and not tensor.is_floating_point() and tensor.dtype not in INDICES):
        raise DataError(f"{batch.name} is {described(tensor)}; expected floats, already transformed.")
    if tensor.dim() < (2 if alone else 1):
        raise DataError(f"{batch.name} has shape {tuple(tensor.shape)}; expected {FORMS}.")
    # A mask, beside the images, may well be infinite.
    if bool(tensor.isnan().any()) or (alone and bool(tensor.isinf().any())):
        raise DataError(f"{batch.name}, {described(tensor)}, holds NaN or Inf. Look at the images and their transform.")


def _unusual(tensor: Tensor) -> str | None:
    if tensor.is_meta:
        return "on the meta device"
    if isinstance(tensor, torch.masked.MaskedTensor):
        return "masked"
    if tensor.is_nested or tensor.is_quantized:
        return "nested" if tensor.is_nested else "quantized"
    return None if tensor.layout == torch.strided else str(tensor.layout)


def _checked_labels(batch: Batch) -> Tensor:
    try:
        labels = torch.as_tensor(batch.labels)
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"{batch.name} has labels of type {type(batch.labels).__name__}. {_labels_are(batch)}"
        ) from None
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.dim() != 1 or not whole or _unusual(labels):
        raise DataError(f"{batch.name} has labels {described(labels)}. {_labels_are(batch)}")
    if len(labels) != batch.images:
        raise DataError(f"{batch.name} has {batch.images} images but {len(labels)} labels.")
    labels = labels.long()  # of unsigned ones torch can't tell the least
    if labels.numel() and int(labels.min()) < 0:
        raise DataError(
            f"{batch.name} has the label {int(labels.min())}. {_labels_are(batch)} Leave out what has none."
        )
    return labels


def _labels_are(batch: Batch) -> str:
    return (
        f"Labels are whole numbers from 0, one for each of the {batch.images} images. A second input of the model "
        "stands beside the first: ((x, x2), y). What is no label is left out by to_inputs=lambda item: item[0]."
    )
