"""Keeping what a training made: the whole model, its receipt, its report and picture, and the recipe that says all."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from qzoo import environment
from qzoo.commands.train_variant import Finetuned
from qzoo.distributed import rank
from qzoo.files import replacing, write_text
from qzoo.models.whole_model import save_whole
from qzoo.receipts.make import Receipts
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.loading import dump_yaml
from qzoo.weights.kinds import MODEL, RECEIPT, TRAINING, beside_recipe
from qzoo.weights.receipt import save_receipt


@dataclass(frozen=True)
class Kept:
    """Where a trained model is kept.

    Attributes:
        folder: of the run.
        address: what `qzoo.create` takes for it.
    """

    folder: Path
    address: str


def keep_trained(entry: RecipeEntry, made: Finetuned, receipts: Receipts, *, by_name: bool) -> Kept:
    """Writes what a training made into the folder of its run.

    The folder holds the recipe, which needs no other file, and beside it what `qzoo.create(RECIPE, pretrained=True)`
    and `qzoo push RECIPE:VARIANT` look for; `training.csv` and `training.png` show the curve.

    Args:
        entry: the recipe.
        made: the training.
        receipts: of the images that the model was evaluated on.
        by_name: the variant was trained as its recipe says, so that its name alone may find it on this machine.
    """
    if rank() > 0:
        return Kept(made.folder, made.variant.name)
    name, recipe = made.variant.name, made.folder / f"{entry.name}.yaml"
    write_text(recipe, dump_yaml(entry.self_contained(made.variant.variant)))
    folder = made.folder / "artifacts"
    # Not packed: whoever trains on needs the weights between the steps of the grid.
    save_whole(made.model, folder / f"{name}{MODEL.suffix}", packed=False)
    save_receipt(folder / f"{name}{RECEIPT.suffix}", receipts.of(made.model, made.evaluation))
    write_text(folder / f"{name}{TRAINING.suffix}", made.report.model_dump_json(indent=1) + "\n")
    if not by_name or not entry.is_known:
        return Kept(made.folder, f"{recipe}:{made.variant.variant}")
    for kind in (MODEL, RECEIPT, TRAINING):
        _copy(folder / f"{name}{kind.suffix}", environment.artifacts() / f"{name}{kind.suffix}")
    # What is shipped goes before what is trained here.
    shipped = beside_recipe(entry, name, MODEL)
    address = f"{recipe}:{made.variant.variant}" if shipped is not None and shipped.is_file() else name
    return Kept(made.folder, address)


def _copy(source: Path, target: Path) -> None:
    with replacing(target) as unfinished:
        shutil.copyfile(source, unfinished)
