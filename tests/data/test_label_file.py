from __future__ import annotations

from pathlib import Path

import pytest

from qzoo.data.imagenet import open_imagenet
from qzoo.data.label_file import read_label_file
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
