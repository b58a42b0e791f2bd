"""What to do about a state dict that does not fit a variant: another one, or the rules of one."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import nn

from qzoo.compat.fitting import Fit, by_numbers, short
from qzoo.compat.foreign_keys import translate
from qzoo.errors import QzooError
from qzoo.models.outline import outline
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
