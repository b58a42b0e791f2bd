"""Learning one unit: the rounding of its weights, and the ranges of its activations, by the error of its output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.optimization.reconstruction.dropped import Drop, DroppedQuantizer
from qzoo.optimization.reconstruction.learned_rounding import Sides, beta_at, sides
from qzoo.optimization.reconstruction.stand_ins import SoftRounding, fixed_norms, standing_in
from qzoo.optimization.units.find import Unit
from qzoo.optimization.units.inputs import UnitInputs, run_unit
from qzoo.quant.eval_mode import device_of
from qzoo.quant.learned_scale import keep_positive
from qzoo.quant.pieces import in_memory_order
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.optimize import LearnedRounding


@dataclass(frozen=True)
class How:
    """How a unit is learned.

    Attributes:
        spec: steps, batch size, learning rate and regularizer.
        drop: the probability that an element of an activation is left in float.
        range_lr: the learning rate of ranges, relative to these; None where they stay as they are.
        unrounded: by the path of their quantizer, weights as they were before another step rounded them: it is their
            two sides that are learned.
    """

    spec: LearnedRounding
    drop: float = 0.0
    range_lr: float | None = None
    unrounded: Mapping[str, Tensor] = field(default_factory=dict)


def learn_unit(
    model: nn.Module, unit: Unit, inputs: UnitInputs, how: How, seed: int, steps: Iterable[Any]
) -> dict[str, Tensor]:
    """Returns the rounded weights of a unit by the path of their quantizer; learned ranges are in the quantizers.

    Args:
        model: quantized, in evaluation mode; its weights stay as they are.
        unit: of it.
        inputs: of the unit.
        how: how it is learned.
        seed: of minibatches and of what is dropped.
        steps: as many items as there are steps, gone through as it is learned.

    Source: AdaRound (arXiv 2004.10568), BRECQ (arXiv 2102.05426, section 3), QDrop (arXiv 2203.05740, section 4.3).
    """
    soft = {
        path: SoftRounding(_sides(how.unrounded.get(path, one.values), one.quantizer))
        for path, one in unit.weights.items()
        if one.values is not None
    }
    generator = torch.Generator(device_of(model)).manual_seed(seed)
    drop, laid_out = Drop(how.drop, generator), _layout(model, unit)
    mixing = {path: DroppedQuantizer(one, drop) for path, one in unit.activations.items()}
    with ExitStack() as stack:
        stack.enter_context(standing_in(model, {**fixed_norms(model, unit.paths), **mixing, **soft}))
        ranges = stack.enter_context(_learned_ranges(unit, how))
        optimizer = _optimizer(list(soft.values()), ranges, how)
        minibatches = _minibatches(inputs, how.spec.batch_size, seed)
        for step, (_, rows) in enumerate(zip(steps, minibatches, strict=False)):
            _set_schedules(step, how.spec, soft.values(), optimizer)
            x, target = (laid_out(one) for one in _minibatch(inputs, rows, drop, generator.device))
            with torch.enable_grad():
                loss = _loss(run_unit(model, unit.paths, inputs.given, x), target, unit.channels)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            for parameter in ranges:
                keep_positive(parameter)
    return {path: one.rounded() for path, one in soft.items()}


def _sides(weight: Tensor, quantizer: TensorQuantizer) -> Sides:
    return sides(weight, quantizer.amax, quantizer.grid, quantizer.zero_point)


def output_error(model: nn.Module, unit: Unit, inputs: UnitInputs, batch: int) -> float:
    """Returns the squared error of a unit's output, relative to the squares of what it is to give.

    Args:
        model: as for `learn_unit`.
        unit: of it.
        inputs: of the unit.
        batch: how many images go through it at a time.
    """
    error = total = 0.0
    size = batch * inputs.rows
    with torch.no_grad():
        for x, target in zip(inputs.quantized.split(size), inputs.targets.split(size), strict=True):
            # The unit may write to what it is given, which is in a file.
            given = x.clone().to(device_of(model), inputs.dtype)
            y = run_unit(model, unit.paths, inputs.given, given)
            error += float((y.cpu().double() - target).square_().sum())
            total += float(target.double().square_().sum())
    return error / total if total else math.sqrt(error)


@contextmanager
def _learned_ranges(unit: Unit, how: How) -> Iterator[list[nn.Parameter]]:
    parameters = []
    try:
        for first, *others in unit.ranges if how.range_lr is not None else ():
            parameters.append(unit.activations[first].learn("activation"))
            for path in others:
                unit.activations[path].learn("activation", unit.activations[first])
        yield parameters
    finally:
        for quantizer in unit.activations.values():
            quantizer.settle()


def _optimizer(soft: list[SoftRounding], ranges: list[nn.Parameter], how: How) -> torch.optim.Adam:
    groups = [{"params": [one.a for one in soft], "lr": how.spec.lr}]
    for parameter in ranges:
        lr = (how.range_lr or 0.0) * float(parameter.detach())
        groups.append({"params": [parameter], "lr": lr, "start": lr})
    return torch.optim.Adam(groups, fused=True)


def _set_schedules(
    step: int, spec: LearnedRounding, soft: Iterable[SoftRounding], optimizer: torch.optim.Optimizer
) -> None:
    beta = beta_at(step, spec.iterations, spec.warmup, spec.beta)
    for one in soft:
        one.weight, one.beta = (0.0, 2.0) if beta is None else (spec.regularizer, beta)
    for group in optimizer.param_groups[1:]:
        group["lr"] = group["start"] * (1 + math.cos(math.pi * step / spec.iterations)) / 2


def _minibatches(inputs: UnitInputs, images: int, seed: int) -> Iterator[Tensor]:
    """Yields the rows of images, drawn anew each time; without end."""
    generator, rows = torch.Generator().manual_seed(seed), torch.arange(inputs.rows)
    while True:
        drawn = torch.randperm(len(inputs.floats) // inputs.rows, generator=generator)[:images]
        yield (drawn.unsqueeze(1) * inputs.rows + rows).flatten()


def _minibatch(inputs: UnitInputs, rows: Tensor, drop: Drop, device: torch.device) -> tuple[Tensor, Tensor]:
    x, target = (rows_of.index_select(0, rows).to(device) for rows_of in (inputs.quantized, inputs.targets))
    if drop.probability:
        x = drop.mixed(x, inputs.floats.index_select(0, rows).to(device))
    return x.to(inputs.dtype), target


def _layout(model: nn.Module, unit: Unit) -> Callable[[Tensor], Tensor]:
    """Returns what lays out images so that the unit is fastest: on CPUs, channels last where convolutions are grouped.

    PyTorch's gradients of depthwise convolutions take two thirds of the time then, and those of others more.
    """
    modules = [module for path in unit.paths for module in model.get_submodule(path).modules()]
    grouped = any(getattr(module, "groups", 1) > 1 for module in modules) and device_of(model).type == "cpu"
    return lambda x: x.contiguous(memory_format=torch.channels_last) if grouped and x.dim() == 4 else x


def _loss(y: Tensor, target: Tensor, channels: int) -> Tensor:
    """Returns the squared error, summed over channels, its mean over everything else."""
    return _SquaredError.apply(y, target, channels / target.numel())  # type: ignore[no-any-return]


class _SquaredError(torch.autograd.Function):
    """`factor * sum((y - target) ** 2)`, in two passes forward and one back."""

    @staticmethod
    def forward(ctx: Any, y: Tensor, target: Tensor, factor: float) -> Tensor:
        error = y.float() - target
        ctx.save_for_backward(error)
        ctx.factor, ctx.dtype = factor, y.dtype
        flat = in_memory_order(error).flatten()
        return torch.dot(flat, flat) * factor

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (error,) = ctx.saved_tensors
        return (error * (2 * ctx.factor * grad)).to(ctx.dtype), None, None
