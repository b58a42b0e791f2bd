"""Files that say which class each image is of, by WordNet id."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path, PurePath

from qzoo.data.synsets import imagenet_synsets
from qzoo.errors import DataError

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
