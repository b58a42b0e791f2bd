"""Parameters by the patterns of their names: grouping, freezing; and rounding weights in place."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)


def match_parameters(model: nn.Module, patterns: Sequence[str]) -> Iterator[nn.Parameter]:
    """Yields the parameters in whose name any of the regular expressions is found, each once.

    Example:
        >>> [tuple(p.shape) for p in match_parameters(nn.Linear(3, 2), ["bias"])]
        [(2,)]
    """
    yield from (parameter for _, parameter in _matching(model, patterns))


def group_parameters(
    model: nn.Module, patterns_list: Sequence[Sequence[str]], lrs: Sequence[float] | None = None,
    momentums: Sequence[float] | None = None, weight_decays: Sequence[float] | None = None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Returns groups of parameters as optimizers of torch take them.

    Args:
        model: any module.
        patterns_list: a list of regular expressions for each group. No parameter may be in two of them.
        lrs: a learning rate for each group.
        momentums: a momentum for each group.
        weight_decays: a weight decay for each group.

    Raises:
        TypeError: a group's patterns are no list, or there are not as many values as groups.

    Example:
        >>> groups = group_parameters(nn.Linear(3, 2), [["weight"], ["bias"]], lrs=[0.1, 0.01])
        >>> [group["lr"] for group in groups]
        [0.1, 0.01]
    """
    for patterns in patterns_list:
        if not isinstance(patterns, list | tuple):
            raise TypeError(f"patterns_list must be list of list of patterns, not {patterns!r}: [[...], [...]].")
    groups: list[dict[str, Any]] = [{"params": match_parameters(model, patterns)} for patterns in patterns_list]
    for name, option, values in (
        ("lrs", "lr", lrs), ("momentums", "momentum", momentums), ("weight_decays", "weight_decay", weight_decays),
    ):  # fmt: skip
        if values is None:
            continue
        if len(values) != len(groups):
            raise TypeError(f"len({name}) must match len(patterns_list): {len(values)} values, {len(groups)} groups.")
        for group, value in zip(groups, values, strict=True):
            group[option] = value
    return groups


def freeze_parameters(model: nn.Module, patterns: Sequence[str]) -> None:
    """Lets training leave the parameters alone in whose name any of the patterns is found, in place."""
    for name, parameter in _matching(model, patterns):
        logger.info("Freeze %s.", name)
        parameter.requires_grad = False


def quant_weight_inplace(model: nn.Module) -> None:
    """Puts the weights of quantized layers on the grid of their quantizers, in place: they are float no more."""
    for name, layer in model.named_modules():
        quantizer = getattr(layer, "_weight_quantizer", None)
        if quantizer is None:
            continue
        if not quantizer.fake_quant:
            logger.warning("%s: its weight is replaced by integers, which only inference can use.", name)
        layer.weight.data.copy_(quantizer(layer.weight))


def _matching(model: nn.Module, patterns: Sequence[str]) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in model.named_parameters():
        if any(re.search(pattern, name) for pattern in patterns):
            yield name, parameter
