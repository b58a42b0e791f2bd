"""The datasets that recipes can name, a record each. Any other name is that of a folder of images.

What is known of a dataset without looking at it stands here, where no torch is needed. How it is read, and how its
images are augmented, stands in the module of `qzoo.data` that the record names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset.

    Attributes:
        name: as recipes have it.
        title: as people write it.
        splits: how many images each has; empty for a folder, whose splits are its own.
        evaluated_on: the split that published figures are measured on.
        module: the module of `qzoo.data` whose `READER` reads it; empty for a folder.
        needs_data: it is not inside a package, so that `--data` or `QZOO_DATA` has to say where it lies.
        hub_id: its repository on the Hugging Face hub, if it is there.
        hub_splits: what the repository calls a split, where that is another name.
    """

    name: str
    title: str
    splits: Mapping[str, int] = field(default_factory=dict)
    evaluated_on: str = "val"
    module: str = ""
    needs_data: bool = True
    hub_id: str | None = None
    hub_splits: Mapping[str, str] = field(default_factory=dict)

    @property
    def data_option(self) -> str:
        """What a command that needs its images is followed by: ` --data PATH`, or nothing."""
        return " --data PATH" if self.needs_data else ""

    def hub_split(self, split: str) -> str:
        """Returns what `datasets.load_dataset` calls a split."""
        return self.hub_splits.get(split, split)


DIGITS = Dataset(
    name="digits",
    title="scikit-learn digits",
    splits={"train": 1_200, "test": 597},
    evaluated_on="test",
    module="digits",
    needs_data=False,
)
CIFAR10 = Dataset(
    name="cifar10",
    title="CIFAR-10",
    splits={"train": 50_000, "test": 10_000},
    evaluated_on="test",
    module="cifar10",
    hub_id="uoft-cs/cifar10",
)
IMAGENET = Dataset(
    name="imagenet-1k",
    title="ImageNet-1k",
    splits={"train": 1_281_167, "val": 50_000},
    module="imagenet",
    hub_id="ILSVRC/imagenet-1k",
    hub_splits={"val": "validation"},
)
DATASETS = {one.name: one for one in (DIGITS, CIFAR10, IMAGENET)}
OWN_DATASETS: dict[str, Dataset] = {}
"""Those that `qzoo.register_dataset` added, for as long as the process runs."""


def dataset_named(name: str) -> Dataset:
    """Returns the record of a dataset, or that of a folder, whose title tells nothing of the machine.

    Example:
        >>> dataset_named("imagenet-1k").title, dataset_named("/home/me/flowers").title
        ('ImageNet-1k', 'flowers')
    """
    return DATASETS.get(name) or OWN_DATASETS.get(name) or Dataset(name, title=Path(name).name)
