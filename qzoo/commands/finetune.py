"""Training a variant by its recipe, and keeping what comes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from qzoo import environment
from qzoo.commands.keep import Kept, keep_trained
from qzoo.commands.settings import Settings
from qzoo.commands.shared_calibration import shared_calibration
from qzoo.commands.train_variant import Finetuned, images_to_train_on, run_folder, train_variant
from qzoo.distributed import failing_together, rank
from qzoo.errors import RecipeError, UnknownNameError, did_you_mean
from qzoo.files import require_writable
from qzoo.progress import Progress, phase, silent
from qzoo.receipts.make import Receipts
from qzoo.results.details import Details
from qzoo.schema.finetune import FinetunePatch, FinetuneSpec
from qzoo.schema.reading.yaml_source import parse_yaml
from qzoo.schema.recipe import Variant
from qzoo.tasks.evaluate import evaluate_images
from qzoo.tasks.inputs.images import evaluation_images
from qzoo.tasks.measuring.gather import gather_flips, gather_quantizers
from qzoo.tasks.training_run import Run
from qzoo.zoo.zoo_model import ZooModel

TUNED = "tuned"
"""Ends the name of a variant that was trained otherwise than its recipe says."""


def tuned(zoo_model: ZooModel, changes: Mapping[str, Any]) -> ZooModel:
    """Returns the variant that a training is of.

    That is the variant itself where it says how it is trained and nothing is changed; else a new one, `int8_tuned`,
    which says so, since it is another model.

    Raises:
        RecipeError: the variant does not say how it is trained, and the changes do not either; or a value is wrong.
    """
    said, variant = zoo_model.resolved.finetune, str(zoo_model.variant)
    if said is not None and not changes:
        return zoo_model
    if said is None and not {"epochs", "lr"} <= changes.keys():
        raise RecipeError(
            f"{zoo_model.name} does not say how it is trained. Say at least --epochs and --lr, such as "
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
        return zoo_model
    entry, name = zoo_model.entry, f"{variant.removesuffix(f'_{TUNED}')}_{TUNED}"
    if name == variant:
        patch = FinetunePatch.model_validate(spec)
        written = entry.recipe.variants[name].model_copy(update={"finetune": patch})
    else:
        written = Variant.model_validate({"from": variant, "finetune": spec})
    return ZooModel(entry.with_variant(name, written), name)


def finetune_named(
    zoo_model: ZooModel,
    settings: Settings | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
    train_images: int | None = None,
    run: Run | None = None,
    details: Details | None = None,
    progress: Progress = silent,
) -> tuple[Finetuned, Kept]:
    """Calibrates a variant, trains it by its `finetune` block, evaluates it, and keeps what comes of it.

    Args:
        zoo_model: a variant.
        settings: data, device, number of images to calibrate and to evaluate on.
        changes: fields of the schedule that are not as the recipe says.
        train_images: how many to train on, a seeded sample; default all.
        run: where to keep the run, and how to carry it out; default: in qzoo's own folder, by name.
        details: filled in with what a page shows beside the figures, see `qzoo.html`.
        progress: shown the batches.

    Raises:
        RecipeError: nothing says how it is trained.
        DataError: the dataset is missing, of the wrong kind, or smaller than a batch.
        TrainingError: loss, a gradient or a range became NaN or Inf.
        PeerError: another process of the same run failed.
    """
    settings = settings or Settings()
    variant = tuned(zoo_model, changes or {})
    as_said = variant is zoo_model and train_images is None and settings.calib_images is None
    resolved = variant.resolved
    with failing_together():
        if rank() == 0:
            require_writable((run and run.folder) or run_folder(resolved.name))
            if as_said and variant.entry.source.in_catalog:
                require_writable(environment.artifacts())
        with phase(progress, f"opening {resolved.dataset}"):
            images = images_to_train_on(resolved, settings, train_images)
        shared = shared_calibration([variant], settings, progress)
        judged = evaluation_images(
            resolved.base, resolved.dataset, settings.data,
            images=settings.eval_images, batch_size=settings.batch_size, workers=settings.workers,
        )  # fmt: skip
        baseline = evaluate_images(shared.float_model, judged, progress=progress, what="evaluating float")
        made = train_variant(shared, resolved, images, judged, run=run, progress=progress)
        receipts = Receipts(shared.float_model, judged, baseline, settings.device, progress)
        gather_quantizers(details, resolved.variant, made.model, judged)
        gather_flips(details, judged, baseline, {resolved.variant: made.evaluation})
        return made, keep_trained(variant, made, receipts, by_name=as_said)


def parse_changes(given: Sequence[str]) -> dict[str, Any]:
    """Returns the fields that are set, by name; the values are read as YAML, and checked when they are used.

    Raises:
        UnknownNameError: a field has no such name; with the nearest.
        RecipeError: there is no `=`, or the value is no YAML.

    Example:
        >>> parse_changes(["schedule=cosine", "ema=0.99", "distill={temperature: 2}"])
        {'schedule': 'cosine', 'ema': 0.99, 'distill': {'temperature': 2}}
    """
    changes = {}
    for text in given:
        field, sign, value = (part.strip() for part in text.partition("="))
        if not sign:
            raise RecipeError(f"--set {text}: expected FIELD=VALUE, such as --set schedule=cosine.")
        if field not in FinetuneSpec.model_fields:
            raise UnknownNameError(f"--set {text}: {_no_field(field, value)}")
        changes[field] = _value(text, value)
    return changes


def _no_field(field: str, value: str) -> str:
    block, _, inner = field.partition(".")
    if inner and block in FinetuneSpec.model_fields:
        return f"the fields of `{block}` are given together: --set '{block}={{{inner}: {value}}}'."
    return f"a schedule has no field '{field}'. {did_you_mean(field, FinetuneSpec.model_fields)}"


def _value(text: str, value: str) -> Any:
    try:
        return parse_yaml(value, "the value")[0]
    except RecipeError as error:
        raise RecipeError(f"--set {text}: the value is no YAML. Write it as in a recipe: --set ema=0.99.") from error
