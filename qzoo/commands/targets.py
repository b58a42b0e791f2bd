"""Where what a command makes of a variant goes: a file, a folder, or qzoo's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qzoo import environment
from qzoo.distributed import rank
from qzoo.errors import RecipeError
from qzoo.files import require_writable
from qzoo.weights.kinds import Kind
from qzoo.zoo.zoo_model import ZooModel


def targets(variants: Sequence[ZooModel], kind: Kind, output: Path | None) -> list[Path]:
    """Returns the paths of the files that an artifact of each variant is written to; their folder takes files.

    Args:
        variants: of one recipe.
        kind: the kind of artifact.
        output: a file for one variant, or a folder; default: where `create(..., pretrained=True)` finds it.

    Raises:
        RecipeError: the file is of another type, or is to hold several variants; or they have artifacts of their own.
        OSError: nothing can be written there.
    """
    if variants[0].entry.source.has_own_artifacts and output is None:
        raise RecipeError(
            f"{variants[0].address} has {kind.name} of its own. Say where those of this run go: -o FOLDER."
        )
    paths = [_target(output, variant.name, kind, len(variants)) for variant in variants]
    if rank() == 0:
        require_writable(paths[0].parent)
    return paths


def _target(output: Path | None, name: str, kind: Kind, count: int) -> Path:
    folder = output or environment.artifacts()
    if folder.suffix not in ("", ".safetensors") and not folder.is_dir():
        raise RecipeError(
            f"{output} is neither a folder nor a .safetensors file. {kind.name.capitalize()} are safetensors: "
            "-o NAME.safetensors"
        )
    if folder.suffix != ".safetensors":
        return folder / f"{name}{kind.suffix}"
    if count > 1:
        raise RecipeError(f"{output} is one file, but {count} variants are made. Give a folder with -o.")
    return folder
