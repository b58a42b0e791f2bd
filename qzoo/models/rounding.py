"""Optimized models: told apart from their float base in a few bits a weight, and made of it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from qzoo.errors import WeightsError, shown
from qzoo.models.bases import base_digest
from qzoo.models.heads import fit_to_new_head
from qzoo.models.provenance import Optimized, Provenance, provenance, remember
from qzoo.quant.channel_factors import ChannelFactors, Factors, scaled
from qzoo.quant.fake_quant import dequantize, quantize
from qzoo.quant.packing import packable
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import get_ranges, is_of_weight, set_ranges
from qzoo.quant.rounding import Codes, rounded_values, rounding_codes
from qzoo.weights.artifact import content_digest
from qzoo.weights.kinds import ROUNDING
from qzoo.weights.rounding import CODES, COLUMNS, ROWS, VALUES, CodeFormat, RoundingInfo


def float_state(model: nn.Module) -> dict[str, Tensor]:
    """Returns copies of the float tensors of a model, quantized or not, that optimizing may change."""
    ranges = get_ranges(model).keys()
    state = {key: value for key, value in model.state_dict().items() if key not in ranges}
    return {key: value.detach().clone() for key, value in state.items() if value.is_floating_point()}


def note_optimized(model: nn.Module, base_sha256: str, before: Mapping[str, Tensor], factors: ChannelFactors) -> None:
    """Puts the weights of an optimized model on their grids, in place, and notes what makes it of its float base.

    Args:
        model: quantized, with ranges.
        base_sha256: `base_digest` of the float base.
        before: `float_state` of the float base.
        factors: what steps multiplied weights by before they were rounded.
    """
    put_on_grid(model)
    after, quantized = model.state_dict(), packable(model)
    tensors: dict[str, Tensor] = {}
    formats: dict[str, CodeFormat] = {}
    axes: dict[str, int] = {}
    for key, value in before.items():
        known = factors.weights.get(key, Factors())
        start = scaled(value, known.rows, known.columns, known.axis)
        codes = _codes(quantized[key][1], after[key], start) if key in quantized else None
        if codes is not None:
            formats[key] = CodeFormat(start=codes.start, width=codes.width, low=codes.low)
            tensors |= {f"{CODES}{key}": codes.packed} if codes.width else {}
        elif not torch.equal(after[key], start):
            tensors[f"{VALUES}{key}"] = after[key].detach().clone()
            continue
        for prefix, vector in ((ROWS, known.rows), (COLUMNS, known.columns)):
            if vector is not None:
                tensors[f"{prefix}{key}"], axes[key] = vector, known.axis
    tensors = {key: tensor.cpu() for key, tensor in tensors.items()}
    _remember(model, Optimized(base_sha256, tensors, formats, axes))


def _codes(quantizer: TensorQuantizer, weight: Tensor, start: Tensor) -> Codes | None:
    if quantizer.grid.fp8 is not None:
        return None
    amax, on, zero_point = quantizer.amax, quantizer.grid, quantizer.zero_point
    return rounding_codes(quantize(weight, amax, on, zero_point), start, amax, on, zero_point)


def put_on_grid(model: nn.Module) -> None:
    """Rounds the weights of a calibrated model to what their quantizers make of them, in place.

    So a weight is the same whether it comes of a rounding file, a packed checkpoint, or the steps themselves.
    """
    state = dict(model.named_parameters(remove_duplicate=False))
    with torch.no_grad():
        for key, (_, quantizer) in packable(model).items():
            state[key].copy_(quantizer(state[key]))


def rounding_of(model: nn.Module) -> Optimized | None:
    """Returns what makes an optimized model of its float base; None for a model that no step changed.

    Raises:
        WeightsError: its weights or their ranges were changed since.
    """
    made = provenance(model)
    if made is None or made.optimized is None:
        return None
    if not is_optimized(model):
        raise WeightsError(
            "The weights of this model, or their ranges, were changed since they were optimized, so ranges and "
            "rounding are not all that makes it of its float base. Save it with its weights: qzoo.save(model, path, "
            "whole=True)."
        )
    return made.optimized


def is_optimized(model: nn.Module) -> bool:
    """Whether the weights of a model lie on their grids as steps put them there, and nobody changed either since."""
    made = provenance(model)
    if made is None or made.optimized is None or base_digest(model) != made.optimized.base_sha256:
        return False
    return _grids_digest(model) == made.optimized.grids_sha256


def _grids_digest(model: nn.Module) -> str:
    return content_digest({key: value for key, value in get_ranges(model).items() if is_of_weight(_owner(key))})


def beyond_base(model: nn.Module) -> dict[str, Tensor]:
    """Returns all that a calibrated model has beyond the float weights of its base: ranges, and how it is rounded."""
    made = provenance(model)
    return get_ranges(model) | (made.optimized.tensors if made and made.optimized else {})


def apply_rounding(model: nn.Module, tensors: Mapping[str, Tensor], info: RoundingInfo, path: Path) -> None:
    """Makes the optimized model of its float base, in place.

    Args:
        model: quantized, with the float weights of the base.
        tensors: of a rounding file, see `weights.rounding`.
        info: what the file says of itself.
        path: where they come from, for messages.

    Raises:
        WeightsError: they speak of weights that the model has not; nothing is changed.
    """
    base_sha256, before, heads = base_digest(model), float_state(model), _heads(model)
    # Of a classifier that is another one than the base's nothing was learned.
    tensors = {key: value for key, value in tensors.items() if _owner(key.partition("/")[2]) not in heads}
    formats = {key: one for key, one in info.weights.items() if _owner(key) not in heads}
    mine = {key: value for key, value in tensors.items() if "/" in key}
    made = Optimized(base_sha256, mine, formats, info.output_axis)
    _check_keys(model, path, before, made)
    ranges, kept = (
        fit_to_new_head(model, {key: tensors[key] for key in tensors.keys() - mine.keys()}),
        get_ranges(model),
    )
    set_ranges(model, ranges)
    try:
        state = dict(_rebuilt(model, before, made)) | _under(mine, VALUES)
        model.load_state_dict(state, strict=False)
    except (WeightsError, RuntimeError, ValueError) as error:
        model.load_state_dict(before | kept, strict=False)
        raise WeightsError(f"{path} does not fit the model: {shown(error)}") from error
    _remember(model, made)


def _rebuilt(model: nn.Module, before: Mapping[str, Tensor], made: Optimized) -> Iterator[tuple[str, Tensor]]:
    quantized = packable(model)
    for key, value in before.items():
        rows, columns = made.tensors.get(f"{ROWS}{key}"), made.tensors.get(f"{COLUMNS}{key}")
        start = scaled(value, rows, columns, made.output_axis.get(key, 0))
        one = made.formats.get(key)
        yield key, start if one is None else _rounded(quantized[key][1], start, one, made.tensors.get(f"{CODES}{key}"))


def _rounded(quantizer: TensorQuantizer, start: Tensor, how: CodeFormat, packed: Tensor | None) -> Tensor:
    packed = torch.zeros(0, dtype=torch.uint8) if packed is None else packed
    amax, on, zero_point = quantizer.amax, quantizer.grid, quantizer.zero_point
    codes = Codes(how.start, how.width, how.low, packed.to(start.device))
    values = rounded_values(codes, start, amax, on, zero_point)
    if bool(((values < on.low) | (values > on.high)).any()):
        raise WeightsError("its rounding leads out of the grid of a weight")
    return dequantize(values, amax, on, zero_point).to(start.dtype)


def _check_keys(model: nn.Module, path: Path, before: Mapping[str, Tensor], made: Optimized) -> None:
    changed = {key.partition("/")[2] for key in made.tensors}
    odd = (changed - before.keys()) | (made.formats.keys() - packable(model).keys())
    if odd:
        raise WeightsError(
            f"{path} rounds {shown(min(odd))}, which is no quantized weight of the model ({len(odd)} such). "
            f"{ROUNDING.remedy}"
        )


def _remember(model: nn.Module, optimized: Optimized) -> None:
    made = replace(provenance(model) or Provenance(), optimized=None)
    remember(model, made)
    digested = replace(optimized, sha256=base_digest(model), grids_sha256=_grids_digest(model))
    remember(model, replace(made, optimized=digested))


def _heads(model: nn.Module) -> set[str]:
    """Returns the classifiers that the model got in place of the base's."""
    made = provenance(model)
    return {_owner(key) for key in made.old_head} if made else set()


def _owner(key: str) -> str:
    return key.rpartition(".")[0]


def _under(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
