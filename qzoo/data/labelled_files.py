"""ImageNet's images in one folder, as its archive of validation images unpacks, with a file of labels."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import torch

from qzoo.data.devkit import GROUND_TRUTH, IMAGE, SYNSETS, read_devkit
from qzoo.data.image_folder import is_image
from qzoo.data.label_file import EXPECTED, read_label_file
from qzoo.data.split import FileSplit
from qzoo.data.synsets import IMAGENET, IMAGENET_SIZES, imagenet_synsets
from qzoo.errors import DataError

LABEL_FILES = ("LOC_{}_solution.csv", "{}.csv", "{}.txt", "{}_labels.csv", "{}_labels.txt", "labels.csv", "labels.txt")
KIT = Path("ILSVRC2012_devkit_t12") / "data"


def open_labelled_files(split: str, folder: Path, holders: Iterable[Path]) -> FileSplit:
    """Returns a split whose images lie in one folder, in the order that class folders would give them.

    Args:
        split: `train` or `val`.
        folder: of the images.
        holders: folders where a label file, or the development kit's ground truth, may lie.

    Raises:
        DataError: there is no label file, it is wrong, or it lacks an image.
    """
    names = [name for name in os.listdir(folder) if is_image(name)]
    source = _label_source(split, folder, list(dict.fromkeys(holders)))
    labels = read_devkit(source) if source.name == GROUND_TRUTH else read_label_file(source)
    _refuse_unlabelled(names, labels, source)
    # So a seed draws the same images as from class folders.
    labelled = sorted((labels[PurePath(name).stem], name) for name in names)
    synsets = imagenet_synsets()
    return FileSplit(
        dataset=IMAGENET,
        name=split,
        files=[os.path.join(folder, name) for _, name in labelled],
        labels=torch.tensor([synsets[wordnet_id] for wordnet_id, _ in labelled]),
        classes=list(synsets),
        complete=len(names) == IMAGENET_SIZES[split],
    )


def _label_source(split: str, folder: Path, holders: Sequence[Path]) -> Path:
    spellings = dict.fromkeys(pattern.format(name) for pattern in LABEL_FILES for name in _names(split))
    wanted = [*spellings, *([GROUND_TRUTH, str(KIT / GROUND_TRUTH)] if split == "val" else [])]
    found = next((file for name in wanted for holder in holders if (file := holder / name).is_file()), None)
    if found is None:
        places = " or ".join(map(str, holders))
        called = ", ".join(pattern.format(split) for pattern in LABEL_FILES)
        raise DataError(
            f"{folder} holds images, but no class folders, and no label file lies in {places}. Put one there, called "
            f"{called}. {EXPECTED} The development kit's {GROUND_TRUTH} will do, too, with {' or '.join(SYNSETS)} "
            "beside it."
        )
    return found


def _names(split: str) -> tuple[str, ...]:
    return ("val", "validation") if split == "val" else (split,)


def _refuse_unlabelled(names: Sequence[str], labels: dict[str, str], source: Path) -> None:
    missing = sorted(name for name in names if PurePath(name).stem not in labels)
    if missing:
        kit = f" It labels images called {IMAGE.format(1)}.JPEG and so on." if source.name == GROUND_TRUTH else ""
        raise DataError(
            f"{source} has no label for {missing[0]}, and {len(missing) - 1:,} more of {len(names):,} images.{kit} "
            "Complete it, or move these images away."
        )
