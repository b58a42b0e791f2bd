"""The report of a verification: whether a machine gets the predictions of a receipt."""

from __future__ import annotations

from qzoo.results.readable import Readable
from qzoo.schema.model import StrictModel


class UsualAgreement(Readable, StrictModel):
    """Predictions in the usual arithmetic, held against a receipt."""

    images: int
    identical: int
    """Same prediction, same margin."""
    moved: int
    """Same prediction, another margin."""
    flipped: int
    """Another prediction."""
    largest: float
    """The largest difference of margins."""


class ExactAgreement(Readable, StrictModel):
    """Margins in float64, held against a receipt."""

    images: int
    moved: int
    """Images with another margin."""
    largest: float
    """The largest difference."""


class VerificationReport(Readable, StrictModel):
    """What a verification found, without the predictions themselves."""

    name: str
    reproduced: bool
    cause: str | None
    """Where to look, if it is not reproduced."""
    usual: UsualAgreement
    exact: ExactAgreement
    dataset: str
    split: str
    receipt_images: int
    claimed_top1: float | None
    """In percent, of the quantized model."""
    date: str
    """Of the receipt."""
    environment: dict[str, str | int]
    """What the receipt was made on."""
