"""`receipt.safetensors`: the predictions behind a figure, image by image, of the float and of the quantized model.

Beside the predictions in the arithmetic of the figure, float32 as a rule, lie *exact margins* of some images: margins
of the same models in float64. In float32 a quantizer turns the last bit of a sum into a whole step now and then, which
moves margins on any other machine, batch size or thread count; in float64 it does not, so that a moved margin is a
changed model. `qzoo.receipts.compare` tells them apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from qzoo.errors import WeightsError
from qzoo.results.readable import Readable
from qzoo.weights.artifact import ArtifactInfo, Digest, Header, read_artifact, write_artifact
from qzoo.weights.kinds import RECEIPT

ID_BYTES = 16
"""Bytes of the SHA-256 of an image's content, by which it is found again."""
TOP = 5

Measured = Literal["float", "quantized"]


class ReceiptInfo(Readable, ArtifactInfo):
    """What a receipt says of itself."""

    ranges_sha256: Digest
    """Content digest of the quantized model's ranges."""
    dataset: str = Field(max_length=200)
    """Its name in recipes."""
    split: str = Field(max_length=50)
    """The part of the dataset, `test` or `val`."""
    complete: bool
    """Whether these are all images that published figures are measured on."""
    classes: int = Field(ge=1, le=2**31 - 1)
    """How many the model tells apart."""
    top1: dict[Measured, float]
    """Percent, of `float` and of `quantized`; empty without labels."""
    top5: dict[Measured, float]
    """Percent, of `float` and of `quantized`; empty without labels."""
    date: str = Field(max_length=30)
    """The day of the measurement, `2026-11-25`."""
    environment: dict[str, str | int] = Field(max_length=100)
    """What it was measured on: versions, processor, threads."""


@dataclass(frozen=True, repr=False)
class Predictions(Readable):
    """What a model said of some images.

    Attributes:
        top: int64 `(images, min(5, classes))`, the likeliest classes, best first.
        margins: float32 `(images,)`, by how much the logit of the first exceeds that of the second.
    """

    top: Tensor
    margins: Tensor

    def at(self, indices: Tensor) -> Predictions:
        """Returns those of some images, in the order of the indices."""
        return Predictions(self.top[indices], self.margins[indices])


@dataclass(frozen=True, repr=False)
class ExactMargins(Readable):
    """Margins in float64 arithmetic, of some of the images.

    Attributes:
        rows: int64 `(n,)`, which images of the receipt.
        float_model: float64 `(n,)`.
        quantized: float64 `(n,)`.
    """

    rows: Tensor
    float_model: Tensor
    quantized: Tensor


@dataclass(frozen=True, repr=False)
class Receipt(Readable):
    """Predictions of a float model and its quantized one on the same images.

    Attributes:
        ids: uint8 `(images, 16)`, the first bytes of the SHA-256 of each image's content.
        labels: int64 `(images,)`; -1 where unknown.
        float_model: predictions of the base.
        quantized: predictions of the variant.
        exact: margins in float64 of up to 500 of the images.
        info: for which model, data and machine.
    """

    ids: Tensor
    labels: Tensor
    float_model: Predictions
    quantized: Predictions
    exact: ExactMargins
    info: ReceiptInfo

    def __len__(self) -> int:
        return len(self.ids)


def save_receipt(path: Path, receipt: Receipt) -> None:
    """Writes a receipt; a file of that name is replaced in one step."""
    # Half the size: there are no models of more classes than int16 holds but in language.
    small = torch.int16 if receipt.info.classes < 2**15 else torch.int32
    tensors = {
        "ids": receipt.ids,
        "labels": receipt.labels.to(small),
        "float.top": receipt.float_model.top.to(small),
        "float.margins": receipt.float_model.margins,
        "quantized.top": receipt.quantized.top.to(small),
        "quantized.margins": receipt.quantized.margins.clone(),  # it may be the float model's own
        "exact.rows": receipt.exact.rows.to(torch.int32),
        "exact.float": receipt.exact.float_model,
        "exact.quantized": receipt.exact.quantized.clone(),
    }
    write_artifact(path, RECEIPT, tensors, receipt.info)


