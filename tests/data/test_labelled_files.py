from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from qzoo.data.imagenet import open_imagenet
from qzoo.data.labelled_files import GROUND_TRUTH, read_label_file
from qzoo.errors import DataError

TENCH, FISH = "n01440764", "n01443537"


@pytest.mark.parametrize(("name", "text"), [
    ("val.txt", f"a.JPEG {TENCH}\nb.JPEG\t{FISH} goldfish\n\n"),
    ("val.txt", f"file label\na.JPEG {TENCH}\nb.JPEG {FISH}"),
    ("val.csv", f"ImageId,PredictionString\na,{TENCH} 1 2 3 4 {TENCH} 5 6 7 8\nb,{FISH} 1 2 3 4\n"),
    ("val.csv", f'"a.JPEG","{TENCH}"\r\n"b.JPEG",{FISH},more\r\n'),
    ("val.csv", f"\ufefffile,label\na.JPEG,{TENCH}\na.JPEG,{TENCH}\nb.JPEG,{FISH}"),
])  # fmt: skip
def test_lines_and_columns(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    labels = read_label_file(tmp_path / name)
    assert labels == {"a": TENCH, "b": FISH}


@pytest.mark.parametrize(("text", "message"), [
    (f"a.JPEG {TENCH}\nb.JPEG 490", r"val\.txt:2: '490' is a number, and lists number .* differently.*<WordNet id>"),
    ("a.JPEG 0", r"val\.txt:1: '0' is a number"),
    (f"a.JPEG {TENCH}\nb.JPEG tench", r"val\.txt:2: 'tench' is not one of the 1,000 WordNet ids \(n01440764"),
    (f"a.JPEG {TENCH}\nb.JPEG n00000000", r"val\.txt:2: 'n00000000' is not one of the 1,000.*Expected `<file name>"),
    (f"a.JPEG {TENCH}\nb.JPEG", r"val\.txt:2: '' is not one of the 1,000"),
    (f"a.JPEG {TENCH}\na.JPEG {FISH}", rf"val\.txt:2 says that a\.JPEG is {FISH}, an earlier line {TENCH}\."),
])  # fmt: skip
def test_wrong_lines(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_label_file(tmp_path / "val.txt")


@pytest.mark.parametrize("place", ["labels.csv", "val/labels.csv", "validation_labels.csv"])
def test_where_the_file_may_lie(place: str, flat_folder: Path, photographs: list[Path]) -> None:
    (flat_folder / place).write_text("".join(f"{file.stem},{file.parent.name}\n" for file in photographs))
    assert len(open_imagenet("val", flat_folder)) == 6


def test_no_label_file(flat_folder: Path) -> None:
    where = r"val holds images, but no class folders, and no label file lies in .*flat/val or .*flat\. Put one there, "
    what = r"called LOC_val_solution\.csv, val\.csv, .*Expected `<file name> <WordNet id>`.*_ground_truth\.txt will do"
    with pytest.raises(DataError, match=where + what):
        open_imagenet("val", flat_folder)


def test_an_image_without_a_label_is_named(flat_folder: Path, photographs: list[Path]) -> None:
    (flat_folder / "val.txt").write_text("".join(f"{file.name} {file.parent.name}\n" for file in photographs[2:]))
    with pytest.raises(DataError, match=rf"val\.txt has no label for {photographs[0].name}, and 1 more of 6 images\."):
        open_imagenet("val", flat_folder)


# Ids as the kit has them: not in the order of WordNet ids.
ILSVRC = {"n12267677": 643, "n01440764": 449, "n02123045": 52, "n02119789": 1}
TREE = {"n00001740": 1001}
"""The kit's table goes on with the classes above the thousand."""


@pytest.fixture
def kit(flat_folder: Path, photographs: list[Path]) -> Path:
    """A development kit whose ground truth knows the photographs, and no table of classes yet."""
    folder = flat_folder / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    numbers = {int(file.stem.rpartition("_")[2]): ILSVRC[file.parent.name] for file in photographs}
    (folder / GROUND_TRUTH).write_text("".join(f"{numbers.get(line, 1)}\n" for line in range(1, 50_001)))
    return folder


def write_mat(folder: Path) -> None:
    table: Any = np.zeros((len(ILSVRC | TREE), 1), dtype=[("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O")])
    for row, (wordnet_id, number) in zip(table, (ILSVRC | TREE).items(), strict=True):
        row[0] = (float(number), wordnet_id, "some, words")
    savemat(folder / "meta.mat", {"synsets": table})


def write_text(folder: Path) -> None:
    lines = [f"{wordnet_id} {number} some_words\n" for wordnet_id, number in ILSVRC.items()]
    (folder / "map_clsloc.txt").write_text("".join(lines))


@pytest.mark.parametrize("write", [write_mat, write_text])
def test_its_ids_become_wordnet_ids(write: Any, kit: Path, flat_folder: Path) -> None:
    write(kit)
    assert open_imagenet("val", flat_folder).labels.tolist() == [0, 0, 281, 988, 988, 988]


def test_its_ids_alone_say_nothing(kit: Path, flat_folder: Path) -> None:
    message = r"ground_truth\.txt holds ids .*not in the order of WordNet ids\. Put meta\.mat or map_clsloc\.txt of the"
    with pytest.raises(DataError, match=rf"{message} kit beside it, or use .*LOC_val_solution\.csv"):
        open_imagenet("val", flat_folder)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("meta.mat", "no matrix", r"meta\.mat is no meta\.mat of the development kit, or damaged \(.*Fetch it again"),
    ("map_clsloc.txt", "n02119789 1 kit_fox\nn02123045", r"map_clsloc\.txt:2: expected `<WordNet id> <ILSVRC id>"),
    ("map_clsloc.txt", "n02119789 kit fox", r"map_clsloc\.txt:1: expected"),
    ("map_clsloc.txt", "n02119789 1 kit_fox", r"ground_truth\.txt:\d+: map_clsloc\.txt has no class '52'\. Fetch both"),
])  # fmt: skip
def test_wrong_tables(name: str, content: str, message: str, kit: Path, flat_folder: Path) -> None:
    (kit / name).write_text(content)
    with pytest.raises(DataError, match=message):
        open_imagenet("val", flat_folder)


def test_images_go_by_their_number(kit: Path, flat_folder: Path) -> None:
    write_text(kit)
    next((flat_folder / "val").iterdir()).rename(flat_folder / "val" / "tench.JPEG")
    with pytest.raises(
        DataError, match=r"no label for tench\.JPEG, .* It labels images called ILSVRC2012_val_00000001"
    ):
        open_imagenet("val", flat_folder)
