"""Full checkpoints: a calibrated model with its weights in one file, checked before it takes memory.

A recipe from elsewhere is a text of some lines, and may name a model of any size beside artifacts of another: a model
on the meta device tells what the artifacts of a variant have to hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.errors import WeightsError, shown
from qzoo.models.bases import identity, meta_model
from qzoo.models.provenance import note_ranges_from, provenance
from qzoo.models.quantize import quantize_in_place
from qzoo.models.survey import survey_of_base
from qzoo.quant.calibration.collecting import require_collected
from qzoo.quant.packing import pack, packable, packed_dtype, packed_fault, packed_shape, unpack
from qzoo.quant.ranges import get_ranges, require_calibrated, require_quantizers, set_ranges
from qzoo.schema.resolution.resolve import ResolvedVariant
from qzoo.weights.artifact import Header, TensorSpec
from qzoo.weights.kinds import MODEL
from qzoo.weights.model_file import ModelInfo, check_model, load_model, save_model, spec_of
from qzoo.weights.ranges import check_ranges
from qzoo.weights.values import constant_fault, value_fault


def outline(variant: ResolvedVariant) -> nn.Module:
    """Returns a variant's quantized model on the meta device: names and shapes, without memory for its weights.

    The random numbers of whoever asks stay as they are.

    Raises:
        RuleError: a rule does not fit the model.
    """
    with torch.random.fork_rng(devices=[]):
        model = meta_model(variant.base)
        quantize_in_place(model, variant, seen=survey_of_base(model))
    return model


def check_histograms_fit(variant: ResolvedVariant, path: Path, places: Iterable[str]) -> None:
    """Refuses histograms that are not those of a variant's quantizers.

    Raises:
        CalibrationError: a quantizer of the model has none.
        WeightsError: one is of no quantizer.
    """
    given = set(places)
    odd = sorted(given - require_collected(outline(variant), given).keys())
    if odd:
        raise WeightsError(
            f"{path} does not fit {variant.name}: the model has no quantizer {shown(', '.join(odd[:3]))} ({len(odd)} "
            "such). Take the file and the recipe of one calibration, or calibrate again."
        )


def save_full_checkpoint(
    model: nn.Module, path: Path, *, packed: bool = True, facts: Mapping[str, Any] | None = None
) -> None:
    """Writes a calibrated model: all that its state dict holds, but for batch norm's counters.

    Args:
        model: calibrated.
        path: the path of the safetensors file; replaced in one step.
        packed: store quantized weights as the integers or FP8 values that they are.
        facts: `identity` of the model, if it is known: the digest of its float weights takes reading all of them.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are no quantizers.
    """
    require_quantizers(model)
    require_calibrated(model, "save the model")
    info = ModelInfo(packed=packed, **(facts or identity(model)))
    save_model(path, _packed(model) if packed else _state(model), info)


def load_full_checkpoint(model: nn.Module, path: Path) -> ModelInfo:
    """Gives a quantized model all its weights and ranges from a file, in place; returns what the file says of itself.

    Packed weights come back on their grid: predictions are those of the float weights they were made from, but for
    further training these are needed.

    Args:
        model: quantized as the file's was; its values do not matter.
        path: the path of a file that `save_full_checkpoint` wrote.

    Raises:
        WeightsError: the file is missing, corrupt, or holds another model; nothing is changed.
    """
    tensors, info = load_model(path, _headers(model))
    made = provenance(model)
    if made and made.variant and info.recipe_sha256 != made.variant.digest:
        raise WeightsError(
            f"{path} holds {info.name or 'another variant'} ({info.recipe_sha256[:12]}); this model is "
            f"{made.variant.name} ({made.variant.digest[:12]}). Take the file and the recipe of one folder."
        )
    state = _unpacked(model, tensors, path) if info.packed else tensors
    _check_values(model, state, path)
    set_ranges(model, {key: state[key] for key in get_ranges(model)})
    model.load_state_dict(state, strict=False)  # all but the counters are there: the header was compared
    note_ranges_from(model, info.calibration_source)
    return info


def check_full_checkpoint(meta: nn.Module, path: Path) -> None:
    """Refuses a file that does not hold the full checkpoint of a model, before memory for the model is taken.

    Args:
        meta: the quantized model on the meta device.
        path: the path of the file.

    Raises:
        WeightsError: the file is missing, truncated, or holds another model.
    """
    check_model(path, _headers(meta))


def _check_values(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Refuses tensors that fit the model by shape, and that no model can have."""
    weights, own, made = dict(model.named_parameters(remove_duplicate=False)), model.state_dict(), provenance(model)
    ranges = {key: state[key] for key in get_ranges(model)}
    check_ranges(path, ranges)
    for key, value in state.items():
        fault = value_fault(key, value, weight=key in weights, own=own[key])
        is_table = not (value.is_floating_point() or value.dtype == torch.bool or key in ranges)
        if fault is None and made and made.base and is_table:
            fault = constant_fault(key, value, own[key])
        if fault:
            raise WeightsError(f"{path} {fault}. Fetch it again.")


