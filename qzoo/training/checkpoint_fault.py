"""What a checkpoint has to hold for a run to go on from it: every tensor of the run, with values that one can have."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from qzoo.weights.artifact import Header
from qzoo.weights.model_file import misfit, spec_of
from qzoo.weights.values import value_fault

WHOLE = ("model/", "average/", "dice/cpu")
"""Parts that are the same before the first step and after; what an optimizer remembers comes with its first."""
SLOTS = ("momentum_buffer", "exp_avg", "exp_avg_sq", "step")


def header_fault(header: Header, own: Mapping[str, Tensor]) -> str | None:
    """Returns how the names, shapes and dtypes of a checkpoint are not those of a run; None if they are.

    Args:
        header: of the file.
        own: what the run would write before its first step.
    """
    said = {key: spec for key, spec in header.items() if key.startswith(WHOLE)}
    expected = {key: spec_of(tuple(value.shape), value.dtype) for key, value in own.items() if key.startswith(WHOLE)}
    if fault := misfit(said, expected):
        return fault
    for key in (key for key in header if key.startswith("optimizer/")):
        place, _, slot = key.removeprefix("optimizer/").rpartition("/")
        like = own.get(f"model/{place}")
        shape = () if slot == "step" else None if like is None else tuple(like.shape)
        if like is None or slot not in SLOTS or header[key].shape != shape:
            return f"{key} is nothing that the optimizer remembers"
    return None


def values_fault(tensors: Mapping[str, Tensor]) -> str | None:
    """Returns what no run leaves in a checkpoint, as what its file does; None if there is nothing of that kind."""
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        if part in ("model", "average"):
            is_range = name.endswith(".amax")
            fault = value_fault(key, value, weight=name.endswith((".weight", ".bias", ".amax")))
            fault = fault or (f"holds a negative range in {key}" if is_range and bool((value < 0).any()) else None)
        else:
            squared = name.endswith(("/exp_avg_sq", "/step")) and bool((value < 0).any())
            broken = value.is_floating_point() and bool(value.isnan().any())
            fault = f"holds NaN, or less than 0, in {key}" if squared or broken else None
        if fault:
            return fault
    return _generator_fault(tensors.get("dice/cpu"))


def _generator_fault(state: Tensor | None) -> str | None:
    try:
        if state is not None:
            torch.Generator().set_state(state)
    except (RuntimeError, TypeError):
        return "holds a state of the random numbers that is none, in dice/cpu"
    return None
