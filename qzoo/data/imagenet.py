"""ImageNet-1k in each form that people have it in: class folders, one folder with a label file, parquet, the hub.

Source: O. Russakovsky et al. 2015 (arXiv 1409.0575), "ImageNet Large Scale Visual Recognition Challenge".
"""

from __future__ import annotations

from pathlib import Path

from qzoo.data.image_folder import find_split, is_flat, open_folder
from qzoo.data.labelled_files import open_labelled_files
from qzoo.data.lookup import Reader
from qzoo.data.parquet_images import open_parquet, parquet_files
from qzoo.data.split import Split
from qzoo.schema.datasets import IMAGENET

KAGGLE = Path("ILSVRC") / "Data" / "CLS-LOC"
"""Where the archive of Kaggle's competition has its images."""

HOW_TO = (
    "ImageNet-1k can't be downloaded without an account. From the hub: accept the terms on the page of the gated "
    f"dataset {IMAGENET.hub_id}, log in with `hf auth login` (or set HF_TOKEN), and `pip install 'qzoo[hub-data]'`. "
    "From image-net.org or Kaggle: give --data FOLDER or set QZOO_DATA. The folder holds "
    "{train,val}/<WordNet id>/*.JPEG, or val/*.JPEG with a label file, or data/{train,validation}-*.parquet."
)


def open_imagenet(split: str, data: Path | None) -> Split:
    """Returns a split of ImageNet-1k; class indices come from WordNet ids, whatever the form.

    Args:
        split: `train` or `val`.
        data: the folder; without one the hub is asked.

    Raises:
        DataError: the folder is missing, empty, damaged, of the wrong kind or without labels; or the hub says no.
    """
    if data is None:
        from qzoo.data.hub import imagenet_from_hub

        return imagenet_from_hub(split, HOW_TO)
    if files := parquet_files(data, split):
        return open_parquet(split, files)
    images = data / KAGGLE if (data / KAGGLE).is_dir() else data
    folder, name = find_split(images, split)
    if is_flat(folder):
        return open_labelled_files(name, folder, holders=(folder, folder.parent, data))
    return open_folder(IMAGENET.name, split, images)


READER = Reader(open_imagenet)
