"""ImageNet-1k is the same images and labels in whichever form it comes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from qzoo.data import loader, open_split, sample_digest, train_transform
from qzoo.data.split import EncodedSplit, FileSplit
from qzoo.data.synsets import imagenet_synsets
from qzoo.errors import DataError

Form = Callable[[Path, list[Path]], Path]


def class_folders(root: Path, files: list[Path]) -> Path:
    for file in files:
        (root / "val" / file.parent.name).mkdir(parents=True, exist_ok=True)
        (root / "val" / file.parent.name / file.name).write_bytes(file.read_bytes())
    return root


def one_folder(root: Path, files: list[Path]) -> Path:
    (root / "val").mkdir(parents=True)
    for file in reversed(files):
        (root / "val" / file.name).write_bytes(file.read_bytes())
    (root / "val.txt").write_text("".join(f"{file.name} {file.parent.name}\n" for file in files))
    return root


def kaggle(root: Path, files: list[Path]) -> Path:
    one_folder(root / "ILSVRC" / "Data" / "CLS-LOC", files)
    (root / "ILSVRC" / "Data" / "CLS-LOC" / "val.txt").unlink()
    lines = [f"{file.stem},{file.parent.name} 85 1 499 272 {file.parent.name} 1 2 3 4 \n" for file in files]
    (root / "LOC_val_solution.csv").write_text("ImageId,PredictionString\n" + "".join(lines))
    return root


@pytest.fixture(params=["class folders", "one folder", "kaggle", "parquet"])
def form(request: pytest.FixtureRequest, imagenet_parquet: Form) -> Form:
    forms = {
        "class folders": class_folders, "one folder": one_folder, "kaggle": kaggle, "parquet": imagenet_parquet,
    }  # fmt: skip
    return forms[request.param]


def test_every_form_holds_the_same_images_and_labels(form: Form, photographs: list[Path], tmp_path: Path) -> None:
    split = open_split("imagenet-1k", "val", form(tmp_path, photographs))
    assert isinstance(split, (FileSplit, EncodedSplit))
    assert (split.dataset, split.name, len(split), split.complete) == ("imagenet-1k", "val", 6, False)
    synsets = imagenet_synsets()
    assert split.labels.tolist() == [synsets[file.parent.name] for file in photographs] == [0, 0, 281, 988, 988, 988]
    assert [split.content(index) for index in range(6)] == [file.read_bytes() for file in photographs]
    assert split.image(5).mode == "RGB"
    assert list(split.classes) == list(synsets)


def test_batches_are_the_same_bit_for_bit_in_workers(form: Form, photographs: list[Path], tmp_path: Path) -> None:
    split = open_split("imagenet-1k", "val", form(tmp_path, photographs))
    transform = train_transform("imagenet-1k", size=64, mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bicubic")
    here, elsewhere = (list(loader(split, transform, 2, [5, 0, 3, 3, 1], workers)) for workers in (0, 2))
    assert [len(y) for _, y in here] == [2, 2, 1]
    for (x, y), (other_x, other_y) in zip(here, elsewhere, strict=True):
        assert torch.equal(x, other_x)
        assert torch.equal(y, other_y)
    assert torch.equal(here[1][0][0], here[1][0][1])


def test_a_sample_has_one_digest_in_every_form(imagenet_parquet: Form, photographs: list[Path], tmp_path: Path) -> None:
    made = [
        make(tmp_path / str(n), photographs) for n, make in enumerate([class_folders, one_folder, imagenet_parquet])
    ]
    assert len({sample_digest(open_split("imagenet-1k", "val", data), [4, 1, 0]) for data in made}) == 1


def test_a_missing_split_in_either_form(imagenet_parquet: Form, photographs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no folder train: it has val\. Give the folder that holds both"):
        open_split("imagenet-1k", "train", class_folders(tmp_path / "a", photographs))
    with pytest.raises(
        DataError, match=r"no images in class folders .*, or data/train-\*\.parquet\)\. Give the folder"
    ):
        open_split("imagenet-1k", "train", imagenet_parquet(tmp_path / "b", photographs))


def test_an_empty_folder_lists_the_forms(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"val/\*\.JPEG with a label file, or data/validation-\*\.parquet\)"):
        open_split("imagenet-1k", "val", tmp_path)


def test_one_folder_itself_is_the_evaluation_split(flat_folder: Path, photographs: list[Path], tmp_path: Path) -> None:
    lines = [f"{file.name} {file.parent.name}" for file in photographs]
    (flat_folder / "val" / "labels.txt").write_text("\n".join(lines))
    split: Any = open_split("imagenet-1k", "train", flat_folder / "val")
    assert (split.name, len(split)) == ("val", 6)
