"""Rerunning a recipe: calibrate and evaluate each variant, and hold the result against what was published."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from qzoo.arguments import checked
from qzoo.commands.keep import keep_calibration, keep_trained
from qzoo.commands.optimize import ptq_model
from qzoo.commands.settings import Settings, usable_device
from qzoo.commands.shared_calibration import SharedCalibration
from qzoo.commands.train_variant import images_to_train_on, train_variant
from qzoo.distributed import failing_together, rank, world_size
from qzoo.errors import UnknownNameError, UnsupportedError, did_you_mean
from qzoo.files import require_writable
from qzoo.models.bases import create_base
from qzoo.models.provenance import ranges_from
from qzoo.progress import Progress, phase, silent
from qzoo.receipts.make import Receipts
from qzoo.results.claim_verdict import judge
from qzoo.results.details import Details
from qzoo.results.reproduce import CalibrationReport, Report, ReportRow
from qzoo.results.training import TrainingReport
from qzoo.schema.calibration import MADE_FROM, Source
from qzoo.schema.recipe import Claim
from qzoo.schema.resolution.resolve import recipe_digest
from qzoo.tasks.evaluate import Evaluation, evaluate_images, flips_between
from qzoo.tasks.inputs.images import evaluation_images, is_complete
from qzoo.tasks.measuring.gather import gather_flips, gather_quantizers
from qzoo.tasks.measuring.machine import environment
from qzoo.tasks.training_run import Run
from qzoo.weights.kinds import RECEIPT
from qzoo.weights.receipt import save_receipt
from qzoo.zoo.name_lookup import find
from qzoo.zoo.pretrained import check_hub_model, warn_of_unpinned
from qzoo.zoo.zoo_model import ZooModel

Stage = Literal["ptq", "qat", "all"]
STAGES: tuple[Stage, ...] = ("ptq", "qat", "all")


@checked
def reproduce(
    name: str | Path = "resnet8_digits",
    settings: Settings | None = None,
    *,
    only: str | Sequence[str] = (),
    stage: Stage = "ptq",
    artifacts: Path | None = None,
    run: Run | None = None,
    details: Details | None = None,
    progress: Progress = silent,
    **changes: Any,
) -> Report:
    """Calibrates, trains and evaluates the variants of a recipe, and compares them with the published figures.

    Args:
        name: a base (`resnet20_cifar10`), one of its variants, or a recipe file.
        settings: data, device, and what to change of what the recipe says.
        only: variants to run; default: all of the stage.
        stage: `ptq`, variants that are calibrated, and optimized if they say so; `qat`, those that are trained after
            that; or `all`.
        artifacts: a folder that gets ranges, histograms and receipt of each calibrated variant; default: none are kept.
        run: how trainings are carried out; `run.folder` gets a folder for each, default: in qzoo's own folder.
        details: filled in with what a page shows beside the figures, see `qzoo.html`.
        progress: shown the batches.
        changes: fields of `Settings`, by name: `reproduce("resnet8_digits", eval_images=100)`.

    Returns:
        A row for the float model and one for each variant, with verdicts.

    Raises:
        UnknownNameError: no recipe or variant has the name.
        UnsupportedError: a variant that is named is not of the stage, or the device can't be used.
        TrainingError: a training left the finite numbers.
        DataError: the dataset is missing or of the wrong kind, or holds fewer images than asked for.
        PeerError: another process of the same run failed.

    Example:
        >>> report = reproduce("resnet8_digits", only=["int8"])
        >>> [row.variant for row in report.rows]
        ['float', 'int8']
    """
    artifacts = None if artifacts is None else Path(artifacts)
    zoo_model = find(name)
    base, known = zoo_model.entry.name, zoo_model.entry.variants
    named = [only] if isinstance(only, str) else only
    named = [name.removeprefix(f"{base}_") if name not in known else name for name in named]
    named = named or ([zoo_model.variant] if zoo_model.variant else ())
    variants, left_out = runnable(zoo_model, named, stage)
    if named and left_out:
        reasons = ", ".join(f"{one} ({reason})" for one, reason in left_out.items())
        raise UnsupportedError(f"Not of the stage {stage}: {reasons}.")
    with failing_together():
        changed = replace(settings or Settings(), **changes)
        if artifacts is not None and rank() == 0:
            require_writable(artifacts)
        return _Run(zoo_model, variants, changed, artifacts, run or Run(), details, progress).report(left_out)


def runnable(
    zoo_model: ZooModel, only: Sequence[str] = (), stage: Stage = "ptq"
) -> tuple[list[ZooModel], dict[str, str]]:
    """Returns the variants of a stage, and why each other one is left out.

    Args:
        zoo_model: a base, or one of its variants.
        only: names of variants; default: all.
        stage: see `reproduce`.

    Raises:
        UnknownNameError: there is no such stage.
    """
    if stage not in STAGES:
        raise UnknownNameError(f"Unknown stage '{stage}'. {did_you_mean(stage, STAGES)}")
    entry = zoo_model.entry
    chosen = [ZooModel(entry, name) for name in only or entry.variants]
    reasons = {str(one.variant): reason for one in chosen if (reason := _reason_to_leave_out(one, stage))}
    # Who asks for trained variants knows of the others; who asks for nothing may not know of the trained ones.
    left_out = {} if stage == "qat" and not only else reasons
    return [variant for variant in chosen if variant.variant not in reasons], left_out


def _reason_to_leave_out(zoo_model: ZooModel, stage: Stage) -> str | None:
    if zoo_model.resolved.optimize is not None and world_size() > 1:
        return f"is optimized, which runs in one process, not in {world_size()}"
    if zoo_model.resolved.finetune is None:
        return "needs no training: --stage ptq or all" if stage == "qat" else None
    return "needs training: --stage qat or all" if stage == "ptq" else None


@dataclass(frozen=True)
class _Measured:
    """One model's result, and what it is held against."""

    variant: str
    stage: Literal["float", "ptq", "qat"]
    method: str | None
    result: Evaluation
    claims: Sequence[Claim]
    seconds: float
    source: Source | None = None


