"""Receipts of a measurement: the predictions behind a figure, image by image."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from qzoo.build.identity import identity
from qzoo.data import Split
from qzoo.quant.ranges import get_ranges
from qzoo.tasks.evaluate import Evaluation
from qzoo.tasks.images import Images, is_complete
from qzoo.tasks.machine import environment
from qzoo.weights.content import content_digest
from qzoo.weights.receipt import ID_BYTES, Receipt, ReceiptInfo


def make_receipt(
    model: nn.Module, images: Images, float_result: Evaluation, result: Evaluation, device: str = "cpu"
) -> Receipt:
    """Returns the receipt of a quantized model's accuracy.

    Args:
        model: quantized and calibrated.
        images: what both models were evaluated on.
        float_result: of the base.
        result: of the quantized model.
        device: it was measured on.
    """
    info = ReceiptInfo(
        ranges_sha256=content_digest(get_ranges(model)),
        dataset=images.split.dataset,
        split=images.split.name,
        complete=is_complete(images),
        classes=_classes(images, float_result, result),
        top1=_both(float_result.top1, result.top1),
        top5=_both(float_result.top5, result.top5),
        date=datetime.date.today().isoformat(),
        environment=environment(device),
        **identity(model),
    )
    ids = image_ids(images.split, images.indices)
    return Receipt(ids, images.labels, float_result.predicted, result.predicted, info)


def image_ids(split: Split, indices: Sequence[int]) -> Tensor:
    """Returns by what images are found again, uint8 `(len(indices), 16)`: the beginning of each content's SHA-256."""
    ids = torch.empty(len(indices), ID_BYTES, dtype=torch.uint8)
    # Read in the order of the split, which on disk holds neighbours together.
    for row in sorted(range(len(indices)), key=indices.__getitem__):
        ids[row] = torch.frombuffer(bytearray(image_id(split, indices[row])), dtype=torch.uint8)
    return ids


def image_id(split: Split, index: int) -> bytes:
    """Returns the first 16 bytes of the SHA-256 of an image's content."""
    return hashlib.sha256(split.content(index)).digest()[:ID_BYTES]


def _both(float_model: float | None, quantized: float | None) -> dict[str, float]:
    if float_model is None or quantized is None:
        return {}
    return {"float": float_model, "quantized": quantized}


def _classes(images: Images, *results: Evaluation) -> int:
    # Not every dataset names its classes.
    return max(len(images.split.classes), *(int(result.predicted.top.max()) + 1 for result in results))