def _headers(model: nn.Module) -> dict[bool, Header]:
    return {False: _header(_state(model)), True: _packed_header(model)}


def _state(model: nn.Module) -> dict[str, Tensor]:
    # No prediction depends on how many batches a batch norm saw.
    return {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}


def _packed(model: nn.Module) -> dict[str, Tensor]:
    state, weights = _state(model), packable(model)
    stored = state | {key: pack(state[key], on.amax, on.grid, on.zero_point) for key, (_, on) in weights.items()}
    return {
        name: stored[keys[0]] if len(keys) == 1 else torch.stack([stored[key] for key in keys])
        for name, keys in _groups(_header(state), weights).items()
    }


def _unpacked(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    own, weights = _state(model), packable(model)
    stored: dict[str, Tensor] = {}
    for name, keys in _groups(_header(own), weights).items():
        stored |= {keys[0]: tensors[name]} if len(keys) == 1 else dict(zip(keys, tensors[name], strict=True))
    for key, (path_of, on) in weights.items():
        amax, like = stored[f"{path_of}.amax"], own[key]
        if fault := packed_fault(stored[key], on.grid, tuple(like.shape)):
            raise WeightsError(f"{path}: {key} {fault}. {MODEL.remedy}")
        zero_point = stored.get(f"{path_of}.zero_point")
        stored[key] = unpack(stored[key], amax, on.grid, tuple(like.shape), zero_point).to(like.dtype)
    return stored


def _header(state: Mapping[str, Tensor]) -> Header:
    return {key: spec_of(tuple(value.shape), value.dtype) for key, value in state.items()}


def _packed_header(model: nn.Module) -> Header:
    header, weights = _header(_state(model)), packable(model)
    stored = header | {
        key: spec_of(packed_shape(header[key].shape, on.grid), packed_dtype(on.grid))
        for key, (_, on) in weights.items()
    }
    return {
        name: stored[keys[0]]
        if len(keys) == 1
        else TensorSpec(stored[keys[0]].dtype, (len(keys), *stored[keys[0]].shape))
        for name, keys in _groups(header, weights).items()
    }


def _groups(header: Header, apart: Collection[str]) -> dict[str, list[str]]:
    """Returns which tensors a packed file stores as one: `bn1.weight+bias+running_mean+running_var`.

    In a small model the names of batch norm's vectors take as many bytes as the vectors themselves.
    """
    groups: dict[tuple[str, TensorSpec | None], list[str]] = {}
    for key, spec in header.items():
        place = (key, None) if key in apart else (key.rpartition(".")[0], spec)
        groups.setdefault(place, []).append(key)
    return {_joined(keys): keys for keys in groups.values()}


def _joined(keys: list[str]) -> str:
    return "+".join([keys[0], *(key.rpartition(".")[2] for key in keys[1:])])
