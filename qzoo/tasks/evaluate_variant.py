"""Evaluating a base or a variant by its recipe."""

from __future__ import annotations

from pathlib import Path

from qzoo.build.bases import base_transform, create_base
from qzoo.build.quantize import quantize_in_place
from qzoo.data import evaluation_split
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.resolve import resolve
from qzoo.tasks.evaluate import Evaluation, evaluate
from qzoo.tasks.images import evaluation_images
from qzoo.tasks.progress import Progress, silent
from qzoo.tasks.ranges import load
from qzoo.zoo import load_pretrained_ranges


def evaluate_named(
    entry: RecipeEntry, variant: str | None, *, data: Path | None = None, ranges: Path | None = None,
    images: int | None = None, batch_size: int | None = None, device: str = "cpu", progress: Progress = silent,
) -> Evaluation:  # fmt: skip
    """Returns the accuracy of a float base, or of a variant with the ranges found for it.

    Args:
        entry: the recipe.
        variant: one of its variants, or None for the float base.
        data: folder of the dataset, or of all datasets; default `QZOO_DATA`.
        ranges: a ranges file; default: what `create(..., pretrained=True)` would take.
        images: evaluate on a seeded sample of so many.
        batch_size: images at a time.
        device: `cpu`, `cuda` ...
        progress: shown the batches.
    """
    base, dataset = entry.recipe.base, entry.recipe.dataset
    chosen = evaluation_images(
        dataset,
        evaluation_split(dataset),
        base_transform(base),
        data,
        images=images,
        batch_size=batch_size,
    )
    model = create_base(base, pretrained=True)
    if variant is not None:
        resolved = resolve(entry, variant)
        quantize_in_place(model, resolved)
        if ranges is not None:
            load(model, ranges)
        else:
            load_pretrained_ranges(model, entry, resolved)
    return evaluate(model.to(device), chosen, progress=progress, count=len(chosen))
