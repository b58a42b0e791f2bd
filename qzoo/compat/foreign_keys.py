"""The keys of others' state dicts, to and from those of qzoo.

| toolkit                | a range of a layer                      | of a quantizer of its own            |
|------------------------|-----------------------------------------|--------------------------------------|
| pytorch-quantization   | `conv1._input_quantizer._amax`          | `layer1.0.residual_quantizer._amax`  |
| NVIDIA Model-Optimizer | `conv1.input_quantizer._amax`           | `layer1.0.residual_quantizer._amax`  |
| qzoo                   | `conv1.input_quantizer.amax`            | `layer1.0.residual_quantizer.amax`   |

Float weights have the keys of the float model in all three, behind `module.` if the model was wrapped.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.errors import UnknownNameError, UnsupportedError, did_you_mean, some
from qzoo.quant.grouped import along_weight
from qzoo.quant.layers import float_weight
from qzoo.quant.ranges import quantizers, require_calibrated, require_quantizers
from qzoo.weights.values import plain_fault

Toolkit = Literal["pytorch-quantization", "model-optimizer"]
TOOLKITS: tuple[Toolkit, ...] = ("pytorch-quantization", "model-optimizer")

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key."""
MOST_WRAPPERS = 8
LAYER_ROLES = ("input_quantizer", "weight_quantizer", "output_quantizer")
OTHER = {"min": "max", "max": "min"}
_CLIP = re.compile(r"(.*)\.clip\.clip_value_(min|max)$")


class Translated(NamedTuple):
    """A state dict in the keys of qzoo.

    Attributes:
        weights: float tensors, by the keys of the float model.
        ranges: by the keys of qzoo, `conv1.input_quantizer.amax`.
        origin: by key of qzoo, the key that it had.
        strange: the keys of what is neither, such as `_pre_quant_scale`.
        wrapper: what stood before every key, such as `module.`.
    """

    weights: dict[str, Tensor]
    ranges: dict[str, Tensor]
    origin: dict[str, str]
    strange: list[str]
    wrapper: str


def translate(state: Mapping[str, Any]) -> Translated:
    """Returns a state dict of pytorch-quantization or Model-Optimizer in the keys of qzoo.

    A range that was learned is that of its two bounds, whatever `_amax` stands beside them.

    Example:
        >>> translated = translate({"module.fc._input_quantizer._amax": torch.tensor(2.0)})
        >>> translated.ranges, translated.wrapper
        ({'fc.input_quantizer.amax': tensor(2.)}, 'module.')
    """
    wrapper = _wrapper(state)
    result = Translated({}, {}, {}, [], wrapper)
    learned: dict[str, dict[str, Tensor]] = {}
    for full_key, value in state.items():
        key = str(full_key).removeprefix(wrapper)
        owner, _, name = key.rpartition(".")
        bound = _CLIP.match(key)
        if bound and _is_bound(value) and _is_bound(state.get(f"{full_key[: -len(bound[2])]}{OTHER[bound[2]]}")):
            learned.setdefault(_qzoo_path(bound[1]), {})[bound[2]] = torch.as_tensor(value).double().view(())
        elif not isinstance(value, Tensor) or (owner.endswith("quantizer") and name not in ("_amax", "amax")):
            result.strange.append(full_key)
        elif name in ("_amax", "amax"):
            range_key = f"{_qzoo_path(owner)}.amax"
            if range_key in result.ranges:  # of two spellings, neither is known to be the right one
                result.strange.append(full_key)
                continue
            result.ranges[range_key], result.origin[range_key] = value, full_key
        else:
            result.weights[key], result.origin[key] = value, full_key
    for path, bounds in learned.items():
        # Bounds that are none become a range that is none.
        upper = torch.where(bounds["min"] <= bounds["max"], torch.maximum(bounds["max"], -bounds["min"]), -1.0)
        result.ranges[f"{path}.amax"] = upper.float()
        result.origin.setdefault(f"{path}.amax", f"{wrapper}{path}.clip.clip_value_max")
    return result


def export_state_dict(model: nn.Module, toolkit: Toolkit = "pytorch-quantization") -> OrderedDict[str, Tensor]:
    """Returns the state dict that a calibrated model would have in another toolkit: `torch.save` writes it.

    Args:
        model: a model of qzoo, calibrated.
        toolkit: `pytorch-quantization` or `model-optimizer`.

    Returns:
        Float weights and ranges, on their devices; they share memory with the model, as `model.state_dict()` does.

    Raises:
        NotCalibratedError: a quantizer has no range, or there are no quantizers.
        UnknownNameError: the toolkit is unknown.
        UnsupportedError: the calibration found a tensor to be unsigned, of which a state dict says nothing; or a
            quantizer has a zero point.

    Example:
        >>> model = qzoo.create("resnet8_digits_int8", pretrained=True)
        >>> [key for key in export_state_dict(model) if key.startswith("conv1")]
        ['conv1.weight', 'conv1._input_quantizer._amax', 'conv1._weight_quantizer._amax']
    """
    if toolkit not in TOOLKITS:
        raise UnknownNameError(f"Unknown toolkit {toolkit!r}. {did_you_mean(str(toolkit), TOOLKITS)}")
    require_quantizers(model)
    require_calibrated(model, "export the state dict")
    paths = quantizers(model)
    found_unsigned = [path for path, one in paths.items() if one.unsigned is not None and bool(one.unsigned)]
    if found_unsigned:
        raise UnsupportedError(
            f"{len(found_unsigned)} quantizers are unsigned because the calibration saw no negative value "
            f"({found_unsigned[0]} ...). A state dict of {toolkit} does not say so, and its signed quantizers "
            "would take another scale. Calibrate a variant with `unsigned: false`, such as int8."
        )
    if asymmetric := [path for path, one in paths.items() if one.zero_point is not None]:
        raise UnsupportedError(
            f"{some(asymmetric, 1)} has a zero point, and ranges of {toolkit} are symmetric. Calibrate a variant with "
            "`symmetric: true`, such as int8."
        )
    exported: OrderedDict[str, Tensor] = OrderedDict()
    for key, value in model.state_dict().items():
        owner, _, name = key.rpartition(".")
        if owner not in paths:
            exported[key] = value
        elif name == "amax":
            layer = model.get_submodule(owner.rpartition(".")[0])
            weight = owner.endswith("weight_quantizer")
            exported[f"{_foreign_path(owner, toolkit)}._amax"] = (
                along_weight(value, float_weight(layer)) if weight else value
            )
    return exported


def _is_bound(value: Any) -> bool:
    """Whether a value is a number, or a tensor of one."""
    if isinstance(value, Tensor):
        return plain_fault(value) is None and value.numel() == 1 and not value.is_complex()
    return isinstance(value, float) or (isinstance(value, int) and abs(value) < 2**63)


def _wrapper(state: Mapping[str, Any]) -> str:
    found = ""
    for _ in range(MOST_WRAPPERS if state else 0):
        more = next((w for w in WRAPPERS if all(str(key).startswith(found + w) for key in state)), None)
        if more is None:
            break
        found += more
    return found


def _qzoo_path(path: str) -> str:
    owner, dot, name = path.rpartition(".")
    return f"{owner}{dot}{name.lstrip('_')}"


def _foreign_path(path: str, toolkit: Toolkit) -> str:
    owner, dot, name = path.rpartition(".")
    private = toolkit == "pytorch-quantization" and name in LAYER_ROLES
    return f"{owner}{dot}{'_' if private else ''}{name}"
