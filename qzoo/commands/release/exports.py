"""ONNX files of a variant that is released: one for each runtime asked for, held against its rules and the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from qzoo.commands.export import images_to_compare
from qzoo.errors import RecipeError
from qzoo.files import write_text
from qzoo.hub.manifest import EXPORTS
from qzoo.progress import Progress
from qzoo.results.export import ExportReport, Exports
from qzoo.runtimes.registry import RUNTIMES, runtime_named
from qzoo.runtimes.runtime import require
from qzoo.tasks.export import export
from qzoo.tasks.inputs.images import Images
from qzoo.zoo.zoo_model import ZooModel


def check_runtimes(runtimes: Sequence[str]) -> None:
    """Refuses what can't be exported for, before anything is calibrated or measured.

    Raises:
        UnknownNameError: there is no such runtime.
        UnsupportedError: the packages of `qzoo[export]` are missing.
    """
    for name in runtimes:
        runtime_named(name)
        require("onnxscript")


def write_exports(
    folder: Path,
    zoo_model: ZooModel,
    model: nn.Module,
    runtimes: Sequence[str],
    data: Path | None,
    progress: Progress,
) -> tuple[ExportReport, ...]:
    """Writes a model for some runtimes into a folder, and what came of it; files of other runtimes are removed.

    Raises:
        RecipeError: the model breaks a rule of a runtime, or the runtime computes something else; the first is named.
    """
    for name in (EXPORTS, *(runtime.file for runtime in RUNTIMES.values())):
        (folder / name).unlink(missing_ok=True)
    if not runtimes:
        return ()
    images, _ = images_to_compare(zoo_model, data)
    made = [_export(folder, model, name, images, progress) for name in dict.fromkeys(runtimes)]
    write_text(folder / EXPORTS, Exports(exports=made).model_dump_json(indent=1) + "\n")
    return tuple(made)


def _export(folder: Path, model: nn.Module, name: str, images: Images | None, progress: Progress) -> ExportReport:
    runtime = runtime_named(name)
    report = export(model, folder / runtime.file, name, images=images, progress=progress)
    if report.errors:
        (folder / runtime.file).unlink()
        raise RecipeError(
            f"{report.name} does not fit {runtime.title} ({report.errors[0]}). Release a variant of scheme "
            f"{runtime.scheme}, or leave out --onnx {name}."
        )
    # What overflows on this CPU is right on others, and the card tells how close it came.
    if report.fault and not (report.parity is not None and report.parity.overflows):
        (folder / runtime.file).unlink()
        raise RecipeError(f"{report.name} does not fit {runtime.title}: {report.fault} Or leave out --onnx {name}.")
    return report.model_copy(update={"file": runtime.file})
