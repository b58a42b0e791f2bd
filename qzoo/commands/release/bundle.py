"""A variant as a folder that can be published: all its artifacts, its recipe, its card, and a manifest over them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import nn

from qzoo.commands.release.evidence import Evidence, gather
from qzoo.commands.release.exports import check_runtimes, write_exports
from qzoo.commands.settings import Settings
from qzoo.errors import RecipeError
from qzoo.files import copy, write_text
from qzoo.hub.manifest import (
    CARD,
    CONFIG,
    FILES,
    MANIFEST,
    RECIPE,
    FileFacts,
    FileName,
    InputConfig,
    Manifest,
    ModelConfig,
)
from qzoo.hub.released_model import facts_of, require_portable
from qzoo.models.bases import base_card, identity, input_format
from qzoo.models.full_checkpoint import save_full_checkpoint
from qzoo.models.on_base import save_on_base
from qzoo.models.provenance import ranges_from
from qzoo.progress import Progress, silent
from qzoo.quant.calibration.collecting import activation_quantizers
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import get_ranges, quantizers
from qzoo.report.card_facts import CardFacts, Measured
from qzoo.report.model_card import model_card
from qzoo.results.training import TrainingReport, read_training_report
from qzoo.schema.reading.loading import dump_yaml
from qzoo.weights.artifact import versions
from qzoo.weights.kinds import HISTOGRAMS, MODEL, RANGES, RECEIPT, ROUNDING, TRAINING, Kind
from qzoo.weights.receipt import Receipt, load_receipt
from qzoo.zoo.zoo_model import ZooModel

Stored = Literal["packed", "float", "none"]


@dataclass(frozen=True)
class Bundle:
    """A folder that can be released.

    Attributes:
        folder: where it lies.
        manifest: its files.
        missing: what it lacks and could have, and how to get it: a sentence each.
    """

    folder: Path
    manifest: Manifest
    missing: tuple[str, ...]


def make_bundle(
    zoo_model: ZooModel,
    folder: Path,
    settings: Settings | None = None,
    *,
    artifacts: Path | None = None,
    weights: Stored = "packed",
    onnx: Sequence[str] = (),
    repo: str | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Fills a folder with a variant's artifacts, recipe, card and manifest.

    What is at hand is taken: ranges, histograms, a receipt. With data, what is missing is made: the variant is
    calibrated, float and quantized model are evaluated.

    Args:
        zoo_model: a variant.
        folder: made if need be; files of the same names are replaced, the manifest last.
        settings: data, device, number of images.
        artifacts: a folder in which `qzoo reproduce --artifacts` left some; looked into first.
        weights: how the full checkpoint is stored: `packed`, `float`, or not at all (`none`).
        onnx: runtimes to export it for.
        repo: `owner/repo`, for the card.
        progress: shown the batches.

    Raises:
        WeightsError: there are no ranges and no data to calibrate with; the variant is to be trained first; or
            something at hand is damaged.
        RecipeError: a trained model is to be stored without weights, or the model breaks a rule of a runtime.
        DataError: the dataset is missing or of the wrong kind.
    """
    source = zoo_model.entry.source
    if source.has_own_artifacts and source.path is not None and source.path.parent.resolve() == folder.resolve():
        raise RecipeError(f"{folder} is the model that is to be pushed. Give another folder with -o, or none.")
    resolved, settings = zoo_model.resolved, settings or Settings()
    require_portable(zoo_model.entry.recipe, source.where)
    if resolved.finetune is not None and weights == "none":
        raise RecipeError(f"{resolved.name} is trained, so its weights are its own: store them, packed or float.")
    check_runtimes(onnx)
    evidence = gather(zoo_model, settings, artifacts, progress)
    model = evidence.model
    folder.mkdir(parents=True, exist_ok=True)
    for name in (MANIFEST, CARD):  # half a folder must not pass for a whole one
        (folder / name).unlink(missing_ok=True)
    about = identity(model)
    _write_artifacts(folder, zoo_model.made_by, evidence, weights, about)
    exports = write_exports(folder, zoo_model, model, onnx, settings.data, progress)
    recipe = dump_yaml(zoo_model.entry.self_contained(resolved.variant))
    config = _config(zoo_model, model)
    write_text(folder / RECIPE, recipe)
    write_text(folder / CONFIG, config.model_dump_json(indent=1) + "\n")
    manifest = _manifest(folder, zoo_model, about)
    facts = replace(_facts(zoo_model, model, manifest, config, recipe, evidence, repo), exports=exports)
    write_text(folder / CARD, model_card(facts))
    manifest = manifest.model_copy(update={"files": _files(folder)})
    write_text(folder / MANIFEST, manifest.to_json())
    return Bundle(folder, manifest, evidence.missing)


