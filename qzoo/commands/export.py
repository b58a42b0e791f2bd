"""Exporting a variant by its recipe, compared on images of its dataset."""

from __future__ import annotations

from pathlib import Path

from qzoo.commands.evaluate import quantized_model
from qzoo.errors import DataError
from qzoo.progress import Progress, phase, silent
from qzoo.results.details import Details
from qzoo.results.export import Dynamic, ExportReport, Rest
from qzoo.runtimes.registry import runtime_named
from qzoo.tasks.export import export
from qzoo.tasks.inputs.calibration_images import calibration_images
from qzoo.tasks.inputs.images import Images, evaluation_images
from qzoo.tasks.measuring.gather import gather_quantizers
from qzoo.zoo.data_free import create_with_ranges
from qzoo.zoo.zoo_model import ZooModel

COMPARED = 32
"""Images that a runtime is compared on, unless told otherwise."""


def export_named(
    zoo_model: ZooModel, path: Path, runtime: str, *, data: Path | None = None, images: int = COMPARED,
    ranges: Path | None = None, dynamic: Dynamic = "batch", adapt: bool = False, reduce_range: bool = False,
    rest: Rest = "fp32", int4: bool = False, details: Details | None = None, progress: Progress = silent,
) -> tuple[ExportReport, str | None]:  # fmt: skip
    """Exports a variant; see `export`.

    Args:
        zoo_model: a variant.
        path: the path of the ONNX file.
        runtime: its name.
        data: the folder that `--data` names.
        images: how many of the evaluation split to compare on, a seeded sample; 0: none.
        ranges: a ranges file; default: what `create(..., pretrained=True)` would take.
        dynamic: what of the inputs may be of any size.
        adapt: export the variant that the runtime runs best, of the same ranges; what is new is calibrated on the
            images that the recipe calibrates on.
        reduce_range: with `adapt`: weights of 7 bits.
        rest: the type of what is not quantized.
        int4: store weights of 4 bits in 4.
        details: filled in with what a page shows beside the figures, see `qzoo.html`.
        progress: shown the batches.

    Returns:
        The report, and why nothing was compared, if nothing was.
    """
    runtime_named(runtime)
    resolved = zoo_model.resolved
    with phase(progress, f"loading {zoo_model.name}"):
        compared, reason = images_to_compare(zoo_model, data, images)
        seen = calibration_images(resolved.base, resolved.dataset, resolved.calibration, data) if adapt else None
        model = create_with_ranges(zoo_model, {}) if ranges is None else quantized_model(resolved, ranges)
    report = export(
        model, path, runtime, images=compared, dynamic=dynamic, adapt_on=seen, reduce_range=reduce_range,
        rest=rest, int4=int4, progress=progress,
    )  # fmt: skip
    if compared is not None:
        gather_quantizers(details, resolved.variant, model, compared)
    return report, reason


def fitting_variants(zoo_model: ZooModel, scheme: str) -> list[str]:
    """Returns the full names of the variants of its recipe that start from a scheme."""
    written = zoo_model.entry.recipe.variants
    return [one.name for one in zoo_model.variants if written[str(one.variant)].scheme == scheme]


def images_to_compare(
    zoo_model: ZooModel, data: Path | None, images: int = COMPARED
) -> tuple[Images | None, str | None]:
    """Returns a seeded sample of the images that accuracy is measured on; or None, and why there are none.

    Raises:
        DataError: a folder was named, and holds no such dataset.
    """
    if images == 0:
        return None, "no images were asked for"
    try:
        return evaluation_images(zoo_model.base, zoo_model.dataset, data, images=images), None
    except DataError as error:
        if data is not None:
            raise
        return None, str(error)
