"""ImageNet's images in one folder, as its archive of validation images unpacks, with a file of labels.

That is a file that says which class each image is of, by WordNet id, or the development kit of ILSVRC 2012. The kit has
ids of its own, not in the order of WordNet ids, so they mean nothing without its table of classes.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PurePath

import torch

from qzoo.data.image_folder import is_image
from qzoo.data.split import FileSplit
from qzoo.data.synsets import imagenet_synsets
from qzoo.errors import DataError
from qzoo.schema.datasets import IMAGENET

EXPECTED = "Expected `<file name> <WordNet id>` on each line, or a CSV file with these two columns."


def read_label_file(file: Path) -> dict[str, str]:
    """Returns the WordNet id for each image, by file name without its ending.

    Args:
        file: text of lines `<file name> <WordNet id>`, or CSV of such columns, like Kaggle's `LOC_val_solution.csv`,
            whose second column holds boxes after the id. The first line may be a header.

    Raises:
        DataError: a line has no WordNet id of ImageNet-1k, or contradicts another one.
    """
    synsets, labels = imagenet_synsets(), dict[str, str]()
    for number, name, label in _rows(file):
        if label not in synsets:
            if number == 1 and not label.isdigit():
                continue
            raise DataError(_no_wordnet_id(f"{file}:{number}", label))
        image = PurePath(name).stem
        if labels.setdefault(image, label) != label:
            raise DataError(
                f"{file}:{number} says that {name} is {label}, an earlier line {labels[image]}. Remove one."
            )
    return labels


def _rows(file: Path) -> Iterator[tuple[int, str, str]]:
    with file.open(newline="", encoding="utf-8-sig", errors="replace") as lines:
        rows = csv.reader(lines) if file.suffix == ".csv" else map(str.split, lines)
        for number, row in enumerate(rows, 1):
            if row:
                # Kaggle's second column goes on after the id; so may a line of text.
                yield number, row[0], (" ".join(row[1:2]).split() or [""])[0]


def _no_wordnet_id(where: str, label: str) -> str:
    if label.isdigit():
        return (
            f"{where}: '{label}' is a number, and lists number the classes differently; '{label}' could be two. "
            f"{EXPECTED}"
        )
    return f"{where}: '{label}' is not one of the 1,000 WordNet ids (n01440764 ...). {EXPECTED}"


GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SYNSETS = ("meta.mat", "map_clsloc.txt")
IMAGE = "ILSVRC2012_val_{:08d}"
"""Line n of the ground truth is the label of the image of that number."""


def read_devkit(ground_truth: Path) -> dict[str, str]:
    """Returns the WordNet id for each validation image, by file name without its ending.

    Args:
        ground_truth: one ILSVRC id a line. Beside it lies `meta.mat`, or `map_clsloc.txt` with lines
            `<WordNet id> <ILSVRC id> <words>`, which say what the ids mean.

    Raises:
        DataError: neither lies there, one of the files is damaged, or it lacks an id.
    """
    meta = next((file for name in SYNSETS if (file := ground_truth.parent / name).is_file()), None)
    if meta is None:
        raise DataError(
            f"{ground_truth} holds ids of the ILSVRC development kit, which are not in the order of WordNet ids. "
            f"Put {' or '.join(SYNSETS)} of the kit beside it, or use a file with WordNet ids, like Kaggle's "
            "LOC_val_solution.csv."
        )
    synsets = _from_mat(meta) if meta.suffix == ".mat" else _from_text(meta)
    labels = {}
    for number, line in enumerate(ground_truth.read_text().split(), 1):
        if line not in synsets:
            raise DataError(f"{ground_truth}:{number}: {meta.name} has no class '{line}'. Fetch both from one kit.")
        labels[IMAGE.format(number)] = synsets[line]
    return labels


def _from_mat(file: Path) -> dict[str, str]:
    from scipy.io import loadmat

    try:
        table = loadmat(file, squeeze_me=True)["synsets"]
        pairs = zip(table["ILSVRC2012_ID"], table["WNID"], strict=True)
        return {str(int(number)): str(wordnet_id) for number, wordnet_id in pairs}
    except Exception as error:  # SciPy's reader fails in many ways
        raise DataError(
            f"{file} is no meta.mat of the development kit, or damaged ({error}). Fetch it again."
        ) from error


def _from_text(file: Path) -> dict[str, str]:
    rows = [line.split() for line in file.read_text().splitlines() if line.strip()]
    short = next((number for number, row in enumerate(rows, 1) if len(row) < 2 or not row[1].isdigit()), None)
    if short is not None:
        raise DataError(f"{file}:{short}: expected `<WordNet id> <ILSVRC id> <words>`, as in the kit's map_clsloc.txt.")
    return {row[1]: row[0] for row in rows}


LABEL_FILES = ("LOC_{}_solution.csv", "{}.csv", "{}.txt", "{}_labels.csv", "{}_labels.txt", "labels.csv", "labels.txt")
KIT = Path("ILSVRC2012_devkit_t12") / "data"


def open_labelled_files(split: str, folder: Path, holders: Iterable[Path]) -> FileSplit:
    """Returns a split whose images lie in one folder, in the order that class folders would give them.

    Args:
        split: `train` or `val`.
        folder: the folder of the images.
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
        dataset=IMAGENET.name,
        name=split,
        files=[os.path.join(folder, name) for _, name in labelled],
        labels=torch.tensor([synsets[wordnet_id] for wordnet_id, _ in labelled]),
        classes=list(synsets),
        complete=len(names) == IMAGENET.splits[split],
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
