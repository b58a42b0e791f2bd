"""Datasets of one's own: whatever has a length and gives an image and a label at an index, by a name for recipes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from qzoo.arguments import checked
from qzoo.data.augmentation import Augmentation
from qzoo.data.lookup import Reader, add_dataset
from qzoo.data.split import LABEL_KEYS
from qzoo.errors import ArgumentError, DataError, did_you_mean, shown
from qzoo.schema.datasets import DATASETS, OWN_DATASETS, Dataset

IMAGE_KEYS = ("image", "img")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}")


@dataclass(frozen=True)
class PairSplit:
    """A split that a dataset of torch or torchvision, a list, or one of the hub's `datasets` holds.

    Attributes:
        dataset: its name.
        name: the name of the split.
        pairs: gives `(image, label)`, or a dict with `image` or `img` and `label`, at each index.
        classes: the name of each class.
        complete: it is all there is.
    """

    dataset: str
    name: str
    pairs: Any
    classes: Sequence[str] = ()
    complete: bool = True

    def __len__(self) -> int:
        return len(self.pairs)

    @cached_property
    def labels(self) -> Tensor:
        """The label of each image, int64 `(len,)`: what the dataset says as `targets`, else read one by one.

        Raises:
            DataError: one is no whole number from 0.
        """
        said = getattr(self.pairs, "targets", None)
        values = said if said is not None and len(said) == len(self) else [self._pair(n)[1] for n in range(len(self))]
        try:
            labels = torch.as_tensor(values)
        except (TypeError, ValueError, RuntimeError):
            labels = torch.empty(0, 0)  # texts, or tensors of several values
        if labels.is_floating_point() or labels.dim() != 1 or bool((labels < 0).any()):
            raise DataError(f"A label of {self.dataset} {self.name} is no whole number from 0. Give class indices.")
        return labels.long()

    def batch(self, indices: Sequence[int], transform: Any) -> Tensor:
        """Returns the images, float32 `(len(indices), C, H, W)`: transformed, unless the dataset gives float tensors.

        Raises:
            DataError: it does not give an image and a label.
        """
        return torch.stack([self._ready(index, transform) for index in indices])

    def content(self, index: int) -> bytes:
        """Returns the pixels."""
        image = self._pair(index)[0]
        return image.tobytes() if isinstance(image, Image.Image) else np.asarray(image).tobytes()

    def image(self, index: int) -> Image.Image | None:
        """Returns one image, RGB; None where the dataset gives what is no image to look at, such as a float tensor."""
        image = self._pair(index)[0]
        return image.convert("RGB") if isinstance(image, Image.Image) else None

    def _ready(self, index: int, transform: Any) -> Tensor:
        image = self._pair(index)[0]
        if isinstance(image, Tensor) and image.is_floating_point():
            return image
        made: Tensor = transform(image, index) if isinstance(transform, Augmentation) else transform(image)
        return made

    def _pair(self, index: int) -> tuple[Any, Any]:
        item = self.pairs[index]
        if isinstance(item, Mapping):
            keys = [next((key for key in known if key in item), None) for known in (IMAGE_KEYS, LABEL_KEYS)]
            item = tuple(item.get(key) for key in keys) if None not in keys else item
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise DataError(
                f"{self.dataset} {self.name} gives a {type(item).__name__} at {index}; expected (image, label), or a "
                "dict with `image` and `label`."
            )
        return item[0], item[1]


@checked
def register_dataset(
    name: str,
    splits: Mapping[str, Any],
    *,
    evaluated_on: str = "val",
    classes: Sequence[str] = (),
    replace: bool = False,
) -> None:
    """Makes a dataset of one's own known by a name, for as long as the process runs: `dataset: NAME` in a recipe.

    On the command line, the file that `--model` names can call it.

    Args:
        name: letters, digits and `_.-`, at most 100 signs.
        splits: by name, `{"train": ..., "val": ...}`: what has a length and gives `(image, label)` at an index, as
            torch's and torchvision's datasets do, or a dict with `image` and `label`. The transform of the model is
            applied to images; float tensors `(C, H, W)` are taken as they are.
        evaluated_on: the split that accuracy is measured on.
        classes: the name of each class.
        replace: put it in the place of what was registered by that name.

    Raises:
        ArgumentError: the name is taken or is none, or a split is no such thing.

    Example:
        >>> grey = torch.full((1, 8, 8), 128, dtype=torch.uint8)
        >>> register_dataset("grey", {"train": [(grey, 0)], "val": [(grey, 1)]})
        >>> from qzoo.data import open_split
        >>> open_split("grey", "val").labels
        tensor([1])
    """
    if not _NAME.fullmatch(name):
        raise ArgumentError(
            f"register_dataset() got name={shown(name)!r}; expected letters, digits and _.-, such as 'flowers'."
        )
    if name in DATASETS or (name in OWN_DATASETS and not replace):
        hint = "" if name in DATASETS else ", or say replace=True"
        raise ArgumentError(f"There is a dataset '{name}' already. Give this one another name{hint}.")
    if evaluated_on not in splits:
        raise ArgumentError(
            f"register_dataset() got evaluated_on='{evaluated_on}', which is no split. "
            f"{did_you_mean(evaluated_on, splits)}"
        )
    for split, pairs in splits.items():
        if not hasattr(pairs, "__len__") or not hasattr(pairs, "__getitem__"):
            raise ArgumentError(
                f"The split '{split}' of {name} is of type {type(pairs).__name__}; expected what has a length and "
                "gives (image, label) at an index."
            )
    sizes = {split: len(pairs) for split, pairs in splits.items()}
    record = Dataset(name, name, sizes, evaluated_on, needs_data=False)
    add_dataset(record, Reader(partial(_split, name, dict(splits), tuple(classes))))


def _split(dataset: str, splits: Mapping[str, Any], classes: Sequence[str], split: str, data: Path | None) -> PairSplit:
    return PairSplit(dataset, split, splits[split], classes)
