"""Keeping what work made: ranges and histograms of a calibration; model, receipt, report and picture of a training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from qzoo import environment
from qzoo.commands.images_picture import keep_picture
from qzoo.commands.shared_calibration import SharedCalibration
from qzoo.commands.train_variant import Finetuned
from qzoo.distributed import rank
from qzoo.files import copy, write_text
from qzoo.models.bases import identity
from qzoo.models.full_checkpoint import save_full_checkpoint
from qzoo.receipts.make import Receipts
from qzoo.schema.reading.loading import dump_yaml
from qzoo.tasks.saving import save
from qzoo.weights.histograms import HistogramsInfo, save_histograms
from qzoo.weights.kinds import HISTOGRAMS, MODEL, RANGES, RECEIPT, TRAINING, beside_recipe
from qzoo.weights.receipt import save_receipt
from qzoo.zoo.zoo_model import ZooModel


def histograms_path(ranges: Path) -> Path:
    """Returns where the histograms of a ranges file lie: beside it.

    Example:
        >>> histograms_path(Path("resnet50_int8.ranges.safetensors")).name
        'resnet50_int8.histograms.safetensors'
    """
    stem = ranges.name.removesuffix(RANGES.suffix).removesuffix(f".{RANGES.extension}")
    return ranges.with_name(stem + HISTOGRAMS.suffix)


def keep_calibration(path: Path, shared: SharedCalibration, zoo_model: ZooModel, model: nn.Module) -> Path | None:
    """Writes what makes a calibrated variant of its base, and beside ranges alone their histograms, if these were kept.

    Args:
        path: the path of the file; replaced in one step.
        shared: the calibration that made the model.
        zoo_model: the variant.
        model: calibrated.

    Returns:
        The path of the histograms.
    """
    variant = zoo_model.resolved
    images = shared.images_of(variant)
    sha256 = images.digest()
    save(model, path, images=len(images), sample_sha256=sha256)
    keep_picture(path, images)
    # Ranges that were optimized come of more than a histogram.
    if not shared.keep_histograms or variant.optimize is not None:
        return None
    info = HistogramsInfo(
        base=zoo_model.entry.name,
        variant=variant.variant,
        recipe=dump_yaml(zoo_model.entry.self_contained(variant.variant)),
        binning=variant.calibration.binning,
        calibration_images=len(images),
        calibration_sha256=sha256,
        **identity(model),
    )
    save_histograms(histograms_path(path), shared.histograms(variant), info)
    return histograms_path(path)


@dataclass(frozen=True)
class Kept:
    """Where a trained model is kept.

    Attributes:
        folder: the folder of the run.
        address: what `qzoo.create` takes for it.
    """

    folder: Path
    address: str


def keep_trained(zoo_model: ZooModel, made: Finetuned, receipts: Receipts, *, by_name: bool) -> Kept:
    """Writes what a training made into the folder of its run.

    The folder holds the recipe, which needs no other file, and beside it what `qzoo.create(RECIPE, pretrained=True)`
    and `qzoo push RECIPE:VARIANT` look for; `training.csv` and `training.png` show the curve.

    Args:
        zoo_model: the variant.
        made: the training.
        receipts: the maker of receipts of the images that the model was evaluated on.
        by_name: the variant was trained as its recipe says, so that its name alone may find it on this machine.
    """
    if rank() > 0:
        return Kept(made.folder, zoo_model.name)
    name, entry = zoo_model.name, zoo_model.entry
    recipe = made.folder / f"{entry.name}.yaml"
    write_text(recipe, dump_yaml(entry.self_contained(made.variant.variant)))
    folder = made.folder / "artifacts"
    # Not packed: whoever trains on needs the weights between the steps of the grid.
    save_full_checkpoint(made.model, folder / f"{name}{MODEL.suffix}", packed=False)
    save_receipt(folder / f"{name}{RECEIPT.suffix}", receipts.of(made.model, made.evaluation))
    write_text(folder / f"{name}{TRAINING.suffix}", made.report.model_dump_json(indent=1) + "\n")
    if not by_name or not entry.source.in_catalog:
        return Kept(made.folder, f"{recipe}:{made.variant.variant}")
    for kind in (MODEL, RECEIPT, TRAINING):
        copy(folder / f"{name}{kind.suffix}", environment.artifacts() / f"{name}{kind.suffix}")
    # What is shipped goes before what is trained here.
    shipped = beside_recipe(entry, name, MODEL)
    address = f"{recipe}:{made.variant.variant}" if shipped is not None and shipped.is_file() else name
    return Kept(made.folder, address)
