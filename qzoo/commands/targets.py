"""Where what a command makes of a variant goes: a file, a folder, or qzoo's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qzoo import environment
from qzoo.commands.settings import Settings
from qzoo.distributed import rank
from qzoo.errors import RecipeError
from qzoo.files import require_writable
from qzoo.schema.calibration import named_source
from qzoo.weights.kinds import Kind
from qzoo.zoo.zoo_model import ZooModel


def targets(variants: Sequence[ZooModel], kind: Kind, output: Path | None, settings: Settings) -> list[Path]:
    """Returns the paths of the files that an artifact of each variant is written to; their folder takes files.

    Args:
        variants: of one recipe.
        kind: the kind of artifact.
        output: a file for one variant, or a folder; default: where `create(..., pretrained=True)` finds it.
        settings: whose data may name a source that needs none: what is made of it has a folder apart.

    Raises:
        RecipeError: the file is of another type, or is to hold several variants; or they have artifacts of their own.
        OSError: nothing can be written there.
    """
    if variants[0].entry.source.has_own_artifacts and output is None:
        raise RecipeError(
            f"{variants[0].address} has {kind.name} of its own. Say where those of this run go: -o FOLDER."
        )
    default = environment.artifacts() if named_source(settings.data) is None else environment.made_without_images()
    paths = [_target(output or default, variant.name, kind, len(variants)) for variant in variants]
    if rank() == 0:
        require_writable(paths[0].parent)
    return paths


def _target(folder: Path, name: str, kind: Kind, count: int) -> Path:
    if folder.suffix not in ("", ".safetensors") and not folder.is_dir():
        raise RecipeError(
            f"{folder} is neither a folder nor a .safetensors file. {kind.name.capitalize()} are safetensors: "
            "-o NAME.safetensors"
        )
    if folder.suffix != ".safetensors":
        return folder / f"{name}{kind.suffix}"
    if count > 1:
        raise RecipeError(f"{folder} is one file, but {count} variants are made. Give a folder with -o.")
    return folder
