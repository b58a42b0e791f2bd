"""ImageNet-1k's classes: a thousand WordNet ids, sorted. The index of a class is the place of its id."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache


@cache
def imagenet_synsets() -> dict[str, int]:
    """Returns the class index of each of the 1,000 WordNet ids, from timm's own list.

    Example:
        >>> imagenet_synsets()["n15075141"]
        999
    """
    from timm.data import ImageNetInfo

    return {synset: index for index, synset in enumerate(ImageNetInfo().label_names())}


@cache
def imagenet_words() -> tuple[str, ...]:
    """Returns the first word for each class, in the order of their indices: `tench`, `goldfish` ..."""
    from timm.data import ImageNetInfo

    return tuple(map(first_word, ImageNetInfo().label_descriptions()))


def is_wordnet_id(text: str) -> bool:
    """Returns whether a text has the form of a WordNet id; not whether ImageNet-1k has the class."""
    return re.fullmatch(r"n\d{8}", text) is not None


def first_word(description: str) -> str:
    """Returns what a class is called, without its other names.

    Example:
        >>> first_word("tench, Tinca tinca")
        'tench'
    """
    return description.partition(",")[0].strip().lower()


def class_indices(names: Sequence[str]) -> list[int] | None:
    """Returns the class index of each label of a dataset that names its labels; None where the names are others.

    Args:
        names: WordNet ids in any order, or words for the 1,000 classes in the order of their ids. Words differ a little
            between copies, and two pairs of classes share theirs, so nine in ten of them have to agree.
    """
    synsets = imagenet_synsets()
    if names and synsets.keys() >= set(names):
        return [synsets[name] for name in names]
    agree = sum(first_word(name) == word for name, word in zip(names, imagenet_words(), strict=False))
    return list(range(len(names))) if len(names) == len(synsets) and agree >= 0.9 * len(synsets) else None
