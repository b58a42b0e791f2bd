"""Datasets by name or path, as splits of labelled images and as batches."""

from qzoo.data.augmentation import Augmentation
from qzoo.data.loader import default_workers, loader
from qzoo.data.lookup import evaluation_split, open_split, train_transform
from qzoo.data.split import ArraySplit, Split, sample, sample_digest

__all__ = [
    "ArraySplit",
    "Augmentation",
    "Split",
    "default_workers",
    "evaluation_split",
    "loader",
    "open_split",
    "sample",
    "sample_digest",
    "train_transform",
]
