"""`qzoo new`: a recipe for any model of timm or torchvision, or of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qzoo.cli.terminal.console import fail, stderr, stdout
from qzoo.files import write_text


def run(
    name: Annotated[str, typer.Argument(help="A model: `timm/resnet18`, `torchvision/resnet18`, `python/tiny`.")],
    dataset: Annotated[
        str | None,
        typer.Option(
            "--dataset",
            help="A name, or an image folder. Default: imagenet-1k; of one's own model, the folder of its name.",
            show_default=False,
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            help="The library's name for them; of one's own model a state dict. Default: the library's default.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The file, - to print. Default: NAME.yaml here.", show_default=False),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Write a commented recipe for a model: base, transform, SHA-256, residual additions, the usual variants.

    The weights are not loaded; where their file is at hand, its SHA-256 is pinned.

    Examples:

    - `qzoo new timm/resnet18`
    - `qzoo new torchvision/mobilenet_v2 -o recipes/mobilenet.yaml`
    - `qzoo new timm/vit_tiny_patch16_224 -o -`
    - `qzoo new python/tiny --model nets.py:TinyNet --weights tiny.safetensors --dataset flowers`
    """  # noqa: D412
    from qzoo.commands.new import new_recipe
    from qzoo.schema.reading.catalog import Catalog

    recipe = new_recipe(name, dataset, weights)
    if str(output) == "-":
        print(recipe.text, end="")
        return
    path = output or Path(f"{recipe.stem}.yaml")
    if path.is_dir():
        path = path / f"{recipe.stem}.yaml"
    if path.exists() and not force:
        fail(f"{path} exists. Replace it with --force, or write another file with -o FILE.")
    write_text(path, recipe.text)
    if Catalog.load().knows(path.stem):
        note = f"the zoo has a base '{path.stem}': before this file goes into a folder of QZOO_RECIPES, rename it."
        stderr.print(f"note: {note}", soft_wrap=True, markup=False)
    pinned = f"SHA-256 {recipe.sha256[:12]}..." if recipe.sha256 else "SHA-256 not known here"
    stdout.print(
        f"{path}: {recipe.residual_additions} residual additions, {pinned}. Edit it, then:\n"
        f"  qzoo validate {path}{recipe.code}\n  qzoo explain {path}:int8{recipe.code}\n"
        f"  qzoo reproduce {path}{recipe.code} --data FOLDER",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
