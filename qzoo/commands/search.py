"""Searching by the name of a model: its recipe's images, the variant that a target wants, and what is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qzoo import environment
from qzoo.commands.settings import Settings, usable_device
from qzoo.data import ArraySplit
from qzoo.errors import ArgumentError
from qzoo.files import write_text
from qzoo.models.bases import create_base
from qzoo.progress import Progress, silent
from qzoo.results.search import SearchReport
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.runtime import Runtime
from qzoo.schema.recipe import Variant
from qzoo.schema.resolution.resolve import recipe_digest
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import Images, evaluation_images
from qzoo.tasks.measuring.machine import environment as machine
from qzoo.tasks.search import search_variant
from qzoo.tasks.searching.question import SearchImages, question
from qzoo.zoo.latency_tables import is_timed, tabled
from qzoo.zoo.pretrained import check_hub_model, warn_of_unpinned
from qzoo.zoo.zoo_model import ZooModel

USUAL_EVALUATED = 512
"""Images that choices are measured on, where nobody says how many."""
LARGE_IMAGES_BATCH = 8
"""What a batch leaves behind is kept while it is scored, 30 to 100 MB an image of 224 pixels."""
SUFFIX = ".search.json"


def search_named(
    zoo_model: ZooModel,
    settings: Settings | None = None,
    *,
    budget: Mapping[str, float | None],
    target: str | None = None,
    candidates: Sequence[str] | None = None,
    keep: Sequence[str] = (),
    latency_table: Path | None = None,
    score_images: int = 128,
    points: int = 6,
    neighbours: int = 12,
    progress: Progress = silent,
) -> tuple[ZooModel, SearchReport]:
    """Returns the variant that choices are changes of, and what was found.

    The report is kept as `NAME.search.json` among the artifacts of this machine; of a search that is interrupted, the
    scores are, and it goes on with them.

    Args:
        zoo_model: a variant; or a base, of which the variant that fits the target is taken.
        settings: data, device, numbers of images; default: 512 to measure on.
        budget: as for `qzoo.search`.
        target: the name of a runtime.
        candidates: as for `qzoo.search`.
        keep: globs over names of layers that stay as they are.
        latency_table: a file that is taken in place of one that is measured.
        score_images: images that losses are computed from.
        points: of the curve.
        neighbours: that are tried in each round.
        progress: shown the batches.

    Raises:
        ArgumentError: there is no budget, or a candidate is none; or the variant is to be trained.
        UnsupportedError: no choice keeps to the budget.
        WeightsError: the base's weights are missing.
        DataError: the dataset is missing.
    """
    settings, runtime = settings or Settings(), None if target is None else runtime_named(target)
    asked = question(
        budget, candidates, runtime, has_latency=is_timed(runtime, latency_table), keep=keep,
        score_images=score_images, points=points, neighbours=neighbours,
    )  # fmt: skip
    start = starting_variant(zoo_model, runtime)
    table = tabled(runtime, latency_table, None, progress) if runtime and asked.needs_latency else None
    variant = start.resolved
    images = looked_at(start, settings, score_images)
    check_hub_model(start)
    warn_of_unpinned(start)
    float_model = create_base(start.base, pretrained=True).to(usable_device(settings.device))
    folder = environment.runs() / f"{variant.name}.search"
    found = search_variant(
        float_model, variant, images, asked, target=runtime, tabled=table, folder=folder, progress=progress
    )
    facts: dict[str, Any] = {
        "variant": variant.variant, "version": variant.version, "dataset": variant.dataset,
        "split": images.evaluation.split.name, "recipe_sha256": recipe_digest(start.entry),
        "environment": machine(settings.device),
    }  # fmt: skip
    report = found.model_copy(update=facts)
    write_text(kept_at(variant.name), report.to_json() + "\n")
    return start, report


def kept_at(name: str) -> Path:
    """Returns where the last search of a variant is kept."""
    return environment.artifacts() / f"{name}{SUFFIX}"


def starting_variant(zoo_model: ZooModel, target: Runtime | None) -> ZooModel:
    """Returns the variant that a search changes: itself; of a base the one of the target's scheme, or `int8`.

    Raises:
        ArgumentError: it is one that is trained, of which no layer can be changed without training anew.
    """
    if zoo_model.variant is None:
        scheme = "int8" if target is None else target.scheme
        entry = zoo_model.entry
        if scheme not in entry.variants:
            entry = entry.with_variant(scheme, Variant.model_validate({"scheme": scheme}))
        zoo_model = ZooModel(entry, scheme)
    if zoo_model.resolved.finetune is not None:
        others = [one.address for one in zoo_model.variants if one.resolved.finetune is None]
        raise ArgumentError(
            f"{zoo_model.address} is trained; a search changes how layers are quantized, and would lose the training. "
            f"Start from a variant that is calibrated: {', '.join(others)}."
        )
    return zoo_model


def looked_at(zoo_model: ZooModel, settings: Settings, score_images: int) -> SearchImages:
    """Returns the images of a variant's recipe: to calibrate on, to score some of these, and others to measure on."""
    base, dataset, spec = zoo_model.base, zoo_model.dataset, zoo_model.resolved.calibration
    calibration = calibration_images(
        base, dataset, spec, settings.data, images=settings.calib_images, batch_size=settings.batch_size,
        workers=settings.workers,
    )  # fmt: skip
    every = evaluation_images(base, dataset, settings.data, batch_size=settings.batch_size, workers=settings.workers)
    wanted = min(settings.eval_images or USUAL_EVALUATED, len(every))
    evaluation = evaluation_images(
        base, dataset, settings.data, images=wanted, batch_size=settings.batch_size, workers=settings.workers
    )
    scored, counts = _scored(calibration, score_images), (len(calibration), len(evaluation))
    return SearchImages(calibration, evaluation, scored=scored, counts=counts)


def _scored(images: Images, most: int) -> Images:
    """Returns so many of the calibration images, from the first to the last: their order may be that of classes."""
    count = min(most, len(images))
    indices = [images.indices[place * len(images) // count] for place in range(count)]
    small = isinstance(images.split, ArraySplit) or images.source != "images"
    return replace(images, indices=indices, batch_size=min(images.batch_size, count if small else LARGE_IMAGES_BATCH))
