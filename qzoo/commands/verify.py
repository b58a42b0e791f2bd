"""Verifying a claim image by image: does this machine get the predictions that a receipt holds?"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor, nn

from qzoo.arguments import checked
from qzoo.commands.evaluate import quantized_model
from qzoo.commands.settings import Settings, usable_device
from qzoo.errors import WeightsError, shown
from qzoo.models.bases import create_base
from qzoo.progress import Progress, phase, silent
from qzoo.receipts.compare import Chosen, Exact, Usual, compare_exact, compare_usual, find_images
from qzoo.receipts.make import exact_margins
from qzoo.results.details import Details
from qzoo.results.readable import Readable
from qzoo.results.verification import ExactAgreement, UsualAgreement, VerificationReport
from qzoo.schema.datasets import dataset_named
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.evaluate import evaluate_images
from qzoo.tasks.inputs.images import Images, evaluation_images
from qzoo.tasks.measuring.gather import gather_quantizers
from qzoo.weights.kinds import RECEIPT
from qzoo.weights.receipt import Receipt, load_receipt
from qzoo.zoo.name_lookup import find
from qzoo.zoo.pretrained import create_pretrained
from qzoo.zoo.zoo_model import ZooModel


@dataclass(frozen=True, repr=False)
class Verified(Readable):
    """What came of a verification.

    Attributes:
        name: full name of the variant.
        receipt: what was checked.
        usual: this machine's predictions beside the receipt's.
        exact: this machine's margins in float64 beside the receipt's, of some of the images.
        float_model: exact margins of the base, where the quantized model's did not fit: it says where to look.
    """

    also_shown: ClassVar[tuple[str, ...]] = ("reproduced", "cause")

    name: str
    receipt: Receipt
    usual: Usual
    exact: Exact
    float_model: Exact | None = None

    @property
    def reproduced(self) -> bool:
        """Whether this machine reproduces the claim."""
        return not self.exact.alarm and not self.usual.alarm

    @property
    def report(self) -> VerificationReport:
        """What was found, without the predictions themselves."""
        info = self.receipt.info
        return VerificationReport(
            name=self.name, reproduced=self.reproduced, cause=self.cause, dataset=info.dataset, split=info.split,
            usual=UsualAgreement(**asdict(self.usual)), exact=ExactAgreement(**asdict(self.exact)),
            receipt_images=len(self.receipt), claimed_top1=info.top1.get("quantized"), date=info.date,
            environment=info.environment,
        )  # fmt: skip

    @property
    def cause(self) -> str | None:
        """Where to look, if the claim is not reproduced."""
        if self.reproduced:
            return None
        if self.float_model is None:
            return "Exact margins agree, so it is the same model: the usual arithmetic of this machine is another one."
        if self.float_model.alarm:
            return (
                "The float model differs too, so it is not the quantizers: other base weights, another transform, or "
                "images that are decoded differently."
            )
        return "The float model agrees, so images and base weights are right: a range or a quantizer is another one."


@checked
def verify(
    name: str | Path,
    settings: Settings | None = None,
    *,
    images: int | None = None,
    receipt: Path | None = None,
    ranges: Path | None = None,
    model: nn.Module | None = None,
    details: Details | None = None,
    progress: Progress = silent,
) -> Verified:
    """Recomputes predictions and compares them with a receipt, image by image. No labels are needed.

    Args:
        name: a variant, a recipe file with one, or a hub model: `hf-hub:owner/repo`, or a folder.
        settings: data, device, batch size.
        images: how many to check; default: all that the receipt and this machine have.
        receipt: a file; default: what lies beside the variant's ranges.
        ranges: a file, to verify other ranges than those that are found by name.
        model: to verify instead: a float32 module, compiled or loaded by other means; it is run in float64 too.
        details: filled in with what a page shows beside the figures, see `qzoo.html`.
        progress: shown the batches.

    Raises:
        WeightsError: there is no receipt, it is damaged, or of another state of the recipe.
        DataError: the dataset is missing, or holds too few of the receipt's images.

    Example:
        >>> qzoo.verify("resnet8_digits_int8").reproduced
        True
    """
    settings = settings or Settings()
    zoo_model = find(name)
    resolved = zoo_model.resolved
    claim = load_receipt(_receipt_file(zoo_model, Path(receipt) if receipt else None))
    _check(claim, resolved)
    if model is None:
        with phase(progress, f"loading {zoo_model.name}"):
            model = create_pretrained(zoo_model) if ranges is None else quantized_model(resolved, Path(ranges))
    model = model.to(usable_device(settings.device))
    chosen = find_images(claim, _everything(resolved, settings), images, progress)
    found = evaluate_images(model, chosen.images, progress=progress, what=f"verifying {resolved.variant}")
    gather_quantizers(details, resolved.variant, model, chosen.images)
    usual = compare_usual(claim.quantized.at(chosen.rows), found.predicted)
    exact = _exact(model, claim.exact.quantized, chosen, progress, "in float64")
    if not exact.alarm:
        return Verified(resolved.name, claim, usual, exact)
    base = create_base(resolved.base, pretrained=True)
    return Verified(
        resolved.name, claim, usual, exact, _exact(base, claim.exact.float_model, chosen, progress, "float")
    )


def _exact(model: nn.Module, claimed: Tensor, chosen: Chosen, progress: Progress, what: str) -> Exact:
    return compare_exact(claimed[chosen.exact_rows], exact_margins(model, chosen.exact_images, progress, what))


def _everything(resolved: ResolvedVariant, settings: Settings) -> Images:
    return evaluation_images(
        resolved.base, resolved.dataset, settings.data, batch_size=settings.batch_size, workers=settings.workers
    )


def _receipt_file(zoo_model: ZooModel, given: Path | None) -> Path:
    path = given or zoo_model.artifact(RECEIPT)
    if path is None:
        command = zoo_model.command("evaluate", "--receipt FILE")
        raise WeightsError(f"There is no receipt for {zoo_model.name}. Give one with --receipt, or make one: {command}")
    return path


def _check(claim: Receipt, resolved: ResolvedVariant) -> None:
    if claim.info.recipe_sha256 != resolved.digest:
        raise WeightsError(
            f"The receipt is of {claim.info.name or 'another variant'} ({claim.info.recipe_sha256[:12]}), this is "
            f"{resolved.name} ({resolved.digest[:12]}): another variant, or another state of its recipe."
        )
    # A folder of images has the name of whoever measured on it.
    dataset = dataset_named(resolved.dataset)
    expected = (dataset.name, dataset.evaluated_on)
    if dataset.splits and (claim.info.dataset, claim.info.split) != expected:
        raise WeightsError(
            f"The receipt is of {shown(claim.info.dataset)} {shown(claim.info.split)}, and {resolved.name} is measured "
            f"on {' '.join(expected)}. Make one on that: qzoo evaluate ... --receipt FILE"
        )
