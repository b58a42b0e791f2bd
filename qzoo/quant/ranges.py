"""All ranges of a model at once: finding its quantizers, reading their ranges, giving them ranges."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from qzoo.errors import NotCalibratedError, WeightsError
from qzoo.quant.grouped import SHARED_BY_GROUPS, is_shared_by_groups
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.zero_point import zero_point_fault


def quantizers(model: nn.Module, role: str | None = None) -> dict[str, TensorQuantizer]:
    """Returns the model's quantizers by module path, in the order of the model.

    Args:
        model: any module.
        role: only those named `<role>_quantizer`, such as `input`.

    Example:
        >>> quantizers(nn.Linear(2, 2))
        {}
    """
    suffix = "" if role is None else f"{role}_quantizer"
    return {
        path: module
        for path, module in model.named_modules()
        if isinstance(module, TensorQuantizer) and path.endswith(suffix)
    }


def is_of_weight(path: str) -> bool:
    """Whether the quantizer at a path is of a weight, of a layer that is called or not: their names all end so.

    Example:
        >>> is_of_weight("attn.in_proj_weight_quantizer"), is_of_weight("attn.in_proj_input_quantizer")
        (True, False)
    """
    return path.endswith("weight_quantizer")


@contextmanager
def switched_off(found: Iterable[TensorQuantizer]) -> Iterator[None]:
    """Switches quantizers off; when the context ends, each has its state back."""
    states = {quantizer: quantizer.state for quantizer in found}
    try:
        for quantizer in states:
            quantizer.state = "off"
        yield
    finally:
        for quantizer, state in states.items():
            quantizer.state = state


def uncalibrated(model: nn.Module) -> list[str]:
    """Returns the paths of the quantizers that have no range yet."""
    return [path for path, quantizer in quantizers(model).items() if not quantizer.calibrated]


def require_calibrated(model: nn.Module, purpose: str) -> None:
    """Refuses a model whose quantizers lack ranges.

    Raises:
        NotCalibratedError: names the quantizers, at most three of them.
    """
    missing = uncalibrated(model)
    if missing:
        named = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        raise NotCalibratedError(
            f"Can't {purpose}: {len(missing)} quantizers have no range ({named}). "
            "Run qzoo.calibrate(model, images) first, or create the model with pretrained=True."
        )


def require_quantizers(model: nn.Module) -> None:
    """Refuses a model without quantizers.

    Raises:
        NotCalibratedError: says how to get some.
    """
    if not quantizers(model):
        raise NotCalibratedError(
            "This model has no quantizers. Make it with qzoo.create(variant) or qzoo.quantize(model, scheme)."
        )


def get_ranges(model: nn.Module) -> dict[str, Tensor]:
    """Returns a copy of every range, keyed like the state dict: `layer1.0.conv1.input_quantizer.amax`.

    `...unsigned` (bool) stands beside the range of a quantizer whose recipe says `unsigned: auto`, `...zero_point`
    (int32) where it says `symmetric: false` or `auto`.
    """
    return {
        f"{path}.{name}": buffer.detach().cpu().clone()
        for path, quantizer in quantizers(model).items()
        for name, buffer in quantizer.named_buffers()
    }


def set_ranges(model: nn.Module, ranges: Mapping[str, Tensor]) -> None:
    """Gives every quantizer its range, in place, and switches it on.

    Raises:
        WeightsError: keys are missing or unknown, or a range has another shape or is not finite; nothing is changed.
    """
    found = quantizers(model)
    expected = {f"{path}.{name}" for path, quantizer in found.items() for name, _ in quantizer.named_buffers()}
    if expected != set(ranges):
        missing, extra = sorted(expected - set(ranges)), sorted(set(ranges) - expected)
        raise WeightsError(
            f"The ranges do not fit the model: {len(missing)} missing ({', '.join(missing[:3]) or 'none'}), "
            f"{len(extra)} unknown ({', '.join(extra[:3]) or 'none'}). They were made for another variant or recipe."
        )
    for path, quantizer in found.items():
        _check(path, quantizer, ranges)
    for path, quantizer in found.items():
        unsigned = ranges.get(f"{path}.unsigned")
        known = None if unsigned is None else bool(unsigned)
        quantizer.set_amax(ranges[f"{path}.amax"], known, ranges.get(f"{path}.zero_point"))


def _check(path: str, quantizer: TensorQuantizer, ranges: Mapping[str, Tensor]) -> None:
    amax, zero_point = ranges[f"{path}.amax"], ranges.get(f"{path}.zero_point")
    if tuple(amax.shape) != tuple(quantizer.amax.shape):
        shared = is_shared_by_groups(amax.shape, quantizer.amax.shape)
        raise WeightsError(
            f"The range {path}.amax has shape {tuple(amax.shape)}; the model's has {tuple(quantizer.amax.shape)}. "
            f"{SHARED_BY_GROUPS if shared else 'It was made for another base or granularity.'}"
        )
    if not bool((amax.isfinite() & (amax >= 0)).all()):
        raise WeightsError(f"The range {path}.amax holds a value that is negative or not finite. Calibrate again.")
    if zero_point is not None and (fault := zero_point_fault(zero_point, quantizer.amax.shape, quantizer.grid)):
        raise WeightsError(f"The range {path}.zero_point {fault}. Calibrate again.")
