"""Ranges in training: made parameters, kept positive, made ranges again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qzoo.errors import UnsupportedError
from qzoo.quant.fake_quant import Grid
from qzoo.quant.inputs import run
from qzoo.quant.learned_scale import initial_amax, keep_positive
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import is_of_weight, quantizers
from qzoo.quant.weights import quantized_weights
from qzoo.schema.finetune import Scales


def learn_scales(
    model: nn.Module, scales: Scales, example: Any, shared: Iterable[list[str]] = ()
) -> list[nn.Parameter]:
    """Makes the ranges of a calibrated model parameters, in place, and returns them.

    Args:
        model: calibrated.
        scales: whether they are learned at all, and where they start. Those with a zero point, which is learned too,
            start where they were calibrated.
        example: the inputs of a batch, on the model's device, where LSQ's start is to be measured on it; or None.
        shared: paths of quantizers that get one range, that of the first, group by group.

    Raises:
        UnsupportedError: a quantizer is of a format that has no steps, such as FP8; it is named.
    """
    if not scales.learn:
        return []
    before = {quantizer: quantizer.amax.clone() for quantizer in quantizers(model).values()}
    if scales.init == "lsq" and example is not None and all(quantizer.calibrated for quantizer in before):
        _start_as_lsq(model, example)
    first = {path: group[0] for group in shared for path in group}
    parameters: dict[str, nn.Parameter] = {}
    found = quantizers(model)
    for path, quantizer in found.items():
        try:
            lead = first.get(path, path)
            parameters[path] = quantizer.learn(_what(path), found[lead] if lead in parameters else None)
        except UnsupportedError as error:
            settle_scales(model)
            for changed, amax in before.items():
                changed.amax.copy_(amax)
            raise UnsupportedError(f"{path}: {error} Say `scales: fixed`, or use integers.") from error
    return list(dict.fromkeys(parameters.values()))


def settle_scales(model: nn.Module) -> None:
    """Makes learned ranges buffers again, in place, of the values that were learned."""
    for quantizer in quantizers(model).values():
        quantizer.settle()


def keep_scales_positive(parameters: list[nn.Parameter]) -> None:
    """Puts ranges that a step made too small, or negative, back to the smallest one, in place."""
    for parameter in parameters:
        keep_positive(parameter)


def learned_zero_points(model: nn.Module) -> list[tuple[nn.Parameter, Grid]]:
    """Returns the zero points of a model that are learned, each with its grid."""
    found = {one.zero_point: one.grid for one in quantizers(model).values() if isinstance(one.zero_point, nn.Parameter)}
    return list(found.items())


def keep_on_grid(zero_points: list[tuple[nn.Parameter, Grid]]) -> None:
    """Puts zero points that a step moved beside their grid back to its end, in place."""
    with torch.no_grad():
        for zero_point, on in zero_points:
            zero_point.clamp_(on.low, on.high)


def _what(path: str) -> Literal["weight", "activation"]:
    return "weight" if is_of_weight(path) else "activation"


def _start_as_lsq(model: nn.Module, example: Any) -> None:
    for one in quantized_weights(model).values():
        if one.values is None or one.quantizer.zero_point is not None:
            continue  # it is computed, or has two ends; it starts where it was calibrated
        weight, amax = one.values.unflatten(0, (one.groups, -1)), one.quantizer.amax
        own = (0, one.axis + 1) if amax.dim() and one.axis is not None else ()
        spanned = tuple(dim for dim in range(weight.dim()) if dim not in own)
        one.quantizer.set_amax(initial_amax(weight, one.quantizer.grid, spanned).reshape(amax.shape))
    # After the weights, so that activations are seen as training starts with them.
    with _each_starting_from_what_it_sees(model), torch.no_grad():
        run(model, example)


@contextmanager
def _each_starting_from_what_it_sees(model: nn.Module) -> Iterator[None]:
    """While this lasts, activation quantizers set their range by the first tensor that they get, and apply it."""
    waiting = {q for path, q in quantizers(model).items() if _what(path) == "activation" and q.zero_point is None}

    def start(quantizer: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(quantizer, TensorQuantizer) and quantizer in waiting:
            waiting.remove(quantizer)
            quantizer.set_amax(initial_amax(args[0], quantizer.grid, tuple(range(args[0].dim()))))

    hooks = [quantizer.register_forward_pre_hook(start) for quantizer in waiting]
    # Batch norm must not learn from this pass.
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module, training in modes.items():
            module.training = training
