"""Evaluating a base or a variant by its recipe."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import nn

from qzoo.commands.settings import Settings, usable_device
from qzoo.distributed import failing_together, rank
from qzoo.errors import UnknownNameError, UnsupportedError
from qzoo.models.bases import create_base
from qzoo.models.on_base import check_fit
from qzoo.models.quantize import quantize_in_place
from qzoo.models.survey import survey_of_base
from qzoo.progress import Progress, phase, silent
from qzoo.receipts.make import Receipts
from qzoo.runtimes.registry import runnable_runtime
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.evaluate import Evaluation, evaluate_images
from qzoo.tasks.export import export
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import Images, evaluation_images
from qzoo.tasks.measuring.running import RuntimeModel
from qzoo.tasks.saving import load
from qzoo.weights.artifact import is_kind
from qzoo.weights.kinds import MODEL
from qzoo.weights.receipt import save_receipt
from qzoo.zoo.pretrained import create_pretrained, model_of_checkpoint
from qzoo.zoo.zoo_model import ZooModel


def evaluate_named(
    zoo_model: ZooModel,
    settings: Settings | None = None,
    *,
    ranges: Path | None = None,
    receipt: Path | None = None,
    runtime: str | None = None,
    adapt: bool = False,
    reduce_range: bool = False,
    progress: Progress = silent,
) -> Evaluation:
    """Returns the accuracy of a float base, or of a variant with the ranges found for it.

    Args:
        zoo_model: a variant, or the float base.
        settings: data, device, number of images.
        ranges: a ranges file; default: what `create(..., pretrained=True)` would take.
        receipt: a file that gets the predictions of float and quantized model, which takes evaluating both.
        runtime: `onnxruntime` or `openvino`: the exported variant is evaluated there, on the CPU.
        adapt: with `runtime`: adapted to it, on the images of the recipe's calibration.
        reduce_range: with `runtime`: adapted to it, with weights of 7 bits.
        progress: shown the batches.

    Raises:
        WeightsError: weights or ranges are missing, corrupt or of another base.
        DataError: the dataset is missing or of the wrong kind.
        PeerError: another process of the same run failed.
    """
    settings = settings or Settings()
    if zoo_model.variant is None and (ranges or receipt):
        known, lacks = ", ".join(zoo_model.entry.variants), "ranges" if ranges else "receipt"
        raise UnknownNameError(f"'{zoo_model.name}' is the float base, which has no {lacks}. Name a variant: {known}.")
    if runtime is None and (adapt or reduce_range):
        option = "--reduce-range" if reduce_range else "--adapt"
        raise UnsupportedError(f"{option} is for integer kernels of a runtime: name one with --runtime.")
    if runtime is not None:
        _check_runtime(zoo_model, settings, runtime)
        if receipt is not None:
            raise UnsupportedError("--receipt holds the predictions of the variant itself. Leave out --runtime.")
    with failing_together():
        with phase(progress, f"loading {zoo_model.name}"):
            model = _model(zoo_model, ranges)
            images = _images(zoo_model, settings)
        if runtime is not None:
            seen = _seen(zoo_model, settings) if adapt or reduce_range else None
            model = _exported(model, runtime, seen, reduce_range, progress)
        model = model.to(usable_device(settings.device))
        result = evaluate_images(model, images, progress=progress)
        if receipt is not None:
            _write_receipt(zoo_model, model, images, result, settings, receipt, progress)
        return result


def _check_runtime(zoo_model: ZooModel, settings: Settings, runtime: str) -> None:
    runnable_runtime(runtime)
    if zoo_model.variant is None:
        known = ", ".join(zoo_model.entry.variants)
        raise UnknownNameError(f"'{zoo_model.name}' is the float base; a runtime gets a variant. Name one: {known}.")
    if settings.device != "cpu":
        raise UnsupportedError(f"--runtime {runtime} decides itself what it runs on. Leave out --device.")


def _seen(zoo_model: ZooModel, settings: Settings) -> Images:
    return calibration_images(zoo_model.base, zoo_model.dataset, zoo_model.resolved.calibration, settings.data)


def _exported(model: nn.Module, runtime: str, seen: Images | None, reduce_range: bool, progress: Progress) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        export(model, file, runtime, adapt_on=seen, reduce_range=reduce_range, progress=progress)
        target = runnable_runtime(runtime)
        with phase(progress, f"building a {target.title} session"):
            return RuntimeModel(target.session(file, torch.get_num_threads(), True), model)


def measure_receipt(zoo_model: ZooModel, model: nn.Module, settings: Settings, path: Path, progress: Progress) -> None:
    """Writes the receipt of a model that was made from a recipe's base.

    Raises:
        DataError: the dataset is missing or of the wrong kind.
    """
    with failing_together():
        model = model.to(usable_device(settings.device))
        images = _images(zoo_model, settings)
        result = evaluate_images(model, images, progress=progress)
        _write_receipt(zoo_model, model, images, result, settings, path, progress)


def _write_receipt(
    zoo_model: ZooModel, model: nn.Module, images: Images, result: Evaluation, settings: Settings, path: Path,
    progress: Progress,
) -> None:  # fmt: skip
    float_model = create_base(zoo_model.base, pretrained=True).to(usable_device(settings.device))
    baseline = evaluate_images(float_model, images, progress=progress, what="evaluating float")
    receipts = Receipts(float_model, images, baseline, settings.device, progress)
    if rank() == 0:
        save_receipt(path, receipts.of(model, result))


def _images(zoo_model: ZooModel, settings: Settings) -> Images:
    return evaluation_images(
        zoo_model.base, zoo_model.dataset, settings.data,
        images=settings.eval_images, batch_size=settings.batch_size, workers=settings.workers,
    )  # fmt: skip


def quantized_model(variant: ResolvedVariant, ranges: Path) -> nn.Module:
    """Returns a variant with the ranges of a file, or, from a file of a full checkpoint, with its weights too.

    Raises:
        WeightsError: weights or ranges are missing, corrupt or of another base.
    """
    if is_kind(ranges, MODEL):
        return model_of_checkpoint(variant, ranges)
    check_fit(variant, ranges)
    model = create_base(variant.base, pretrained=True)
    quantize_in_place(model, variant, seen=survey_of_base(model))
    return load(model, ranges)


def _model(zoo_model: ZooModel, ranges: Path | None) -> nn.Module:
    if zoo_model.variant is None:
        return create_base(zoo_model.base, pretrained=True)
    return create_pretrained(zoo_model) if ranges is None else quantized_model(zoo_model.resolved, ranges)
