"""Rerunning a recipe: calibrate and evaluate each variant, and hold the result against what was published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qzoo.build.bases import base_transform, create_base
from qzoo.data import evaluation_split
from qzoo.schema.catalog import Catalog, RecipeEntry
from qzoo.schema.published import Claim
from qzoo.schema.recipe import CalibrationSpec
from qzoo.schema.report import CalibrationReport, Report, ReportRow
from qzoo.schema.resolve import ResolvedVariant, resolve
from qzoo.tasks.evaluate import Evaluation, evaluate
from qzoo.tasks.images import Images, calibration_images, evaluation_images
from qzoo.tasks.machine import environment
from qzoo.tasks.progress import Progress, silent
from qzoo.tasks.shared_calibration import SharedCalibration
from qzoo.tasks.verdict import judge


@dataclass(frozen=True)
class Settings:
    """What a run may change of what the recipe says. Fewer images make every verdict `partial`.

    Attributes:
        data: folder of the dataset, or of all datasets; default `QZOO_DATA`.
        calib_images: images to calibrate on.
        eval_images: images to evaluate on, a seeded sample.
        batch_size: images at a time, everywhere.
        device: `cpu`, `cuda` ...
        only: variants to run; default: all that need no training.
    """

    data: Path | None = None
    calib_images: int | None = None
    eval_images: int | None = None
    batch_size: int | None = None
    device: str = "cpu"
    only: Sequence[str] = ()


def reproduce(
    name: str | Path = "resnet8_digits",
    settings: Settings | None = None,
    *,
    progress: Progress = silent,
    **changes: Any,
) -> Report:
    """Calibrates and evaluates the variants of a recipe, and compares them with the published figures.

    Args:
        name: a base (`resnet20_cifar10`), one of its variants, or a recipe file.
        settings: what to change of what the recipe says.
        progress: shown the batches.
        changes: fields of `Settings`, by name: `reproduce("resnet8_digits", eval_images=100)`.

    Returns:
        A row for the float model and one for each variant, with verdicts.

    Raises:
        UnknownNameError: no recipe or variant has the name.
        DataError: the dataset is missing or of the wrong kind, or holds fewer images than asked for.

    Example:
        >>> report = reproduce("resnet8_digits", only=["int8"])
        >>> [row.variant for row in report.rows]
        ['float', 'int8']
    """
    settings = settings or Settings(**changes)
    entry, variant = Catalog.load().find(str(name))
    variants, left_out = runnable(entry, [variant] if variant and not settings.only else settings.only)
    return _run(entry, variants, left_out, settings, progress)


def runnable(entry: RecipeEntry, only: Sequence[str] = ()) -> tuple[list[ResolvedVariant], dict[str, str]]:
    """Returns the variants that calibration alone makes, and why each other one is left out."""
    chosen = [resolve(entry, name) for name in only or entry.variants]
    left_out = {v.variant: reason for v in chosen if (reason := _reason_to_leave_out(v))}
    return [variant for variant in chosen if variant.variant not in left_out], left_out


def _reason_to_leave_out(variant: ResolvedVariant) -> str | None:
    if variant.finetune is not None:
        return "needs training"
    return "needs residual quantizers" if variant.residual is not None else None


def _run(
    entry: RecipeEntry,
    variants: list[ResolvedVariant],
    left_out: dict[str, str],
    settings: Settings,
    progress: Progress,
) -> Report:
    recipe = entry.recipe
    transform, split = base_transform(recipe.base), evaluation_split(recipe.dataset)
    images = evaluation_images(
        recipe.dataset, split, transform, settings.data, images=settings.eval_images, batch_size=settings.batch_size
    )

    def images_of(spec: CalibrationSpec) -> Images:
        return calibration_images(
            recipe.dataset,
            spec,
            transform,
            settings.data,
            evaluated_on=split,
            images=settings.calib_images,
            batch_size=settings.batch_size,
        )

    float_model = create_base(recipe.base, pretrained=True).to(settings.device)
    baseline = evaluate(float_model, images, progress=progress, count=len(images), what="evaluating float")
    shared = SharedCalibration(float_model, variants, images_of, progress)
    measured: dict[str, tuple[Evaluation, float]] = {}
    for variant in variants:
        start = time.perf_counter()
        model = shared.calibrated(variant)
        what = f"evaluating {variant.variant}"
        result = evaluate(model, images, progress=progress, count=len(images), what=what)
        measured[variant.variant] = result, time.perf_counter() - start
    return Report(
        name=entry.name,
        version=recipe.version,
        dataset=recipe.dataset,
        split=split,
        images=len(images),
        complete=_complete(images),
        rows=_rows(entry, baseline, variants, measured, _complete(images), _shortened(shared, settings)),
        excluded=left_out,
        calibration=_calibration_report(shared, variants),
        recipe_sha256=entry.digest,
        environment=environment(settings.device),
    )


def _complete(images: Images) -> bool:
    return len(images) == len(images.split) and images.split.complete


def _shortened(shared: SharedCalibration, settings: Settings) -> bool:
    """Whether fewer images were calibrated on than the recipe says."""
    return settings.calib_images is not None or any(images.short for images in shared.images)


def _calibration_report(shared: SharedCalibration, variants: Sequence[ResolvedVariant]) -> CalibrationReport | None:
    if not shared.images:
        return None
    images = shared.images[0]
    leak = any(variant.calibration.allow_leak for variant in variants)
    return CalibrationReport(images=len(images), sample_sha256=images.digest(), allow_leak=leak, short=images.short)


def _rows(
    entry: RecipeEntry,
    baseline: Evaluation,
    variants: Sequence[ResolvedVariant],
    measured: dict[str, tuple[Evaluation, float]],
    complete: bool,
    shortened: bool,
) -> list[ReportRow]:
    top1 = {name: evaluation.top1 or 0.0 for name, (evaluation, _) in measured.items()}

    def row(
        variant: str,
        stage: Literal["float", "ptq"],
        method: str | None,
        result: Evaluation,
        seconds: float,
        claims: Sequence[Claim],
        whole: bool,
    ) -> ReportRow:
        return ReportRow(
            variant=variant,
            stage=stage,
            method=method,
            top1=round(result.top1 or 0.0, 4),
            top5=round(result.top5 or 0.0, 4),
            ci95=result.ci95 or (0.0, 100.0),
            agreement_with_float=round(result.agreement(baseline), 4),
            published=list(claims),
            verdict=judge(claims, result.top1 or 0.0, whole, top1),
            seconds=round(seconds, 2),
        )

    rows = [row("float", "float", None, baseline, baseline.seconds, entry.recipe.published, complete)]
    for variant in variants:
        result, seconds = measured[variant.variant]
        whole = complete and not shortened
        rows.append(row(variant.variant, "ptq", variant.method, result, seconds, variant.published, whole))
    return rows
