"""Receipts of a measurement: the predictions behind a figure, image by image, and margins in float64.

Margins in float64 come out the same on every machine.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor, nn

from qzoo.data import Split, sample
from qzoo.models.bases import identity
from qzoo.models.rounding import beyond_base
from qzoo.progress import Progress, silent
from qzoo.quant.derived import copy_model
from qzoo.quant.eval_mode import device_of, evaluation_mode
from qzoo.tasks.evaluate import Evaluation
from qzoo.tasks.inputs.batches import as_batches
from qzoo.tasks.inputs.images import Images, is_complete
from qzoo.tasks.measuring.machine import environment
from qzoo.tasks.measuring.running import checked_logits
from qzoo.weights.artifact import content_digest
from qzoo.weights.receipt import ID_BYTES, ExactMargins, Measured, Receipt, ReceiptInfo


def exact_margins(model: nn.Module, images: Images, progress: Progress = silent, what: str = "in float64") -> Tensor:
    """Returns by how much each image's largest logit exceeds the second, computed in float64; float64 `(images,)`.

    A quantizer is a step function: where the last bit of a float32 sum depends on machine, batch size and threads, so
    does now and then a whole step. Sums in float64 differ in their last bits too, but these are a billionth of that,
    and hardly ever lie at the edge of a step.

    Args:
        model: float or quantized; it is copied.
        images: already chosen.
        progress: shown the batches.
        what: words for the progress.
    """
    device = device_of(model)
    # Not every accelerator has float64.
    device = torch.device("cpu") if device.type == "mps" else device
    exact = copy_model(model).to(device, torch.float64)
    margins = [torch.empty(0, dtype=torch.float64)]
    with evaluation_mode(exact), torch.no_grad():
        for batch in progress(as_batches(images, device), len(images), what):
            best = checked_logits(exact(batch.inputs.double()), batch).topk(2, dim=1).values
            margins.append((best[:, 0] - best[:, 1]).cpu())
    return torch.cat(margins)


EXACT_IMAGES = 500
"""The number of images of which a receipt has exact margins."""


class Receipts:
    """Makes receipts of the variants of one base on the same images.

    Args:
        float_model: the base.
        images: what is evaluated on.
        result: the evaluation of the base on these images.
        device: it is measured on.
        progress: shown the batches of exact margins.
    """

    def __init__(
        self,
        float_model: nn.Module,
        images: Images,
        result: Evaluation,
        device: str = "cpu",
        progress: Progress = silent,
    ) -> None:
        self.float_model, self.images, self.result = float_model, images, result
        self.device, self.progress = device, progress

    def of(self, model: nn.Module, result: Evaluation) -> Receipt:
        """Returns the receipt of a quantized and calibrated model.

        Args:
            model: made from the base.
            result: the result of its evaluation on the images.
        """
        exact = ExactMargins(self._rows, self._float_margins, self._margins(model, "quantized"))
        info = self._info(model, result)
        return Receipt(self._ids, self.images.labels, self.result.predicted, result.predicted, exact, info)

    def _info(self, model: nn.Module, result: Evaluation) -> ReceiptInfo:
        images = self.images
        measured: dict[Measured, Evaluation] = {"float": self.result, "quantized": result}
        return ReceiptInfo(
            ranges_sha256=content_digest(beyond_base(model)),
            dataset=images.split.dataset,
            split=images.split.name,
            complete=is_complete(images),
            classes=_classes(images, *measured.values()),
            top1={name: one.top1 for name, one in measured.items() if one.top1 is not None},
            top5={name: one.top5 for name, one in measured.items() if one.top5 is not None},
            date=datetime.date.today().isoformat(),
            environment=environment(self.device),
            **identity(model),
        )

    @cached_property
    def _ids(self) -> Tensor:
        return image_ids(self.images.split, self.images.indices)

    @cached_property
    def _rows(self) -> Tensor:
        # In the order of a seeded sample, in which `verify` looks for images.
        row_of = {place: row for row, place in enumerate(self.images.indices)}
        order = sample(self.images.split, len(self.images.split), seed=0)
        return torch.tensor([row_of[place] for place in order if place in row_of][:EXACT_IMAGES])

    @cached_property
    def _float_margins(self) -> Tensor:
        return self._margins(self.float_model, "float")

    def _margins(self, model: nn.Module, what: str) -> Tensor:
        some = replace(self.images, indices=[self.images.indices[row] for row in self._rows.tolist()])
        return exact_margins(model, some, self.progress, f"{what} in float64")


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


def _classes(images: Images, *results: Evaluation) -> int:
    # Not every dataset names its classes.
    named = (images.labels, *(result.predicted.top for result in results))
    return max(len(images.split.classes), *(int(classes.max()) + 1 for classes in named))
