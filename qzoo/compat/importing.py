"""From a checkpoint of pytorch-quantization or Model-Optimizer to artifacts of qzoo, or to what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from qzoo import environment
from qzoo.compat.checkpoint import has_checksum, read_state_dict
from qzoo.compat.fitting import Fit, MisfitError, by_numbers, fits_of, load_state_dict, short
from qzoo.compat.foreign_keys import translate
from qzoo.errors import QzooError, WeightsError, shown
from qzoo.models.bases import base_digest, create_bare, create_base, weights_facts
from qzoo.models.full_checkpoint import outline, save_full_checkpoint
from qzoo.models.quantize import quantize_in_place
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.tasks.saving import save
from qzoo.weights.kinds import MODEL, RANGES
from qzoo.weights.packages import read_package
from qzoo.zoo.name_lookup import find
from qzoo.zoo.zoo_model import ZooModel

MOST_RULES = 30
"""That a message gives."""
MORE = {"residual": "skip"}
FEWER = {"residual": "none"}
"""What a rule says of a role, if not `{calibrator: max}` for a quantizer, and `false` for none."""


def what_would_fit(zoo_model: ZooModel, fit: Fit, fit_to: Callable[[nn.Module], Fit]) -> str:
    """Returns which other variants of a recipe have the quantizers of a state dict, or how one would be written.

    Args:
        zoo_model: the variant that does not fit.
        fit: how it does not.
        fit_to: how the state dict fits another model.
    """
    if fit.unusable:
        return "Calibrate again in the script that made it: these quantizers saw nothing, or nothing usable."
    others = [one for one in zoo_model.variants if one.variant != zoo_model.variant]
    fitting = [one.address for one in others if _fits(one, fit_to)]
    base = zoo_model.entry.name
    if fitting:
        return f"What fits: --as {' or '.join(fitting[:3])}."
    if not fit.same_weights:
        return f"Is it a checkpoint of {base}? Its float weights are not of that model's names and shapes."
    said = rules(fit)
    if not said:
        return "Its float weights fit. Calibrate these quantizers again in the script that made it, with the axis here."
    lines = "".join(f"\n  - {short(rule)}" for rule in said[:MOST_RULES])
    lines += f"\n  and {len(said) - MOST_RULES:,} more" if len(said) > MOST_RULES else ""
    return (
        f"Its weights are those of a {base}, its quantizers those of no variant. Leave keys out with "
        f"--ignore 'GLOB', or write a variant from {zoo_model.variant} with these rules:{lines}"
    )


def rules(fit: Fit) -> list[str]:
    """Returns the rules that would give a variant the quantizers of a state dict, as a recipe writes them.

    Example:
        >>> rules(Fit(unexpected=["maxpool.input_quantizer._amax"], missing=["fc.input_quantizer.amax"]))
        ["{match: {name: 'maxpool'}, input: {calibrator: max}}", "{match: {name: 'fc'}, input: false}"]
    """
    more = translate(dict.fromkeys(fit.unexpected, torch.ones(()))).ranges
    said = [(place, MORE.get(place[1], "{calibrator: max}")) for place in _places(more)]
    said += [(place, FEWER.get(place[1], "false")) for place in _places(fit.missing)]
    return [f"{{match: {{name: {glob!r}}}, {role}: {what}}}" for (glob, role), what in said]


def _places(ranges: Iterable[str]) -> list[tuple[str, str]]:
    """Returns layers and roles of ranges, layers that differ by numbers as one glob."""
    layers: dict[str, list[str]] = {}
    for key in ranges:
        layer, _, quantizer = key.removesuffix(".amax").rpartition(".")
        layers.setdefault(quantizer.removesuffix("_quantizer"), []).append(layer)
    return [(glob, role) for role, found in layers.items() for glob in by_numbers(found)]


def _fits(zoo_model: ZooModel, fit_to: Callable[[nn.Module], Fit]) -> bool:
    try:
        return fit_to(outline(zoo_model.resolved)).fits
    except QzooError:
        return False


@dataclass(frozen=True)
class Imported:
    """What came of a checkpoint.

    Attributes:
        address: what `qzoo.create` takes for the variant: its name, or recipe file and variant.
        variant: that it became.
        model: with its weights and ranges.
        fit: what was taken over, and what left out.
        of_base: whether its float weights are those of the recipe's base; None where these are not on this machine.
        files: that were written.
        checked: whether a checksum, or the SHA-256 that was given, says that the file is as it was written.
        by_name: whether `qzoo.create(address, pretrained=True)` gives it from now on. What ships with a recipe goes
            before.
    """

    address: str
    variant: ResolvedVariant
    model: nn.Module
    fit: Fit
    of_base: bool | None
    files: list[Path]
    by_name: bool
    checked: bool


def import_checkpoint(
    path: str | Path, name: str, output: str | Path | None = None, *, ignore: Iterable[str] = (),
    sha256: str | None = None,
) -> Imported:  # fmt: skip
    """Makes a state dict of another toolkit a calibrated variant, and writes it as qzoo's artifacts.

    If the float weights are those of the recipe's base, the ranges alone say all. If training changed them, the whole
    model is written; if the base's weights are not on this machine to compare with, both are.

    Args:
        path: the path of the checkpoint, `.pth`, `.pt` or `.safetensors`.
        name: the name of the variant that it is, `resnet50_int8`, or a recipe: `mine.yaml:int8`.
        output: a folder; default: where `qzoo.create(name, pretrained=True)` looks for artifacts.
        ignore: globs of keys to leave out.
        sha256: the SHA-256 of the file, whole or its first digits (at least 8); another file is refused.

    Raises:
        UnknownNameError: no variant has the name, or no key matches a glob.
        NotADirectoryError: the folder is a file.
        WeightsError: the file can't be read, or does not fit; every key that has no home is said, with the variants of
            the recipe that would fit.

    Example:
        >>> state = qzoo.compat.export_state_dict(qzoo.create("resnet8_digits_int8", pretrained=True))
        >>> from safetensors.torch import save_file
        >>> save_file(state, "calibrated.safetensors")
        >>> [file.name for file in import_checkpoint("calibrated.safetensors", "resnet8_digits_int8", "made").files]
        ['resnet8_digits_int8.ranges.safetensors']
    """
    zoo_model, path = find(name), Path(path)
    variant = zoo_model.resolved
    folder = environment.artifacts() if output is None else Path(output)
    if folder.exists() and not folder.is_dir():
        raise NotADirectoryError(f"{folder} is a file; the artifacts go into a folder")
    state = read_state_dict(path, _digits(sha256))
    model = create_bare(variant.base)
    quantize_in_place(model, variant)
    try:
        fit = load_state_dict(model, state, ignore)
    except MisfitError as error:
        advice = what_would_fit(zoo_model, error.fit, fits_of(state, ignore))
        raise WeightsError(f"{path} as {variant.name}: {error}\n{advice}") from error
    of_base = _is_of_base(model, variant)
    files = _write(model, variant, of_base, folder)
    trained = variant.finetune is not None
    found = zoo_model.artifact_at_hand(MODEL if trained else RANGES) in files
    by_name = found and (trained or of_base is True)
    checked = sha256 is not None or has_checksum(path)
    return Imported(zoo_model.address, variant, model, fit, of_base, files, by_name, checked)


def _digits(sha256: str | None) -> str | None:
    if sha256 is None or re.fullmatch(r"[0-9a-f]{8,64}", sha256.lower()):
        return sha256 and sha256.lower()
    raise WeightsError(f"'{shown(sha256)}' is no SHA-256: give 8 to 64 hexadecimal digits, as `sha256sum FILE` says.")


def _write(model: nn.Module, variant: ResolvedVariant, of_base: bool | None, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    if of_base is not False and variant.finetune is None:
        files.append(save(model, folder / f"{variant.name}{RANGES.suffix}"))
    if of_base is not True or variant.finetune is not None:
        files.append(folder / f"{variant.name}{MODEL.suffix}")
        # Not packed: whoever trains on needs the weights between the steps of the grid.
        save_full_checkpoint(model, files[-1], packed=False)
    return files


def _is_of_base(model: nn.Module, variant: ResolvedVariant) -> bool | None:
    base = variant.base
    packaged = base.package is not None and read_package(base.package) is not None
    if weights_facts(base).path is None and not packaged:
        return None  # not worth a download
    return base_digest(create_base(base, pretrained=True)) == base_digest(model)
