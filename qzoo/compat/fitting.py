"""Giving a quantized model of qzoo what another toolkit's state dict holds, or saying what does not fit."""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.compat.foreign_keys import Translated, translate
from qzoo.errors import UnknownNameError, WeightsError, shown
from qzoo.quant.grouped import is_shared_by_groups, ungrouped_by_output
from qzoo.quant.layers import TRANSPOSED
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers, require_quantizers, set_ranges
from qzoo.quant.zero_point import symmetric_as_asymmetric
from qzoo.weights.values import COUNTER, constant_fault, plain_fault, value_fault

FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
SHOWN = 5
"""Tensors of a wrong shape that a message names."""
MOST_GROUPS = 12
"""Globs of keys that a message names."""
LONGEST_KEY = 200
"""Signs of one that it shows."""
UNUSABLE = ("is NaN: its calibrator saw nothing", "is negative or infinite")
"""What is said of ranges that are none."""
ALONG_INPUTS = (
    "is along axis 0, the input channels, as older versions of pytorch-quantization have transposed convolutions "
    "(2.2.1: axis 1). Say QuantDescriptor(axis=1) in the script that made it, and calibrate its weights again"
)


@dataclass(frozen=True)
class Fit:
    """How a state dict fits a model.

    Attributes:
        weights: how many float tensors are of the model.
        ranges: how many ranges are.
        wrapper: what stood before every key, such as `module.`.
        unexpected: keys of the state dict that no tensor or quantizer of the model answers to.
        left_out: keys that were to be left out.
        spread: keys of ranges that the model has more of, one for all channels or groups: as many equal ones.
        missing: tensors and quantizers of the model that the state dict has nothing for.
        wrong: by key of the state dict, what is wrong with it.
    """

    weights: int = 0
    ranges: int = 0
    wrapper: str = ""
    unexpected: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    spread: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    wrong: dict[str, str] = field(default_factory=dict)

    @property
    def same_weights(self) -> bool:
        """Whether the float weights are of the model's names and shapes, so that only quantizers and ranges differ."""
        return all(_is_range(key) for key in (*self.unexpected, *self.missing, *self.wrong))

    @property
    def unusable(self) -> bool:
        """Whether all that is wrong are ranges that are no numbers."""
        return bool(self.wrong) and not (self.unexpected or self.missing) and set(self.wrong.values()) <= set(UNUSABLE)

    @property
    def fits(self) -> bool:
        """Whether all fits, so that there are no problems."""
        return bool(self.ranges and self.weights) and not (self.unexpected or self.missing or self.wrong)

    @property
    def problems(self) -> list[str]:
        """What does not fit, a line each; none if all fits."""
        lines = []
        if not self.ranges and not self.wrong:
            lines.append("no range of the model is in it: is it the checkpoint of a float model?")
        if not self.weights and not self.wrong:
            lines.append("no weight of the model is in it: qzoo's own files of ranges are for qzoo.load")
        if self.unexpected:
            keys = "1 key" if len(self.unexpected) == 1 else f"{len(self.unexpected)} keys"
            lines.append(f"unexpected, {keys}: {grouped(self.unexpected)}")
        if any(key.endswith("_pre_quant_scale") for key in self.unexpected):
            lines.append("qzoo has no scale before quantizing: fold _pre_quant_scale into the layer before")
        if self.missing:
            lines.append(f"missing in the checkpoint, {len(self.missing)}: {grouped(self.missing)}")
        lines += [f"{shown(key)}: {problem}" for key, problem in list(self.wrong.items())[:SHOWN]]
        return lines + ([f"and {len(self.wrong) - SHOWN} more of this kind"] if len(self.wrong) > SHOWN else [])


class MisfitError(WeightsError):
    """A state dict does not fit a model.

    Attributes:
        fit: how.
    """

    def __init__(self, fit: Fit) -> None:
        super().__init__("\n  ".join(["The state dict does not fit the model:", *fit.problems]))
        self.fit = fit


