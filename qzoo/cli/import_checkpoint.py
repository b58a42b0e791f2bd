"""`qzoo import`: a checkpoint of another toolkit becomes artifacts of qzoo."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qzoo.cli.console import check_target, stdout, write_json
from qzoo.cli.options import Json

if TYPE_CHECKING:
    from qzoo.compat.importing import Imported

NAME = "import"


def run(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth, .pt or .safetensors file with a state dict.")],
    name: Annotated[str, typer.Option("--as", help="The variant that it is: resnet50_int8, or mine.yaml:int8.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder. Default: where qzoo.create looks.", show_default=False),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option("--ignore", help="Leave out keys by a glob, 'avgpool.*'; can be repeated.", show_default=False),
    ] = None,
    json: Json = None,
) -> None:
    """Make a checkpoint of pytorch-quantization or NVIDIA Model-Optimizer a calibrated variant of the zoo.

    Its quantizers have to be those of the variant: every key without a home is named, and so are the variants that
    would fit. A state dict does not say bits and signs; the variant does.

    Examples:

    - `qzoo import quant_resnet50-calibrated.pth --as resnet50_int8`
    - `qzoo import quant_resnet50-finetuned.pth --as resnet50_int8_qat -o imported/`
    - `qzoo import modelopt_resnet50.pth --as mine.yaml:int8 --ignore 'avgpool.*'`
    """  # noqa: D412
    from qzoo.compat.importing import import_checkpoint

    check_target(json)
    made = import_checkpoint(checkpoint, name, output, ignore=ignore or ())
    fit = made.fit
    wrapper = f" (behind '{fit.wrapper}')" if fit.wrapper else ""
    stdout.print(
        f"{made.variant.name}@{made.variant.version}: {fit.ranges} ranges and {fit.weights} float tensors{wrapper}; "
        "bits and signs as the variant says",
        highlight=False, soft_wrap=True,
    )  # fmt: skip
    if fit.left_out:
        stdout.print(f"left out: {len(fit.left_out)} keys", highlight=False)
    for file in made.files:
        stdout.print(f"{file.stat().st_size:>12,}  {file}", highlight=False, soft_wrap=True)
    stdout.print(_weights(made.of_base, made.variant.base.architecture), highlight=False, soft_wrap=True)
    stdout.print(_how_to_load(made, output is None), markup=False, soft_wrap=True)
    if json:
        write_json(_as_json(made), json)


def _as_json(made: Imported) -> str:
    result = {
        "schema": 1, "name": made.variant.name, "version": made.variant.version, "ranges": made.fit.ranges,
        "weights": made.fit.weights, "wrapper": made.fit.wrapper, "left_out": made.fit.left_out,
        "of_base": made.of_base, "files": [str(file) for file in made.files],
    }  # fmt: skip
    return dumps(result, indent=1)


def _weights(of_base: bool | None, architecture: str) -> str:
    if of_base is None:
        return f"The weights of {architecture} that the recipe names are not on this machine, to compare with."
    return f"Its float weights are {'' if of_base else 'not '}those that the recipe names."


def _how_to_load(made: Imported, in_the_usual_place: bool) -> str:
    name = made.address
    if in_the_usual_place and (made.variant.finetune is not None or made.of_base):
        return f'load it:  qzoo.create("{name}", pretrained=True)'
    weights = ', pretrained="float"' if made.of_base and made.variant.finetune is None else ""
    return f'load it:  qzoo.load(qzoo.create("{name}"{weights}), "{made.files[-1]}")'
