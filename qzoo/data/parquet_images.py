"""ImageNet-1k as parquet files, in the layout of the hub dataset ILSVRC/imagenet-1k: columns image and label."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

import torch

from qzoo.data.split import EncodedSplit
from qzoo.data.synsets import class_indices, imagenet_synsets
from qzoo.errors import DataError
from qzoo.files import stamp
from qzoo.schema.datasets import IMAGENET

NAMES = {"train": ("train",), "val": ("validation", "val")}
EXPECTED = (
    "Expected the columns image {bytes, path} and label (the index of the class among the 1,000 sorted WordNet ids), "
    "as in the hub dataset ILSVRC/imagenet-1k."
)


def parquet_files(data: Path, split: str) -> tuple[Path, ...]:
    """Returns the parquet files of a split, in order; none if the folder holds the dataset in another form."""
    for name in NAMES[split]:
        for pattern in (f"data/{name}-*.parquet", f"{name}-*.parquet", f"*/{name}-*.parquet"):
            if files := sorted(data.glob(pattern)):
                return tuple(files)
    return ()


def open_parquet(split: str, files: Sequence[Path]) -> EncodedSplit:
    """Returns a split in the order of its files; images are read one row group at a time, when they are asked for.

    Args:
        split: `train` or `val`.
        files: in order.

    Raises:
        DataError: a file is damaged or has other columns, or its labels are not ImageNet's.
    """
    return _opened(split, tuple(files), stamp(files))


# The variants of a recipe are evaluated on the same split, one after the other.
@lru_cache(maxsize=4)
def _opened(split: str, files: tuple[Path, ...], _stamp: object) -> EncodedSplit:
    labels = torch.tensor([label for file in files for label in _labels(file)])
    if not len(labels):
        raise DataError(f"{files[0]} holds no images. {EXPECTED}")
    complete = len(labels) == IMAGENET.splits[split]
    return EncodedSplit(IMAGENET.name, split, RowGroups(files), labels, list(imagenet_synsets()), complete)


class RowGroups:
    """The encoded images of parquet files, of which one row group lies in memory at a time.

    Args:
        files: in order. Those that the hub's `datasets` writes have about a hundred images a row group.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        sizes = {file: _group_sizes(file) for file in files}
        self.groups = [(file, group) for file in files for group in range(len(sizes[file]))]
        self.starts = [0, *accumulate(size for file in files for size in sizes[file])]
        self._at, self._held = -1, list[bytes | None]()

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> bytes:
        at = bisect_right(self.starts, index) - 1
        if at != self._at:
            self._held, self._at = _read_images(*self.groups[at]), at
        image = self._held[index - self.starts[at]]
        if image is None:
            raise DataError(f"{self.where(index)} holds no bytes, only a path. {EXPECTED}")
        return image

    def where(self, index: int) -> str:
        """Returns the place of an image, for messages."""
        file, _ = self.groups[bisect_right(self.starts, index) - 1]
        first = next(start for start, group in zip(self.starts, self.groups, strict=False) if group == (file, 0))
        return f"Image {index - first} of {file}"


def _group_sizes(file: Path) -> list[int]:
    from pyarrow import parquet

    with _told(file):
        footer = parquet.read_metadata(file)
        return [footer.row_group(group).num_rows for group in range(footer.num_row_groups)]


def _read_images(file: Path, group: int) -> list[bytes | None]:
    from pyarrow import parquet

    # Opened anew: a worker process shares no file with the others. Without threads, of which it has none.
    with _told(file), parquet.ParquetFile(file) as opened:
        table = opened.read_row_group(group, columns=["image.bytes"], use_threads=False)
        return table.column("image").flatten()[0].to_pylist()  # type: ignore[no-any-return]


def _labels(file: Path) -> list[int]:
    """Returns the class index of each image of a file."""
    from pyarrow import parquet

    with _told(file), parquet.ParquetFile(file) as opened:
        schema = opened.schema_arrow
        schema.field("image").type.field("bytes")  # told now, not at the first image
        labels = [int(label) for label in opened.read(columns=["label"]).column("label").to_pylist()]
    return imagenet_labels(labels, _label_names(schema.metadata or {}), str(file))


def imagenet_labels(labels: Sequence[int], names: Sequence[str] | None, where: str) -> list[int]:
    """Returns the class index of each label.

    Args:
        labels: the labels of the images.
        names: what the dataset says its labels are called, if it does; else they are taken for class indices.
        where: for messages.

    Raises:
        DataError: the names are not those of ImageNet-1k, or a label has none.
    """
    indices = list(range(len(imagenet_synsets()))) if names is None else class_indices(names)
    if indices is None:
        raise DataError(
            f"{where} calls its {len(names or ()):,} labels '{', '.join((names or ())[:3])}' ...: these are neither "
            f"WordNet ids nor ImageNet-1k's classes in their order. {EXPECTED}"
        )
    if strange := sorted(set(labels) - set(range(len(indices)))):
        raise DataError(f"{where} has the label {strange[0]}; labels go from 0 to {len(indices) - 1}. {EXPECTED}")
    return [indices[label] for label in labels]


def _label_names(metadata: Mapping[bytes, bytes]) -> list[str] | None:
    """Returns the names of the labels, where the hub's `datasets` wrote them into the file."""
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
        return list(map(str, features["label"]["names"]))
    except (KeyError, TypeError, ValueError, RecursionError):  # nested without end
        return None


@contextmanager
def _told(file: Path) -> Iterator[None]:
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        reason = str(error).split("\n", 1)[0]
        raise DataError(f"{file} is no parquet file of ImageNet-1k, or damaged ({reason}). {EXPECTED}") from error
