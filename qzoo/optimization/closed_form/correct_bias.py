"""Takes the mean error that quantizing makes out of biases.

Rounded weights shift the mean of what a layer gives, for each channel by another amount; the layers behind it see a
distribution that they were not trained on. The shift is known: measured on images, or computed from batch norm.

Source: M. Nagel et al. (arXiv 1906.04721), section 4.2: empirical and analytic bias correction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from qzoo.models.tracing import trace
from qzoo.optimization.batches import first_of
from qzoo.optimization.closed_form.bias_places import BiasPlace, bias_places
from qzoo.optimization.closed_form.clipped_normal import input_means
from qzoo.optimization.closed_form.layer_inputs import Read, reads_of
from qzoo.optimization.closed_form.products import Part, Product, watching
from qzoo.progress import Progress, silent
from qzoo.quant.inputs import run, with_images
from qzoo.quant.ranges import require_calibrated
from qzoo.quant.weights import QuantizedWeight, quantized_weights
from qzoo.results.optimization import Change

NO_PLACE = "no bias, and no batch norm that alone reads it: not corrected"
SHARED = "several layers have this weight, or its bias: not corrected"


def correct_bias(
    model: nn.Module,
    how: Literal["empirical", "analytic"] | bool,
    batches: Iterable[Any],
    float_model: nn.Module,
    *,
    images: int | None = None,
    progress: Progress = silent,
) -> list[Change]:
    """Shifts biases, or the running means of batch norms, by the mean error of each channel, in place.

    Args:
        model: quantized, with ranges and the weights it is to have.
        how: `empirical` (or True): measured on the images; `analytic`: from batch norm;
            of the images it needs the first batch alone, for its shape.
        batches: inputs of the model, which can be iterated again.
        float_model: what it was made of, with parameters of the same names: where the means are to be.
        images: how many images the batches hold, if known.
        progress: shown the batches.

    Returns:
        A change for each product with a quantized weight, in the order of evaluation. The error before is that of the
        mean: its squared length, relative to that of the float model's mean; after, none of it is left on these images.

    Raises:
        NotCalibratedError: a quantizer has no range.
        DataError: there are no images.
    """
    require_calibrated(model, "correct its biases")
    weights = {path: one for path, one in quantized_weights(model).items() if one.key is not None}
    example = with_images(first_of(batches), 1)
    places, shared = bias_places(model, float_model, weights, example)
    known = _Known(model, float_model, weights, reads_of(model, weights, example), places, shared)
    if how == "analytic":
        return _analytic(known, example)
    return _empirical(known, progress(batches, images, "correcting biases"))


class _Known(NamedTuple):
    """Both models, the weights that they multiply by, where the bias of each product is, and which are not alone."""

    model: nn.Module
    float_model: nn.Module
    weights: Mapping[str, QuantizedWeight]
    reads: list[Read]
    places: Mapping[tuple[str, Part], BiasPlace]
    shared: set[str]

    def left(self, read: Read) -> Change:
        """Returns the change of a product whose bias stays as it is."""
        return Change(path=read.weight, note=SHARED if read.weight in self.shared else NO_PLACE)


class _Means:
    """The mean of each output channel of a product, over images and positions, in both models.

    Attributes:
        shift: by how much the float model's is larger, float64 `(channels,)`, of all images so far.
    """

    def __init__(self) -> None:
        self.wanted: list[Tensor] = []
        self.shift: Tensor | float = 0.0
        self.float_mean: Tensor | float = 0.0
        self.places = 0

    def see_float(self, product: Product) -> None:
        self.wanted.append(_channels(product).mean(1, dtype=torch.float64))

    def corrected(self, product: Product) -> Tensor | None:
        """Takes note of a product of the quantized model, and returns it shifted."""
        if not self.wanted:
            return None
        channels, wanted = _channels(product), self.wanted.pop(0)
        self.places += channels.shape[1]
        share = channels.shape[1] / self.places
        self.shift = self.shift + share * (wanted - channels.mean(1, dtype=torch.float64) - self.shift)
        self.float_mean = self.float_mean + share * (wanted - self.float_mean)
        after = -1 - product.form.channel_axis
        shift = torch.as_tensor(self.shift).to(product.output)
        return product.output + shift.reshape(-1, *(1 for _ in range(after)))


def _channels(product: Product) -> Tensor:
    return product.output.float().movedim(product.form.channel_axis, 0).flatten(1)


def _empirical(known: _Known, batches: Iterable[Any]) -> list[Change]:
    """Corrects all biases in one pass: products are shifted as they are computed, so that each sees those before it."""
    means = {read.read: _Means() for read in known.reads if read.read in known.places}

    def see_float(one: Product) -> None:
        if one.read in means:
            means[one.read].see_float(one)

    def corrected(one: Product) -> Tensor | None:
        return means[one.read].corrected(one) if one.read in means else None

    for batch in batches:
        with watching(known.float_model, known.weights, see_float):
            run(known.float_model, batch)
        with watching(known.model, known.weights, corrected):
            run(known.model, batch)
    seen = {read: one for read, one in means.items() if one.places}
    return [
        _shifted(read, known.places[read.read], seen[read.read]) if read.read in seen else known.left(read)
        for read in known.reads
    ]


def _shifted(read: Read, place: BiasPlace, means: _Means) -> Change:
    shift, mean = torch.as_tensor(means.shift), torch.as_tensor(means.float_mean)
    if not bool(shift.isfinite().all()):
        return Change(path=read.weight, note="what it gives holds NaN or Inf: not corrected")
    place.add(shift)
    return Change(path=read.weight, before=_relative(shift, mean))


def _relative(shift: Tensor, mean: Tensor) -> float:
    return float(shift.square().sum() / mean.square().sum().clamp(min=1e-30))


def _analytic(known: _Known, example: Any) -> list[Change]:
    means = input_means(known.float_model, trace(known.float_model, example))
    changes = []
    for read in known.reads:
        weight, place = known.weights[read.weight], known.places.get(read.read)
        mean, channels = means.get(weight.key or ""), read.form.groups * _input_channels(read)
        if place is None or mean is None or len(mean) != channels:
            untold = Change(path=read.weight, note="no batch norm tells what its inputs are: not corrected")
            changes.append(known.left(read) if place is None else untold)
            continue
        wanted, found = (
            _mean_of_product(read, whole, mean)
            for whole in (known.float_model.get_parameter(weight.key or ""), weight.quantizer(weight.values))
        )
        place.add(wanted - found)
        changes.append(Change(path=read.weight, before=_relative(wanted - found, wanted)))
    return changes


def _input_channels(read: Read) -> int:
    return read.columns // _taps(read)


def _taps(read: Read) -> int:
    return int(torch.Size(read.part.size[2:]).numel()) if read.form.stride else 1


def _mean_of_product(read: Read, whole: Tensor, mean: Tensor) -> Tensor:
    """Returns the mean of a product, without bias, of inputs of a mean, float32 `(channels,)`."""
    columns = mean.reshape(read.form.groups, -1, 1).repeat_interleave(_taps(read), 1)
    return (read.matrices(whole.detach()) @ columns).flatten()