class _Run:
    def __init__(
        self, zoo_model: ZooModel, variants: list[ZooModel], settings: Settings, artifacts: Path | None,
        run: Run, details: Details | None, progress: Progress,
    ) -> None:  # fmt: skip
        self.entry, self.variants, self.artifacts, self.run = zoo_model.entry, variants, artifacts, run
        self.details = details
        self.trainings: dict[str, TrainingReport] = {}
        self.settings, self.progress = settings, progress
        device, recipe = usable_device(settings.device), self.entry.recipe
        resolved = [variant.resolved for variant in variants]
        with phase(progress, f"opening {recipe.dataset}"):
            self.images = evaluation_images(
                recipe.base, recipe.dataset, settings.data,
                images=settings.eval_images, batch_size=settings.batch_size, workers=settings.workers,
            )  # fmt: skip
            self.to_train_on = {one.variant: images_to_train_on(one, settings) for one in resolved if one.finetune}
        with phase(progress, f"loading {self.entry.name}"):
            for variant in variants:
                check_hub_model(variant)
            warn_of_unpinned(zoo_model)
            self.float_model = create_base(recipe.base, pretrained=True).to(device)
        keep = artifacts is not None or details is not None
        self.shared = SharedCalibration(self.float_model, resolved, settings, progress, keep_histograms=keep)

    def report(self, left_out: dict[str, str]) -> Report:
        baseline = self._measure_float()
        receipts = Receipts(self.float_model, self.images, baseline.result, self.settings.device, self.progress)
        measured = [baseline, *(self._measure(variant, receipts) for variant in self.variants)]
        gather_flips(self.details, self.images, baseline.result, {one.variant: one.result for one in measured[1:]})
        recipe = self.entry.recipe
        return Report(
            name=self.entry.name,
            version=recipe.version,
            dataset=recipe.dataset,
            split=self.images.split.name,
            images=len(self.images),
            complete=is_complete(self.images),
            rows=self._rows(measured),
            excluded=left_out,
            calibration=self._calibration_report(),
            training=self.trainings,
            recipe_sha256=recipe_digest(self.entry),
            environment=environment(self.settings.device),
        )

    def _measure_float(self) -> _Measured:
        result = self._evaluate(self.float_model, "float")
        return _Measured("float", "float", None, result, self.entry.recipe.published, result.seconds)

    def _measure(self, zoo_model: ZooModel, receipts: Receipts) -> _Measured:
        variant = zoo_model.resolved
        if variant.finetune is not None:
            return self._measure_trained(zoo_model, receipts)
        start = time.perf_counter()
        model = ptq_model(self.shared, variant, self.progress)
        result = self._evaluate(model, variant.variant)
        seconds = time.perf_counter() - start
        if self.artifacts is not None and rank() == 0:
            file = self.artifacts / f"{variant.name}{zoo_model.made_by.suffix}"
            keep_calibration(file, self.shared, zoo_model, model)
            save_receipt(self.artifacts / f"{variant.name}{RECEIPT.suffix}", receipts.of(model, result))
        self._gather(zoo_model, model)
        source = ranges_from(model)
        return _Measured(variant.variant, "ptq", variant.method, result, variant.published, seconds, source)

    def _measure_trained(self, zoo_model: ZooModel, receipts: Receipts) -> _Measured:
        variant = zoo_model.resolved
        start, folder = time.perf_counter(), self.run.folder
        run = replace(self.run, folder=folder / variant.name if folder else None)
        images = self.to_train_on[variant.variant]
        made = train_variant(self.shared, variant, images, self.images, run=run, progress=self.progress)
        self.trainings[variant.variant] = made.report
        seconds = time.perf_counter() - start
        self._gather(zoo_model, made.model)
        keep_trained(zoo_model, made, receipts, by_name=self.settings.calib_images is None)
        source = self.shared.images_of(variant).source
        return _Measured(variant.variant, "qat", variant.method, made.evaluation, variant.published, seconds, source)

    def _gather(self, zoo_model: ZooModel, model: nn.Module) -> None:
        if self.details is not None:
            variant = zoo_model.resolved
            images = self.shared.images_of(variant)
            seen_on = f"{len(images):,} {MADE_FROM[images.source]}"
            # Ranges that were optimized, or learned, are of tensors that calibration did not see.
            seen = self.shared.histograms(variant) if variant.optimize is None and variant.finetune is None else None
            gather_quantizers(self.details, variant.variant, model, self.images, seen, seen_on)

    def _evaluate(self, model: Any, what: str) -> Evaluation:
        return evaluate_images(model, self.images, progress=self.progress, what=f"evaluating {what}")

    def _rows(self, measured: list[_Measured]) -> list[ReportRow]:
        top1 = {one.variant: one.result.top1 or 0.0 for one in measured}
        complete = is_complete(self.images)
        # How many images were calibrated on does not matter to the float model.
        quantized = complete and self.shared.as_recipes_say
        as_published = {"float": complete, "ptq": quantized, "qat": quantized}
        return [
            ReportRow(
                variant=one.variant,
                stage=one.stage,
                method=one.method,
                source=one.source,
                top1=top1[one.variant],
                top5=one.result.top5 or 0.0,
                ci95=one.result.ci95 or (0.0, 100.0),
                **self._beside_float(one, measured[0]),
                published=list(one.claims),
                verdict=judge(one.claims, top1[one.variant], as_published[one.stage], top1),
                seconds=round(one.seconds, 2),
            )
            for one in measured
        ]

    def _beside_float(self, one: _Measured, baseline: _Measured) -> dict[str, Any]:
        facts: dict[str, Any] = {"agreement_with_float": round(one.result.agreement(baseline.result), 4)}
        if one is baseline:
            return facts
        flips = flips_between(baseline.result, one.result, self.images.labels)
        return facts | {"lost": flips.lost, "gained": flips.gained, "mcnemar_p": flips.mcnemar_p}

    def _calibration_report(self) -> CalibrationReport | None:
        if not self.shared.images:
            return None
        # Figures of the dataset's images are what a reader takes them for.
        images = min(self.shared.images, key=lambda one: one.source != "images")
        leak = any(variant.resolved.calibration.allow_leak for variant in self.variants)
        short = any(one.short for one in self.shared.images)
        return CalibrationReport(
            images=len(images), sample_sha256=images.digest(), allow_leak=leak, short=short, source=images.source
        )