def load_receipt(path: Path) -> Receipt:
    """Returns the receipt that a file holds.

    Raises:
        WeightsError: the file is missing, truncated, corrupt, no receipt, or holds impossible predictions.
    """
    tensors, info = read_artifact(path, RECEIPT, ReceiptInfo, _fault)
    receipt = Receipt(
        tensors["ids"],
        tensors["labels"].long(),
        Predictions(tensors["float.top"].long(), tensors["float.margins"]),
        Predictions(tensors["quantized.top"].long(), tensors["quantized.margins"]),
        ExactMargins(tensors["exact.rows"].long(), tensors["exact.float"], tensors["exact.quantized"]),
        info,
    )
    if fault := _impossible(receipt):
        raise WeightsError(
            f"{path}: {fault}. It holds predictions that no model of {info.classes} classes makes. {RECEIPT.remedy}"
        )
    if not _is_of_its_figures(receipt):
        raise WeightsError(f"{path} states figures that are not those of its predictions. {RECEIPT.remedy}")
    return receipt


def _is_of_its_figures(receipt: Receipt) -> bool:
    """Whether the accuracies are those of predictions and labels."""
    if not bool((receipt.labels >= 0).all()):
        return not receipt.info.top1 and not receipt.info.top5
    if receipt.info.top1.keys() != {"float", "quantized"}:
        return False
    for name, predictions in (("float", receipt.float_model), ("quantized", receipt.quantized)):
        hits = predictions.top == receipt.labels.unsqueeze(1)
        for stated, hit in ((receipt.info.top1, hits[:, 0]), (receipt.info.top5, hits.any(1))):
            if name in stated and not abs(stated[name] - 100 * float(hit.double().mean())) <= 1e-3:
                return False
    return True


def _impossible(receipt: Receipt) -> str | None:
    """Returns the tensor that no evaluation writes, and what is wrong with it; None if all are possible."""
    classes, exact = receipt.info.classes, receipt.exact
    tops = {"float.top": receipt.float_model.top, "quantized.top": receipt.quantized.top}
    margins = {
        "float.margins": receipt.float_model.margins, "quantized.margins": receipt.quantized.margins,
        "exact.float": exact.float_model, "exact.quantized": exact.quantized,
    }  # fmt: skip
    for key, top in tops.items():
        if not _within(top, 0, classes):
            return f"{key} names classes from {int(top.min())} to {int(top.max())}"
        if bool((top.sort(1).values.diff(dim=1) == 0).any()):
            return f"{key} names a class twice for one image"
    for key, values in margins.items():
        odd = ~((values >= 0) & values.isfinite())
        if bool(odd.any()):
            return f"{key} holds {values[odd][0]:g}, and a margin is finite and at least 0"
    if not _within(receipt.labels, -1, classes):
        return f"labels are from {int(receipt.labels.min())} to {int(receipt.labels.max())}, -1 where unknown"
    if not _within(exact.rows, 0, len(receipt)) or len(exact.rows.unique()) != len(exact.rows):
        return f"exact.rows are not rows of its {len(receipt)} images, each at most once"
    return None


def _within(values: Tensor, start: int, end: int) -> bool:
    return bool(((values >= start) & (values < end)).all())


def _fault(header: Header, info: ReceiptInfo) -> str | None:
    small = "I16" if info.classes < 2**15 else "I32"
    images = header["ids"].shape[0] if "ids" in header and header["ids"].shape else 0
    exact = header["exact.rows"].shape[0] if "exact.rows" in header and header["exact.rows"].shape else 0
    if not images or not exact:
        return "it holds the predictions of no image, or the exact margins of none"
    top = (images, min(TOP, info.classes))
    expected = {
        "ids": ("U8", (images, ID_BYTES)), "labels": (small, (images,)),
        "float.top": (small, top), "float.margins": ("F32", (images,)),
        "quantized.top": (small, top), "quantized.margins": ("F32", (images,)),
        "exact.rows": ("I32", (exact,)), "exact.float": ("F64", (exact,)), "exact.quantized": ("F64", (exact,)),
    }  # fmt: skip
    wrong = next((key for key in {**expected, **header} if header.get(key) != expected.get(key)), None)
    return None if wrong is None else f"{wrong} is missing, unknown, or of another shape or dtype than a receipt's"
