"""Training a variant by its recipe, and keeping what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from qzoo import environment
from qzoo.commands.keep import Kept, keep_trained
from qzoo.commands.settings import Settings, usable_device
from qzoo.commands.shared_calibration import SharedCalibration
from qzoo.commands.train_variant import Finetuned, images_to_train_on, run_folder, train_variant
from qzoo.distributed import failing_together, rank
from qzoo.errors import RecipeError
from qzoo.files import require_writable
from qzoo.models.bases import create_base
from qzoo.receipts.make import Receipts
from qzoo.schema.catalog import RecipeEntry
from qzoo.schema.finetune import FinetunePatch, FinetuneSpec
from qzoo.schema.recipe import Variant
from qzoo.schema.resolve import resolve
from qzoo.tasks.evaluate import evaluate_images
from qzoo.tasks.images import evaluation_images
from qzoo.tasks.progress import Progress, silent
from qzoo.tasks.training_run import Run
from qzoo.zoo.pretrained import check_published, warn_of_unpinned

TUNED = "tuned"
"""Ends the name of a variant that was trained otherwise than its recipe says."""


def trained_entry(entry: RecipeEntry, variant: str, changes: Mapping[str, Any]) -> tuple[RecipeEntry, str]:
    """Returns the recipe and the variant that a training is of.

    That is the variant itself where it says how it is trained and nothing is changed; else a new one, `int8_tuned`,
    which says so, since it is another model.

    Raises:
        RecipeError: the variant does not say how it is trained, and the changes do not either; or a value is wrong.
    """
    said = resolve(entry, variant).finetune
    if said is not None and not changes:
        return entry, variant
    if said is None and not {"epochs", "lr"} <= changes.keys():
        raise RecipeError(
            f"{entry.name}_{variant} does not say how it is trained. Say at least --epochs and --lr, such as "
            f"--epochs 1 --lr 1e-4; or write a `finetune` block into the recipe."
        )
    content = {} if said is None else said.model_dump(exclude_unset=True)
    try:
        spec = FinetuneSpec.model_validate(content | dict(changes))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "finetune"
        given = f" (given: {first['input']})" if isinstance(first["input"], str | int | float) else ""
        raise RecipeError(f"{place}: {str(first['msg']).removeprefix('Value error, ')}{given}.") from error
    if spec == said:
        return entry, variant
    name = f"{variant.removesuffix(f'_{TUNED}')}_{TUNED}"
    if name == variant:
        patch = FinetunePatch.model_validate(spec)
        return entry.with_variant(name, entry.recipe.variants[name].model_copy(update={"finetune": patch})), name
    return entry.with_variant(name, Variant.model_validate({"from": variant, "finetune": spec})), name


def finetune_named(
    entry: RecipeEntry,
    variant: str,
    settings: Settings | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    train_images: int | None = None,
    run: Run | None = None,
    progress: Progress = silent,
) -> tuple[Finetuned, Kept]:
    """Calibrates a variant, trains it by its `finetune` block, evaluates it, and keeps what comes of it.

    Args:
        entry: the recipe.
        variant: one of its variants.
        settings: data, device, number of images to calibrate and to evaluate on.
        changes: fields of the schedule that are not as the recipe says.
        train_images: how many to train on, a seeded sample; default all.
        run: where to keep the run, and how to carry it out; default: in qzoo's own folder, by name.
        progress: shown the batches.

    Raises:
        RecipeError: nothing says how it is trained.
        DataError: the dataset is missing, of the wrong kind, or smaller than a batch.
        TrainingError: loss, a gradient or a range became NaN or Inf.
        PeerError: another process of the same run failed.
    """
    settings = settings or Settings()
    entry, name = trained_entry(entry, variant, changes or {})
    as_said = name == variant and train_images is None and settings.calib_images is None
    resolved = resolve(entry, name)
    with failing_together():
        if rank() == 0:
            require_writable((run and run.folder) or run_folder(resolved.name))
            if as_said and entry.is_known:
                require_writable(environment.artifacts())
        images = images_to_train_on(resolved, settings, train_images)
        check_published(entry, resolved)
        warn_of_unpinned(entry)
        float_model = create_base(resolved.base, pretrained=True).to(usable_device(settings.device))
        shared = SharedCalibration(float_model, [resolved], settings, progress)
        judged = evaluation_images(
            resolved.base, resolved.dataset, settings.data,
            images=settings.eval_images, batch_size=settings.batch_size, workers=settings.workers,
        )  # fmt: skip
        baseline = evaluate_images(float_model, judged, progress=progress, what="evaluating float")
        made = train_variant(shared, resolved, images, judged, run=run, progress=progress)
        receipts = Receipts(float_model, judged, baseline, settings.device, progress)
        return made, keep_trained(entry, made, receipts, by_name=as_said)
