"""Where what a command makes of a variant goes: a file, a folder, or qzoo's own."""

from __future__ import annotations

from pathlib import Path

from qzoo import environment
from qzoo.errors import RecipeError
from qzoo.weights.kinds import Kind


def target(output: Path | None, name: str, kind: Kind, count: int) -> Path:
    """Returns the path of the file that an artifact is written to.

    Args:
        output: the file, or a folder; default: where `create(..., pretrained=True)` finds it.
        name: full name of the variant.
        kind: the kind of artifact.
        count: how many variants there are; a file holds one.

    Raises:
        RecipeError: the file is of another type, or is to hold several variants.
    """
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