def _write_artifacts(
    folder: Path, made_by: Kind, evidence: Evidence, weights: Stored, about: Mapping[str, Any]
) -> None:
    for kind in (RANGES, ROUNDING):
        (folder / kind.file).unlink(missing_ok=True)
    # A trained model is stored whole: its ranges fit no other weights.
    if evidence.images is not None:
        save_on_base(evidence.model, folder / made_by.file, evidence.images, evidence.sample_sha256)
    files = {HISTOGRAMS: evidence.histograms, RECEIPT: evidence.receipt, TRAINING: evidence.training}
    for kind, path in files.items():
        target = folder / kind.file
        target.unlink(missing_ok=True)
        if path is not None:
            copy(path, target)
    (folder / MODEL.file).unlink(missing_ok=True)
    if weights != "none":
        save_full_checkpoint(evidence.model, folder / MODEL.file, packed=weights == "packed", facts=about)


def _manifest(folder: Path, zoo_model: ZooModel, about: Mapping[str, Any]) -> Manifest:
    resolved = zoo_model.resolved
    return Manifest(
        name=resolved.name,
        base=zoo_model.entry.name,
        variant=resolved.variant,
        version=resolved.version,
        recipe_sha256=resolved.digest,
        base_sha256=about["base_sha256"],
        files=_files(folder),
        **versions(),
    )


def _files(folder: Path) -> dict[FileName, FileFacts]:
    return {name: facts_of(folder / name) for name in FILES if (folder / name).is_file()}


def _config(zoo_model: ZooModel, model: nn.Module) -> ModelConfig:
    base = zoo_model.base
    form, classes = input_format(base), base_card(base).classes
    return ModelConfig(
        name=zoo_model.name,
        source=base.source,
        architecture=base.architecture,
        weights=base.weights,
        dataset=zoo_model.dataset,
        num_classes=len(classes) or _outputs(model),
        labels=list(classes),
        input=InputConfig(
            channels=len(form.mean),
            size=form.size,
            mean=list(form.mean),
            std=list(form.std),
            interpolation=form.interpolation,
        ),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        quantizers=len(quantizers(model)),
    )


def _outputs(model: nn.Module) -> int:
    last = [module.out_features for module in model.modules() if isinstance(module, nn.Linear)][-1:]
    return int(getattr(model, "num_classes", last[0] if last else 1))


def _facts(
    zoo_model: ZooModel, model: nn.Module, manifest: Manifest, config: ModelConfig, recipe: str, evidence: Evidence,
    repo: str | None,
) -> CardFacts:  # fmt: skip
    resolved, whole = zoo_model.resolved, zoo_model.entry.recipe
    card = base_card(resolved.base)
    own = get_ranges(model)
    state = {key: value for key, value in model.state_dict().items() if key not in own}
    return CardFacts(
        manifest=manifest,
        config=config,
        recipe=recipe,
        description=whole.variants[resolved.variant].description or whole.description,
        method=resolved.method,
        calibration=resolved.calibration,
        calibration_images=evidence.images or 0,
        calibration_source=ranges_from(model),
        weights=_kinds(quantizers(model, "weight")),
        activations=_kinds(activation_quantizers(model)),
        float_bytes=sum(value.numel() * value.element_size() for value in state.values()),
        license=card.license,
        base_model=card.hub_repo,
        repo=repo,
        training=_training(evidence.training),
        measured=_measured(load_receipt(evidence.receipt)) if evidence.receipt else None,
        published=resolved.published,
        published_float=tuple(whole.published),
        optimize=resolved.optimize,
    )


def _training(path: Path | None) -> TrainingReport | None:
    return None if path is None else read_training_report(path)


def _kinds(found: Mapping[str, TensorQuantizer]) -> dict[str, int]:
    """Returns how many quantizers of each kind there are."""
    return dict(Counter(str(quantizer.spec) for quantizer in found.values()))


def _measured(receipt: Receipt) -> Measured:
    info = receipt.info
    same = receipt.float_model.top[:, 0] == receipt.quantized.top[:, 0]
    return Measured(
        dataset=info.dataset,
        split=info.split,
        images=len(receipt),
        complete=info.complete,
        float_top1=info.top1.get("float"),
        float_top5=info.top5.get("float"),
        top1=info.top1.get("quantized"),
        top5=info.top5.get("quantized"),
        agreement=100 * float(same.double().mean()),
        date=info.date,
        environment=info.environment,
    )
