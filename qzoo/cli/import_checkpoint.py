"""`qzoo import`: a checkpoint of another toolkit becomes artifacts of qzoo."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qzoo.cli.terminal.console import check_target, stdout, write_json
from qzoo.cli.terminal.options import Json

if TYPE_CHECKING:
    from qzoo.compat.importing import Imported


def run(
    checkpoint: Annotated[Path, typer.Argument(help="A .pth, .pt or .safetensors file with a state dict.")],
    name: Annotated[str, typer.Option("--as", help="The variant that it is: resnet50_int8, or mine.yaml:int8.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="A folder. Default: QZOO_HOME/artifacts.", show_default=False),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore",
            help="Leave out keys, spelled as in the file, by a glob: 'avgpool.*'. Repeatable.",
            show_default=False,
        ),
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(
            "--sha256", help="Of the file, whole or its first digits. Another one is refused.", show_default=False
        ),
    ] = None,
    json_file: Json = None,
) -> None:
    """Make a checkpoint of pytorch-quantization or NVIDIA Model-Optimizer a calibrated variant of the zoo.

    Its quantizers have to be those of the variant: every key without a home is named, and so are the variants that
    would fit. A state dict does not say bits and signs; the variant does.

    NAME.ranges.safetensors is written if its weights are those of the recipe's base, NAME.model.safetensors if training
    changed them, and both where the base's weights are not on this machine. Files of that name are replaced. The way
    back is `qzoo.compat.export_state_dict`.

    Examples:

    - `qzoo import quant_resnet50-calibrated.pth --as resnet50_int8`
    - `qzoo import quant_resnet50-finetuned.pth --as resnet50_int8_qat -o imported/`
    - `qzoo import modelopt_resnet50.pth --as mine.yaml:int8 --ignore 'avgpool.*'`
    """  # noqa: D412
    from qzoo.compat.importing import import_checkpoint

    check_target(json_file)
    made = import_checkpoint(checkpoint, name, output, ignore=ignore or (), sha256=sha256)
    if json_file:
        write_json(_as_json(made), json_file)
    if json_file != "-":
        _print(made, checkpoint)


def _print(made: Imported, checkpoint: Path) -> None:
    from qzoo.compat.fitting import grouped

    fit = made.fit
    wrapper = f" (behind '{fit.wrapper}')" if fit.wrapper else ""
    lines = [
        f"{made.variant.name}@{made.variant.version}: {fit.ranges} ranges and {fit.weights} float tensors{wrapper}",
        f"as the variant says, and no state dict does: {_formats(made)}",
    ]
    if fit.left_out:
        lines.append(f"left out: {grouped(fit.left_out)}")
    if fit.spread:
        lines.append(f"one range for all channels: {grouped(fit.spread)}")
    if not made.checked:
        lines.append(
            f"{checkpoint.name} is of a format without checksums: damage to it would not be noticed. --sha256 HEX, as "
            "`sha256sum` says where it comes from, rules that out."
        )
    for line in lines:
        stdout.print(line, highlight=False, soft_wrap=True, markup=False)
    for file in made.files:
        stdout.print(f"{file.stat().st_size:>12,}  {file}", highlight=False, soft_wrap=True)
    stdout.print(_weights(made.of_base, made.variant.base.architecture), highlight=False, soft_wrap=True)
    for line in _how_to_use(made):
        stdout.print(line, markup=False, soft_wrap=True)


def _as_json(made: Imported) -> str:
    result = {
        "schema": 1, "name": made.variant.name, "version": made.variant.version, "ranges": made.fit.ranges,
        "weights": made.fit.weights, "wrapper": made.fit.wrapper, "left_out": made.fit.left_out,
        "of_base": made.of_base, "checked": made.checked, "files": [str(file) for file in made.files],
    }  # fmt: skip
    return dumps(result, indent=1)


def _weights(of_base: bool | None, architecture: str) -> str:
    if of_base is None:
        return f"The weights of {architecture} that the recipe names are not on this machine, to compare with."
    return f"Its float weights are {'' if of_base else 'not '}those that the recipe names."


def _formats(made: Imported) -> str:
    from qzoo.quant.ranges import is_of_weight, quantizers

    found: dict[str, set[str]] = {"weights": set(), "activations": set()}
    for path, quantizer in quantizers(made.model).items():
        kind = "weights" if is_of_weight(path) else "activations"
        found[kind].add(str(quantizer.spec).partition(" per-")[0])
    return ", ".join(f"{kind} {' and '.join(sorted(formats))}" for kind, formats in found.items() if formats)


def _how_to_use(made: Imported) -> list[str]:
    address, file = made.address, made.files[-1]
    if made.by_name:
        return [f'load it:  qzoo.create("{address}", pretrained=True)', f"evaluate it:  qzoo evaluate {address}"]
    weights = ', pretrained="float"' if made.of_base and made.variant.finetune is None else ""
    return [
        f'load it:  qzoo.load(qzoo.create("{address}"{weights}), "{file}")',
        f"evaluate it:  qzoo evaluate {address} --ranges {file}",
    ]
