"""GPTAQ, that is GPTQ against the float model: weights in turn, each making up for what those before it have done.

`round_weights` rounds every weight for itself: inputs are those of a model whose weights are float. In a deep network
of few bits the errors add up. Here a weight is given what the model gives it whose earlier weights are rounded; it is
moved so that its products are nearest to those of the float model, rounded by GPTQ, and what is left of the mean error
goes into its bias. See `float_targets` for the arithmetic and its source.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.models.tracing import trace
from qzoo.optimization.batches import first_of
from qzoo.optimization.closed_form.bias_places import BiasPlace, bias_places
from qzoo.optimization.closed_form.float_targets import best_strength, move, skip_shares
from qzoo.optimization.closed_form.gptq import WeightGrid, gptq, squared_product
from qzoo.optimization.closed_form.layer_inputs import Read, by_weight, reads_of, thinning
from qzoo.optimization.closed_form.least_squares import Fit
from qzoo.optimization.closed_form.matrix_form import input_columns, mean_column, output_columns
from qzoo.optimization.closed_form.moments import Products
from qzoo.optimization.closed_form.products import Part, Product, forget, watching
from qzoo.optimization.closed_form.rounding import round_weights
from qzoo.optimization.closed_form.weight_steps import few_inputs, grid_of
from qzoo.optimization.units.find import Unit, find_units
from qzoo.optimization.units.inputs import UnitInputs, UnitWalk, run_unit
from qzoo.progress import Progress, silent
from qzoo.quant.calibration.weight_ranges import quantized_weight_range
from qzoo.quant.eval_mode import device_of, evaluation_mode
from qzoo.quant.inputs import batch_size, with_images
from qzoo.quant.ranges import require_calibrated
from qzoo.quant.weights import QuantizedWeight, quantized_weights
from qzoo.results.optimization import Change
from qzoo.schema.optimize import Round

PLACES_A_COLUMN = 64
"""How many places of inputs are looked at for each column of a weight: so many that two halves of them do."""


class Rounded(NamedTuple):
    """What rounding in turn did.

    Attributes:
        changes: of each weight.
        moved: weights as they were moved and not rounded yet, by the path of their quantizer.
    """

    changes: list[Change]
    moved: dict[str, Tensor]


def gptaq(
    model: nn.Module, float_model: nn.Module, spec: Round, batches: Iterable[Any], *, progress: Progress = silent
) -> Rounded:
    """Rounds all quantized weights of a model in the order of evaluation, in place, and moves biases.

    Weights of units that can't be run by themselves are rounded first, each for itself.

    Args:
        model: quantized, with ranges; those of weights are found anew for weights that were moved.
        float_model: what it was made of, with modules of the same names.
        spec: `gptaq` with its fields.
        batches: inputs of the models, which can be iterated again.
        progress: shown the images, once for each weight.

    Raises:
        NotCalibratedError: a quantizer has no range.
        DataError: there are no images.
    """
    require_calibrated(model, "round its weights")
    example = with_images(first_of(batches), 2)
    weights = {path: one for path, one in quantized_weights(model).items() if one.key is not None}
    reads = by_weight(reads_of(model, weights, example))
    units = [unit for unit in find_units(model, float_model, example, "block") if unit.learnable]
    in_units = {path for unit in units for path in unit.weights}
    rest = quantized_weights(model).keys() - (in_units & reads.keys())
    alone = spec.model_copy(update={"method": "gptq"})
    changes = round_weights(model, alone, batches, only=rest, progress=progress) if rest else []
    places = bias_places(model, float_model, weights, example).places
    shares = skip_shares(float_model, trace(float_model, example), [unit.path for unit in units])
    job = _Job(model, float_model, spec, weights, reads, places, shares)
    images, order = sum(batch_size(batch) for batch in batches), [path for path in reads if path not in rest]
    shown = (range(images) for _ in order)
    with (
        evaluation_mode(model), evaluation_mode(float_model), torch.no_grad(),
        closing(UnitWalk(model, float_model, batches, images)) as walk,
    ):  # fmt: skip
        steps = iter(progress(shown, images * len(order), "rounding weights in turn"))
        for unit in units:
            inputs = walk.at(unit)
            for path in (path for path in order if path in unit.weights):
                next(steps)
                changes.append(_done(job, path, unit, inputs))
        next(steps, None)
    place = {path: number for number, path in enumerate(reads)}
    return Rounded(sorted(changes, key=lambda one: place.get(one.path, len(place))), job.moved)


@dataclass
class _Job:
    model: nn.Module
    float_model: nn.Module
    spec: Round
    weights: Mapping[str, QuantizedWeight]
    reads: Mapping[str, list[Read]]
    places: Mapping[tuple[str, Part], BiasPlace]
    shares: Mapping[str, Tensor]
    moved: dict[str, Tensor] = field(default_factory=dict)


class _Seen:
    """What is known of one product: how far two halves of the images are off, and the means of all places.

    Attributes:
        place: where its mean error can go.
        exact: the float weight.
        halves: of the images; after `moved` the first is all.
    """

    def __init__(self, exact: Tensor, place: BiasPlace | None) -> None:
        self.place, self.exact, self.halves = place, exact, (Products(exact), Products(exact))
        self._mean = self._wanted = torch.zeros(())
        self._outputs = 0

    def add(self, product: Product, wanted: Tensor, half: int, step: int) -> None:
        form, size, start = product.form, product.part.size, 0
        columns = output_columns(form, wanted, step)
        for x in input_columns(form, product.input, size, step):
            self.halves[half].add_products(x, columns[:, :, start : (start := start + x.shape[2])])
        self._outputs += wanted.numel()
        share = wanted.numel() / self._outputs
        means = mean_column(form, product.input, size), output_columns(form, wanted).mean(2, keepdim=True)
        self._mean, self._wanted = (
            before + share * (now - before) for before, now in zip((self._mean, self._wanted), means, strict=True)
        )

    def moved(self) -> Tensor:
        """Returns the weight that is to be rounded."""
        strength = math.inf
        if self.halves[1].places:
            strength = best_strength((self.fit(0), self.fit(1)))
            self.halves[0].join(self.halves[1])
        return self.exact + move(self.fit(), strength)

    def fit(self, half: int = 0) -> Fit:
        return self.halves[half].fit(about_mean=self.place is not None)

    def correct(self, rounded: Tensor) -> None:
        """Takes what is left of the mean error of the product into its bias, in place."""
        if self.place is not None:
            self.place.add((self._wanted - rounded @ self._mean).flatten())


def _done(job: _Job, path: str, unit: Unit, inputs: UnitInputs) -> Change:
    """Rounds one weight, which is in the model then, and its bias."""
    weight = job.weights[path]
    assert weight.values is not None
    values = weight.values.detach().clone()
    try:
        change = _solved(job, path, _products(job, path, unit, inputs), values)
    except ValueError as why:
        values, change = weight.quantizer(weight.values), Change(path=path, note=f"{why}: rounded to nearest")
    weight.values.copy_(values)
    forget(job.model)
    return change


def _products(job: _Job, path: str, unit: Unit, inputs: UnitInputs) -> dict[Read, _Seen]:
    """Returns what both models multiply by a weight, in one go over the inputs of its unit."""
    weight, images = job.weights[path], len(inputs.floats) // inputs.rows
    values = weight.values
    assert values is not None
    known = {read.read: read for read in job.reads[path]}
    share = job.shares.get(weight.key or "")
    wanted, found = defaultdict[Any, list[Tensor]](list), dict[Read, _Seen]()
    half, skip = 0, torch.zeros(())

    def see_float(product: Product) -> None:
        wanted[product.read].append(_wanted(product, share, skip))

    def see(product: Product) -> None:
        read = known[product.read]
        if read not in found:
            found[read] = _Seen(read.matrices(values.detach()), job.places.get(read.read))
        found[read].add(product, wanted[product.read].pop(0), half, thinning(read, images, PLACES_A_COLUMN))

    with watching(job.float_model, {path: weight}, see_float), watching(job.model, {path: weight}, see):
        for number, (floats, quantized) in enumerate(_batches(inputs, job.model)):
            half, skip = number % 2, floats - quantized
            run_unit(job.float_model, unit.paths, inputs.given, floats)
            run_unit(job.model, unit.paths, inputs.given, quantized)
    return found


def _wanted(product: Product, share: Tensor | None, skip: Tensor) -> Tensor:
    """Returns what a product is to be, without its bias: that of the float model, and its share of the skip's error."""
    wanted, after = product.output.float().clone(), [1] * (-1 - product.form.channel_axis)
    if product.bias is not None:
        wanted -= product.bias.float().reshape(-1, *after)
    if share is not None and skip.shape == wanted.shape:
        wanted += share.to(wanted).reshape(-1, *after) * skip
    return wanted


