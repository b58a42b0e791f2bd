"""The images of which quantized models say something else than the float model, to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from qzoo.data.thumbnails import class_title, thumbnail
from qzoo.results.details import Answer, FlippedImage
from qzoo.tasks.evaluate import Evaluation
from qzoo.tasks.inputs.images import Images

MOST_SHOWN = 60
"""Images, of 3 to 5 kB each."""


def flipped_images(
    images: Images, baseline: Evaluation, others: Mapping[str, Evaluation], most: int = MOST_SHOWN
) -> tuple[list[FlippedImage], int]:
    """Returns the images that flipped, the most decisive first, with pictures; and how many more there are.

    Args:
        images: that all were evaluated on.
        baseline: the evaluation of the float model.
        others: those of quantized models, by variant.
        most: images that are returned.
    """
    found = [one for place in range(len(images)) if (one := _flipped(images, place, baseline, others)) is not None]
    found.sort(key=lambda one: -one.decisive)
    shown = [replace(one, picture=thumbnail(images.split, one.index)) for one in found[:most]]
    return shown, len(found) - len(shown)


def _flipped(images: Images, place: int, baseline: Evaluation, others: Mapping[str, Evaluation]) -> FlippedImage | None:
    before, classes = int(baseline.predictions[place]), images.split.classes
    answers = tuple(
        Answer(variant, class_title(classes, predicted), float(one.predicted.margins[place]))
        for variant, one in others.items()
        if (predicted := int(one.predictions[place])) != before
    )
    if not answers:
        return None
    index = images.indices[place]
    label = int(images.split.labels[index])
    margin = float(baseline.predicted.margins[place])
    named = None if label < 0 else class_title(classes, label)
    return FlippedImage(index, named, class_title(classes, before), margin, answers)