def load_state_dict(model: nn.Module, state: Mapping[str, Any], ignore: Iterable[str] = ()) -> Fit:
    """Gives a quantized model the weights and ranges of another toolkit's state dict, in place.

    What a state dict does not say, bits, signedness, narrow range, is as the model's recipe says; a quantizer whose
    sign the calibration decides (`unsigned: auto`) becomes a signed one.

    Args:
        model: one of qzoo, with the same quantizers; `qzoo.create(variant)` or `qzoo.quantize(float_model, scheme)`.
        state: a state dict of pytorch-quantization or Model-Optimizer, behind `module.` or not.
        ignore: globs of keys to leave out, `["avgpool.*"]`.

    Returns:
        What was taken over.

    Raises:
        MisfitError: a key has no home, a quantizer gets no range, or a shape differs; all of it is said, and nothing
            is changed. It is a `WeightsError`.
        UnknownNameError: no key matches a glob.

    Example:
        >>> from qzoo.compat import export_state_dict
        >>> there = export_state_dict(qzoo.create("resnet8_digits_int8", pretrained=True))
        >>> load_state_dict(qzoo.create("resnet8_digits_int8"), there).ranges
        17
    """
    require_quantizers(model)
    kept, left_out = _without(state, ignore)
    translated = translate(kept)
    ranges, fit = _fit(model, translated, left_out)
    if fit.problems:
        raise MisfitError(fit)
    model.load_state_dict(translated.weights, strict=False)
    set_ranges(model, ranges)
    return fit


def fit_of(model: nn.Module, state: Mapping[str, Any], ignore: Iterable[str] = ()) -> Fit:
    """Returns how a state dict fits a quantized model, which is not changed and may lie on the meta device."""
    return fits_of(state, ignore)(model)


def fits_of(state: Mapping[str, Any], ignore: Iterable[str] = ()) -> Callable[[nn.Module], Fit]:
    """Returns what `fit_of` says of one state dict and any model: keys are translated once, and there may be many."""
    kept, left_out = _without(state, ignore)
    translated = translate(kept)
    return lambda model: _fit(model, translated, left_out)[1]


def grouped(keys: Iterable[str]) -> str:
    """Returns keys on one line, those that differ by numbers as one.

    Example:
        >>> grouped(["layer1.0.bn1.bias", "layer1.1.bn1.bias", "fc.bias"])
        'layer1.*.bn1.bias (2), fc.bias'
    """
    groups = by_numbers(keys)
    named = [
        f"{short(glob)} ({len(found)})" if len(found) > 1 else short(glob)
        for glob, found in itertools.islice(groups.items(), MOST_GROUPS)
    ]
    more = len(groups) - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")


def short(key: str) -> str:
    """Returns a key for a message, which names many."""
    text = shown(key)
    return text if len(text) <= LONGEST_KEY else f"{text[:LONGEST_KEY]}..."


def by_numbers(keys: Iterable[str]) -> dict[str, list[str]]:
    """Returns keys that differ by numbers under one glob, in which only the numbers that differ are `*`."""
    groups: dict[str, list[str]] = {}
    for key in keys:
        groups.setdefault(re.sub(r"\d+", "*", key), []).append(key)
    return {_glob(found): found for found in groups.values()}


def _glob(keys: list[str]) -> str:
    if len(keys) == 1:
        return keys[0]
    parts = zip(*(re.split(r"(\d+)", key) for key in keys), strict=True)
    return "".join(part[0] if len(set(part)) == 1 else "*" for part in parts)


def _is_range(key: str) -> bool:
    return key.endswith(("._amax", ".amax"))