def _batches(inputs: UnitInputs, model: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields batches of what a unit is given, float and quantized; at least two, if there are two images."""
    half = -(-len(inputs.floats) // inputs.rows // 2)
    rows = inputs.rows * max(1, min(half, max(inputs.sizes) // inputs.rows))
    for both in zip(inputs.floats.split(rows), inputs.quantized.split(rows), strict=True):
        floats, quantized = (x.to(device_of(model), inputs.dtype, copy=True) for x in both)
        yield floats, quantized


def _solved(job: _Job, path: str, seen: Mapping[Read, _Seen], values: Tensor) -> Change:
    """Writes to `values` what a weight is rounded to, and moves biases; the weight in the model stays as it is."""
    if not seen:
        raise ValueError("the images never reach it")
    weight, nearest = job.weights[path], job.weights[path].quantizer(values)
    for read, one in seen.items():
        read.write(values, one.moved())
    job.moved[path] = values.clone()
    weight.quantizer.set_amax(*quantized_weight_range(weight._replace(values=values)))
    before = after = product = 0.0
    for read, one in seen.items():
        target, fit = read.matrices(job.moved[path]), one.fit()
        rounded = _rounded(job.spec, grid_of(read, weight.quantizer, values), target, fit.hessian)
        one.correct(rounded)
        before += float(fit.of_move(read.matrices(nearest) - one.exact).sum())
        after += float(fit.of_move(rounded - one.exact).sum())
        product += float(fit.product.sum())
        read.write(values, rounded)
    notes = dict.fromkeys(few_inputs(one.halves[0], read.columns) for read, one in seen.items())
    relative = (error / (product or 1.0) for error in (before, after))
    return Change(path=path, before=next(relative), after=next(relative), note="; ".join(filter(None, notes)))


def _rounded(spec: Round, grid: WeightGrid, target: Tensor, hessian: Tensor) -> Tensor:
    nearest = grid.rounded(target)
    made = gptq(target, hessian, grid, damping=spec.damping, block=spec.block, order=spec.order).values
    # Of few inputs, or of a hard grid, a row may come out worse: it is greedy.
    better = squared_product(target - made, hessian) < squared_product(target - nearest, hessian)
    return torch.where(better.unsqueeze(2), made, nearest)
