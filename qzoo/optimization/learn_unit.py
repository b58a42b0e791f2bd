"""Learning one unit: the rounding of its weights, and the ranges of its activations, by the error of its output."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qzoo.optimization.learned_rounding import beta_at, sides
from qzoo.optimization.stand_ins import SoftRounding, dropping, mixed, standing_in
from qzoo.optimization.unit_inputs import UnitInputs, run_unit
from qzoo.optimization.units import Unit
from qzoo.quant.eval_mode import device_of
from qzoo.quant.learned_scale import keep_positive
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.schema.optimize import LearnedRounding


@dataclass(frozen=True)
class How:
    """How a unit is learned.

    Attributes:
        spec: steps, batch size, learning rate and regularizer.
        drop: the probability that an element of an activation is left in float.
        range_lr: the learning rate of the steps of activations; None where these stay as they are.
        shared: groups of quantizers, by path, that have one range.
    """

    spec: LearnedRounding
    drop: float = 0.0
    range_lr: float | None = None
    shared: tuple[tuple[str, ...], ...] = ()


def learn_unit(
    model: nn.Module, unit: Unit, inputs: UnitInputs, how: How, seed: int, steps: Iterable[int]
) -> dict[str, Tensor]:
    """Returns the rounded weights of a unit by the path of their quantizer; learned ranges are in the quantizers.

    Args:
        model: quantized, in evaluation mode; its weights stay as they are.
        unit: of it.
        inputs: of the unit.
        how: how it is learned.
        seed: of minibatches and of what is dropped.
        steps: `range(how.spec.iterations)`, gone through as it is learned.

    Source: AdaRound (arXiv 2004.10568), BRECQ (arXiv 2102.05426, section 3), QDrop (arXiv 2203.05740, section 4.3).
    """
    soft = {path: SoftRounding(sides(_values(one), one.quantizer.amax, one.quantizer.grid))
            for path, one in unit.weights.items()}  # fmt: skip
    generator = torch.Generator(device_of(model)).manual_seed(seed)
    learned = {} if how.range_lr is None else unit.activations
    with ExitStack() as stack:
        stack.enter_context(standing_in(model, soft))
        stack.enter_context(dropping(list(unit.activations.values()), how.drop, generator))
        ranges = stack.enter_context(_learned_ranges(learned, how.shared))
        optimizer = _optimizer(list(soft.values()), ranges, how)
        for step, rows in zip(steps, _minibatches(inputs, how.spec.batch_size, seed), strict=False):
            _set_schedules(step, how.spec, soft.values(), optimizer)
            x, target = _minibatch(inputs, rows, how.drop, generator)
            with torch.enable_grad():
                loss = _loss(run_unit(model, unit.paths, inputs.given, x), target, unit.channels)
                loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            for parameter in ranges:
                keep_positive(parameter)
    return {path: one.rounded() for path, one in soft.items()}


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
            y = run_unit(model, unit.paths, inputs.given, _placed(x.clone(), model, inputs))
            error += float((y.cpu().double() - target).square_().sum())
            total += float(target.double().square_().sum())
    return error / total if total else math.sqrt(error)


def _values(one: object) -> Tensor:
    values = one.values  # type: ignore[attr-defined]
    assert isinstance(values, Tensor)
    return values


@contextmanager
def _learned_ranges(
    quantizers: dict[str, TensorQuantizer], shared: tuple[tuple[str, ...], ...]
) -> Iterator[list[nn.Parameter]]:
    first = {path: group[0] for group in shared for path in group}
    parameters: dict[str, nn.Parameter] = {}
    try:
        for path, quantizer in quantizers.items():
            key = first.get(path, path)
            parameters[key] = quantizer.learn("activation", parameters.get(key))
        yield list(parameters.values())
    finally:
        for quantizer in quantizers.values():
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
    """Yields rows, drawn anew each time; without end."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        yield torch.randperm(len(inputs.floats), generator=generator)[: images * inputs.rows]


def _minibatch(inputs: UnitInputs, rows: Tensor, drop: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    device = generator.device
    x, target = inputs.quantized[rows].to(device), inputs.targets[rows].to(device)
    if drop:
        x = mixed(x, inputs.floats[rows].to(device), drop, generator)
    return x.to(inputs.dtype), target


def _placed(x: Tensor, model: nn.Module, inputs: UnitInputs) -> Tensor:
    return x.to(device_of(model), inputs.dtype)


def _loss(y: Tensor, target: Tensor, channels: int) -> Tensor:
    """Returns the squared error, summed over channels, its mean over everything else."""
    return nn.functional.mse_loss(y.float(), target, reduction="sum") * (channels / target.numel())