def _without(state: Mapping[str, Any], ignore: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    patterns = list(ignore)
    out = [key for key in state if any(fnmatch.fnmatchcase(key, pattern) for pattern in patterns)]
    unmatched = [pattern for pattern in patterns if not any(fnmatch.fnmatchcase(key, pattern) for key in out)]
    if unmatched:
        raise UnknownNameError(f"To be left out, but no key matches: {', '.join(unmatched)}. Keys are as in the file.")
    leave = set(out)
    return {key: value for key, value in state.items() if key not in leave}, out


def _fit(model: nn.Module, translated: Translated, left_out: list[str]) -> tuple[dict[str, Tensor], Fit]:
    own = model.state_dict()
    found = quantizers(model)
    floats = {key for key in own if key.rpartition(".")[0] not in found}
    expected = {f"{path}.amax": quantizer for path, quantizer in found.items()}
    weights = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    wrong = {
        translated.origin[key]: problem
        for key, value in translated.weights.items()
        if key in floats and (problem := _misfit(key, value, own[key], weight=key in weights))
    }
    ranges: dict[str, Tensor] = {}
    for key in [key for key in translated.ranges if key in expected]:
        layer = model.get_submodule(key.removesuffix(".amax").rpartition(".")[0])
        problem = _take_over(ranges, key, translated.ranges[key], expected[key], layer)
        if problem:
            wrong[translated.origin[key]] = problem
    given = translated.weights.keys() | translated.ranges.keys()
    wanted = floats | expected.keys()
    unexpected, missing = given - wanted, wanted - given
    return ranges, Fit(
        weights=len(translated.weights.keys() & floats),
        ranges=len(translated.ranges.keys() & expected.keys()),
        wrapper=translated.wrapper,
        unexpected=[origin for key, origin in translated.origin.items() if key in unexpected] + translated.strange,
        left_out=left_out,
        spread=[
            translated.origin[key]
            for key, amax in ranges.items()
            if key in translated.origin and translated.ranges[key].numel() < amax.numel()
        ],
        missing=[key for key in own if key in missing and not key.endswith(COUNTER)],
        wrong=wrong,
    )


def _misfit(key: str, value: Tensor, own: Tensor, *, weight: bool) -> str | None:
    """Returns why a tensor of a state dict can't be one of the model's, or None."""
    if value.shape != own.shape:
        return f"has shape {_shape(value)}, the model's {_shape(own)}"
    if own.is_floating_point() and (value.dtype not in FLOATS or value.is_meta):
        return f"holds {_dtype(value)}, not float values: was it compressed? Export it before that"
    if fault := plain_fault(value):
        return fault
    if value.is_floating_point() != own.is_floating_point():
        return f"holds {_dtype(value)}, the model's {_dtype(own)}"
    # As the model will hold it: a number may be finite in float64 alone.
    cast = value if own.is_meta else value.to(own.dtype)
    fault = value_fault(key, cast, weight=weight, own=own)
    if fault is None and not own.is_floating_point() and not key.endswith(COUNTER) and own.dtype != torch.bool:
        fault = constant_fault(key, cast, own)
    return fault and fault.replace(f" in {key}", "", 1)  # which the line begins with


def _take_over(
    ranges: dict[str, Tensor], key: str, amax: Tensor, quantizer: TensorQuantizer, layer: nn.Module
) -> str | None:
    """Notes a range in the shape that a quantizer of qzoo has; or returns what is wrong with it."""
    wanted = tuple(quantizer.amax.shape)
    fault = f"holds no ranges, but {_dtype(amax)}" if amax.dtype not in FLOATS or amax.is_meta else plain_fault(amax)
    if fault is not None:
        return fault
    if key.endswith("weight_quantizer.amax") and _along_inputs(layer, amax):
        return ALONG_INPUTS
    amax = ungrouped_by_output(amax, wanted)
    if not _fits(amax.shape, quantizer.amax.shape):
        return f"has shape {_shape(amax)}, the model's {list(wanted)}"
    amax = amax.detach().float().cpu()  # as the model will hold it: a number may be finite in float64 alone
    if bool(amax.isnan().any()):
        return UNUSABLE[0]
    if not bool((amax.isfinite() & (amax >= 0)).all()):
        return UNUSABLE[1]
    # One range for all channels, or all groups, is as many equal ones.
    ranges[key] = amax.reshape(wanted) if amax.numel() == quantizer.amax.numel() else amax.expand(wanted).clone()
    place = key.removesuffix(".amax")
    if quantizer.unsigned is not None:
        ranges[f"{place}.unsigned"] = torch.zeros((), dtype=torch.bool)
    if quantizer.zero_point is not None:
        ranges[key], _, zero_point = symmetric_as_asymmetric(ranges[key], quantizer.grid)
        assert zero_point is not None
        ranges[f"{place}.zero_point"] = zero_point
    return None


def _fits(given: torch.Size, wanted: torch.Size) -> bool:
    """Whether ranges of one shape can be those of another.

    A single range has one of many shapes, and several may lie in a row; else they are along the same axis. The groups
    of a transposed convolution share theirs in pytorch-quantization, and have their own here.
    """
    in_a_row = len(given) == 1 and given.numel() == wanted.numel()
    return given.numel() == 1 or in_a_row or given == wanted or is_shared_by_groups(given, wanted)


def _along_inputs(layer: nn.Module, amax: Tensor) -> bool:
    """Whether ranges are those of a transposed convolution's input channels, none of which an output channel has.

    Older versions of pytorch-quantization have them along axis 0. In a depthwise one, the two are the same.
    """
    if not isinstance(layer, TRANSPOSED) or amax.dim() != layer.weight.dim() or len(amax) != layer.in_channels:
        return False
    of_groups = amax.nan_to_num().reshape(layer.groups, layer.in_channels // layer.groups, -1)
    return bool((of_groups != of_groups[:, :1]).any())


def _dtype(tensor: Tensor) -> str:
    return "nothing (meta)" if tensor.is_meta else str(tensor.dtype).removeprefix("torch.")


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
