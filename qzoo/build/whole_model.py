"""Whole calibrated models as files: weights and ranges together, so that no other weights are needed."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from qzoo.build.identity import identity
from qzoo.build.provenance import provenance
from qzoo.errors import WeightsError
from qzoo.quant.packing import pack, packable, packed_dtype, packed_shape, unpack
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import get_ranges, require_calibrated, require_quantizers, set_ranges
from qzoo.weights.artifact import Header
from qzoo.weights.model_file import ModelInfo, load_model, save_model, spec_of


def save_whole(model: nn.Module, path: Path, *, packed: bool = True) -> None:
    """Writes a calibrated model: all that its state dict holds, but for batch norm's counters.

    Args:
        model: calibrated.
        path: of the safetensors file; replaced in one step.
        packed: store quantized weights as the integers or FP8 values that they are.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are no quantizers.
    """
    require_quantizers(model)
    require_calibrated(model, "save the model")
    info = ModelInfo(packed=packed, **identity(model))
    save_model(path, _packed(model) if packed else _state(model), info)


def load_whole(model: nn.Module, path: Path) -> ModelInfo:
    """Gives a quantized model all its weights and ranges from a file, in place; returns what the file says of itself.

    Packed weights come back on their grid: predictions are those of the float weights they were made from, but for
    further training these are needed.

    Args:
        model: quantized as the file's was; its values do not matter.
        path: of a file that `save_whole` wrote.

    Raises:
        WeightsError: the file is missing, corrupt, or holds another model; nothing is changed.
    """
    tensors, info = load_model(path, {packed: _header(model, packed) for packed in (False, True)})
    made = provenance(model)
    if made and made.variant and info.recipe_sha256 != made.variant.digest:
        raise WeightsError(
            f"{path} holds {info.name or 'another variant'} ({info.recipe_sha256[:12]}); this model is "
            f"{made.variant.name} ({made.variant.digest[:12]}). Take the file and the recipe of one folder."
        )
    state = _unpacked(model, tensors) if info.packed else tensors
    broken = [key for key, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise WeightsError(f"{path} holds NaN or Inf in {', '.join(broken[:3])}. Fetch it again.")
    ranges = {key: tensors[key] for key in get_ranges(model)}
    set_ranges(model, ranges)
    model.load_state_dict(state, strict=False)  # all but the counters are there: the header was compared
    return info


def _state(model: nn.Module) -> dict[str, Tensor]:
    # No prediction depends on how many batches a batch norm saw.
    return {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}


def _packed(model: nn.Module) -> dict[str, Tensor]:
    state = _state(model)
    quantized = {key: pack(state[key], on.amax, on.grid) for key, on in packable(model).items()}
    return state | quantized


def _unpacked(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    own = model.state_dict()

    def weight(key: str, on: TensorQuantizer) -> Tensor:
        amax = tensors[f"{key}_quantizer.amax"]
        return unpack(tensors[key], amax, on.grid, tuple(own[key].shape)).to(own[key].dtype)

    return tensors | {key: weight(key, on) for key, on in packable(model).items()}


def _header(model: nn.Module, packed: bool) -> Header:
    header = {key: spec_of(tuple(value.shape), value.dtype) for key, value in _state(model).items()}
    if packed:
        shapes = {key: header[key].shape for key in packable(model)}
        header |= {
            key: spec_of(packed_shape(shapes[key], on.grid), packed_dtype(on.grid))
            for key, on in packable(model).items()
        }
    return header
