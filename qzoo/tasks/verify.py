"""Verifying a claim image by image: does this machine get the predictions that a receipt holds?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import torch
from torch import Tensor, nn

from qzoo.build.bases import create_base
from qzoo.data import Split, sample
from qzoo.errors import DataError, WeightsError
from qzoo.pretrained import artifact_file, create_pretrained
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.resolve import ResolvedVariant, resolve
from qzoo.tasks.comparison import Comparison, compare_predictions
from qzoo.tasks.evaluate import evaluate_images
from qzoo.tasks.evaluate_named import quantized_model
from qzoo.tasks.images import Images, evaluation_images
from qzoo.tasks.progress import Progress, silent
from qzoo.tasks.receipts import image_id
from qzoo.tasks.settings import Settings, usable_device
from qzoo.weights.finding import find_variant
from qzoo.weights.receipt import RECEIPT, Predictions, Receipt, load_receipt

CHUNK = 100
"""Images between two looks of the progress."""


@dataclass(frozen=True)
class Verified:
    """What came of a verification.

    Attributes:
        name: full name of the variant.
        receipt: what was checked.
        quantized: this machine's predictions beside the receipt's.
        float_model: likewise of the base, where the quantized model's did not fit: it says where to look.
    """

    name: str
    receipt: Receipt
    quantized: Comparison
    float_model: Comparison | None = None

    @property
    def reproduced(self) -> bool:
        """Whether this machine reproduces the claim."""
        return not self.quantized.alarm

    @property
    def cause(self) -> str | None:
        """Where to look, if the claim is not reproduced."""
        if self.reproduced or self.float_model is None:
            return None
        if self.float_model.alarm:
            return (
                "The float model differs too, so it is not the quantizers: other base weights, another transform, or "
                "images that are decoded differently."
            )
        return (
            "The float model agrees, so images and base weights are right: a range, the recipe, or the arithmetic of "
            "the quantizers differs."
        )


def verify(
    name: str,
    settings: Settings | None = None,
    *,
    images: int | None = None,
    receipt: Path | None = None,
    ranges: Path | None = None,
    progress: Progress = silent,
) -> Verified:
    """Recomputes predictions and compares them with a receipt, image by image. No labels are needed.

    Args:
        name: a variant, a recipe file with one, or a published model: `hf-hub:owner/repo`, or a folder.
        settings: data, device, batch size.
        images: how many to check; default: all that the receipt and this machine have.
        receipt: a file; default: what lies beside the variant's ranges.
        ranges: a file, to verify other ranges than those that are found by name.
        progress: shown the batches.

    Raises:
        WeightsError: there is no receipt, it is damaged, or of another state of the recipe.
        DataError: the dataset is missing, or holds none of the receipt's images.

    Example:
        >>> qzoo.verify("resnet8_digits_int8").reproduced  # doctest: +SKIP
        True
    """
    settings = settings or Settings()
    entry, variant = find_variant(name)
    resolved = resolve(entry, variant)
    claim = load_receipt(_receipt_file(entry, resolved, receipt))
    _check(claim, resolved)
    model = create_pretrained(entry, resolved, {}) if ranges is None else quantized_model(resolved, ranges)
    chosen, rows = _find_images(claim, resolved, settings, images, progress)
    device = usable_device(settings.device)

    def compared(model: nn.Module, claimed: Predictions, what: str) -> Comparison:
        result = evaluate_images(model.to(device), chosen, progress=progress, what=what)
        return compare_predictions(claimed.at(rows), result.predicted)

    quantized = compared(model, claim.quantized, f"verifying {variant}")
    if not quantized.alarm:
        return Verified(resolved.name, claim, quantized)
    float_model = compared(create_base(resolved.base, pretrained=True), claim.float_model, "looking at float")
    return Verified(resolved.name, claim, quantized, float_model)


def _receipt_file(entry: RecipeEntry, resolved: ResolvedVariant, given: Path | None) -> Path:
    path = given or artifact_file(entry, resolved.name, RECEIPT)
    if path is None:
        data = "" if resolved.dataset == "digits" else " --data PATH"
        command = f"qzoo evaluate {entry.address(resolved.variant)}{data} --receipt FILE"
        raise WeightsError(f"There is no receipt for {resolved.name}. Give one with --receipt, or make one: {command}")
    return path


def _check(claim: Receipt, resolved: ResolvedVariant) -> None:
    if claim.info.recipe_sha256 != resolved.digest:
        raise WeightsError(
            f"The receipt is of {claim.info.name or 'another variant'} ({claim.info.recipe_sha256[:12]}), this is "
            f"{resolved.name} ({resolved.digest[:12]}): another variant, or another state of its recipe."
        )


def _find_images(
    claim: Receipt, resolved: ResolvedVariant, settings: Settings, wanted: int | None, progress: Progress
) -> tuple[Images, Tensor]:
    """Returns images of the receipt that are on this machine, and their rows in it."""
    everything = evaluation_images(
        resolved.base, resolved.dataset, settings.data, batch_size=settings.batch_size, workers=settings.workers
    )
    found = dict(islice(_matches(claim, everything.split, progress), wanted))
    if not found:
        raise DataError(
            f"None of the receipt's {len(claim):,} images is among the {len(everything):,} of {claim.info.dataset} "
            f"{everything.split.name} here. Give the folder with the images it was made from: --data PATH."
        )
    places = sorted(found)
    return replace(everything, indices=places), torch.tensor([found[place] for place in places])


def _matches(claim: Receipt, split: Split, progress: Progress) -> Iterator[tuple[int, int]]:
    """Yields places of a split and rows of a receipt that hold the same image, in random order."""
    rows: dict[bytes, list[int]] = {}
    for row, name in enumerate(claim.ids.numpy()):
        rows.setdefault(name.tobytes(), []).append(row)
    # The order of a seeded sample: a receipt of fewer images than the split holds was made of its first ones.
    order = sample(split, len(split), seed=0)
    chunks = [order[start : start + CHUNK] for start in range(0, len(order), CHUNK)]
    for place in chain.from_iterable(progress(chunks, len(order), "finding the images")):
        name = image_id(split, place)
        if rows.get(name):
            yield place, rows[name].pop()
