"""Rerunning a recipe: calibrate and evaluate each variant, and hold the result against what was published."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from qzoo.build.bases import base_transform, create_base
from qzoo.build.quantize import quantize_in_place
from qzoo.data import evaluation_split
from qzoo.quant.calibration import Collection, activation_quantizers, solve_ranges
from qzoo.schema.catalog import Catalog, RecipeEntry
from qzoo.schema.published import Claim
from qzoo.schema.report import CalibrationReport, Report, ReportRow
from qzoo.schema.resolve import ResolvedVariant, resolve
from qzoo.tasks.calibrate import collect
from qzoo.tasks.evaluate import Evaluation, evaluate
from qzoo.tasks.images import Images, calibration_images, evaluation_images
from qzoo.tasks.machine import environment
from qzoo.tasks.progress import Progress, silent
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


def reproduce(name: str | Path = "resnet8_digits", settings: Settings | None = None, *, progress: Progress = silent,
              **changes: object) -> Report:  # fmt: skip
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
    settings = settings or Settings(**changes)  # type: ignore[arg-type]
    entry, variant = Catalog.load().find(str(name))
    only = [variant] if variant and not settings.only else list(settings.only)
    return _Run(entry, settings, progress, only).report()


def runnable(entry: RecipeEntry, only: Sequence[str]) -> tuple[list[ResolvedVariant], dict[str, str]]:
    """Returns the variants that calibration alone makes, and why each other one is left out."""
    chosen = [resolve(entry, name) for name in only or entry.variants]
    reasons = {}
    for variant in chosen:
        if variant.finetune is not None:
            reasons[variant.variant] = "needs training"
        elif variant.residual is not None:
            reasons[variant.variant] = "needs residual quantizers"
    return [variant for variant in chosen if variant.variant not in reasons], reasons


@dataclass
class _Run:
    entry: RecipeEntry
    settings: Settings
    progress: Progress
    only: Sequence[str]
    collections: dict[str, tuple[Images, Collection]] = field(default_factory=dict)

    def report(self) -> Report:
        recipe = self.entry.recipe
        variants, left_out = runnable(self.entry, self.only)
        transform = base_transform(recipe.base)
        split = evaluation_split(recipe.dataset)
        images = evaluation_images(recipe.dataset, split, transform, self.settings.data,
                                   images=self.settings.eval_images, batch_size=self.settings.batch_size or 250)  # fmt: skip
        float_model = create_base(recipe.base, pretrained=True).to(self.settings.device)
        baseline = self._evaluate(float_model, images, "float")
        results = {v.variant: self._variant(v, variants, float_model, images, transform) for v in variants}
        calibrated = next(iter(self.collections.values()), None)
        complete = len(images) == len(images.split) and images.split.complete
        rows = _rows(self.entry, baseline, variants, results, complete, self._shortened())
        return Report(
            name=self.entry.name, version=recipe.version, dataset=recipe.dataset, split=split, images=len(images),
            complete=complete, rows=rows, excluded=left_out,
            calibration=None if calibrated is None else CalibrationReport(
                images=len(calibrated[0]), sample_sha256=calibrated[0].digest(),
                allow_leak=any(v.calibration.allow_leak for v in variants)),
            recipe_sha256=self.entry.digest, environment=environment(self.settings.device),
        )  # fmt: skip

    def _shortened(self) -> bool:
        """Whether fewer images were calibrated on than the recipe says."""
        return self.settings.calib_images is not None or any(images.short for images, _ in self.collections.values())

    def _evaluate(self, model: nn.Module, images: Images, what: str) -> Evaluation:
        return evaluate(model, images, progress=self.progress, count=len(images), what=f"evaluating {what}")

    def _variant(
        self, variant: ResolvedVariant, variants: Sequence[ResolvedVariant], float_model: nn.Module, images: Images,
        transform: object,
    ) -> tuple[Evaluation, float]:  # fmt: skip
        start = time.perf_counter()
        model = _quantized(float_model, variant)
        solve_ranges(model, self._collection(model, variant, variants, float_model, transform))
        evaluation = self._evaluate(model, images, variant.variant)
        return evaluation, time.perf_counter() - start

    def _collection(
        self, model: nn.Module, variant: ResolvedVariant, variants: Sequence[ResolvedVariant], float_model: nn.Module,
        transform: object,
    ) -> Collection:  # fmt: skip
        """One collection serves every variant that calibrates on the same images and has no other quantizers."""
        key = variant.calibration.model_dump_json()
        if key in self.collections and set(activation_quantizers(model)) <= set(self.collections[key][1]):
            return self.collections[key][1]
        spec = variant.calibration
        images = calibration_images(
            variant.dataset, spec, transform, self.settings.data, evaluated_on=evaluation_split(variant.dataset),
            images=self.settings.calib_images, batch_size=self.settings.batch_size,
        )  # fmt: skip
        same = [v for v in variants if v.calibration == spec]
        collected = collect(model, images, binning=spec.binning, histograms=_histograms(float_model, same),
                            progress=self.progress, count=len(images))  # fmt: skip
        self.collections[key] = (images, collected)
        return collected


def _quantized(float_model: nn.Module, variant: ResolvedVariant) -> nn.Module:
    model = copy.deepcopy(float_model)
    quantize_in_place(model, variant)
    return model


def _histograms(float_model: nn.Module, variants: Sequence[ResolvedVariant]) -> set[str]:
    """Returns the quantizers of which any of the variants wants a histogram."""
    from qzoo.build.quantize import plan_quantizers

    return {
        f"{planned.module}.{planned.role}_quantizer"
        for variant in variants
        for planned in plan_quantizers(float_model, variant).quantizers
        if planned.spec.calibrator.collector == "histogram"
    }


def _rows(
    entry: RecipeEntry, baseline: Evaluation, variants: Sequence[ResolvedVariant],
    results: dict[str, tuple[Evaluation, float]], complete: bool, shortened: bool,
) -> list[ReportRow]:  # fmt: skip
    measured = {name: evaluation.top1 or 0.0 for name, (evaluation, _) in results.items()}
    rows = [
        _row(
            "float",
            "float",
            None,
            baseline,
            baseline,
            baseline.seconds,
            entry.recipe.claims,
            complete,
            measured,
        )
    ]
    for variant in variants:
        evaluation, seconds = results[variant.variant]
        whole = complete and not shortened
        rows.append(_row(variant.variant, "ptq", variant.method, evaluation, baseline, seconds, variant.published,
                         whole, measured))  # fmt: skip
    return rows


def _row(
    variant: str, stage: str, method: str | None, evaluation: Evaluation, baseline: Evaluation, seconds: float,
    claims: Sequence[Claim], complete: bool, measured: dict[str, float],
) -> ReportRow:  # fmt: skip
    top1 = evaluation.top1 or 0.0
    return ReportRow(
        variant=variant, stage=stage, method=method, top1=round(top1, 4), top5=round(evaluation.top5 or 0.0, 4),
        ci95=evaluation.ci95 or (0.0, 100.0), agreement_with_float=round(evaluation.agreement(baseline), 4),
        published=list(claims), verdict=judge(claims, top1, complete, measured), seconds=round(seconds, 2),
    )  # fmt: skip
