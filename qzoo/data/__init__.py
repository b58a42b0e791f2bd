"""Datasets by name or path, as splits of labelled images and as batches."""

from qzoo.data.catalog import evaluation_split, open_split
from qzoo.data.loader import loader
from qzoo.data.split import Split, sample, sample_digest

__all__ = ["Split", "evaluation_split", "loader", "open_split", "sample", "sample_digest"]
