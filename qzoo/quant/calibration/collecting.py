"""Calibrating a model: watch its activations once, then solve every range from what was seen."""

from __future__ import annotations

import warnings
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from qzoo.errors import CalibrationError, some
from qzoo.quant.calibration.choosing import range_of_extremes, ranges_of_histograms
from qzoo.quant.calibration.collectors import HistogramCollector, MaxCollector
from qzoo.quant.calibration.weight_ranges import quantized_weight_range
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import is_of_weight, quantizers
from qzoo.quant.weights import quantized_weights
from qzoo.quant.zero_point import Range
from qzoo.schema.quantizer import QuantizerSpec

Collection = dict[str, MaxCollector | HistogramCollector]
"""What every input and output quantizer saw, by its path."""


MOST_NAMED = 3
"""Quantizers that a message names."""


class ClippedNegativesWarning(UserWarning):
    """An unsigned quantizer saw negative values: they all become 0."""


class DeadActivationWarning(UserWarning):
    """A quantizer saw only zeros: its range is 0 and so is its output."""


def activation_quantizers(model: nn.Module) -> dict[str, TensorQuantizer]:
    """Returns every quantizer whose range has to be collected: all but those of weights."""
    return {path: q for path, q in quantizers(model).items() if not is_of_weight(path)}


@contextmanager
def collecting(
    model: nn.Module, binning: str = "aligned", histograms: Iterable[str] = (), two_sided: Iterable[str] = ()
) -> Iterator[Collection]:
    """Lets the model's quantizers watch what passes, in float, for the time of the context.

    Args:
        model: a quantized model. Inside, it computes exactly what the float model does; afterwards its quantizers are
            in the state they were in.
        binning: `aligned` or `reference`.
        histograms: paths that get a histogram although their own calibrator needs only the maximum.
        two_sided: paths that get one of both signs, if the binning has any, although their own calibrator needs none.

    Yields:
        The collection, filled as tensors pass.

    Raises:
        CalibrationError: a quantizer needs a histogram of both signs, which the binning has not; or images passed, and
            the model computed a quantized layer without reading its weight.
    """
    watched, states = activation_quantizers(model), {q: q.state for q in quantizers(model).values()}
    collection = _collectors(watched, binning, set(histograms), set(two_sided))
    reads: dict[str, _Reads] = {}
    images = _Reads()
    told = model.register_forward_pre_hook(lambda *_: images.collect())
    try:
        for path, quantizer in quantizers(model, "weight").items():
            reads[path] = _Reads()
            quantizer.collector, quantizer.state = reads[path], "calibrating"
        for path, quantizer in watched.items():
            quantizer.collector, quantizer.state = collection[path], "calibrating"
        yield collection
        if not images.empty:
            _check_reads(reads, collection)
    finally:
        told.remove()
        for quantizer, state in states.items():
            quantizer.collector, quantizer.state = None, state


def _collectors(
    watched: Mapping[str, TensorQuantizer], binning: str, histograms: set[str], two_sided: set[str]
) -> Collection:
    HistogramCollector(binning)  # refuses an unknown one, even where only maxima are needed
    found: Collection = {}
    for path, quantizer in watched.items():
        of_signs = quantizer.spec.needs_signs or (path in two_sided and binning == "aligned")
        if of_signs or path in histograms | two_sided or quantizer.spec.calibrator.collector == "histogram":
            found[path] = HistogramCollector(binning, two_sided=of_signs)
        else:
            found[path] = MaxCollector()
    return found


class _Reads:
    """Tells whether anything came by: a weight that its layer's forward reads, or images."""

    def __init__(self) -> None:
        self.empty = True

    def collect(self, x: Tensor | None = None) -> None:
        self.empty = False


def _check_reads(reads: Mapping[str, _Reads], collection: Collection) -> None:
    layers = {path.removesuffix("weight_quantizer"): seen for path, seen in reads.items()}
    inputs = {layer: collection.get(f"{layer}input_quantizer") for layer in layers}
    # A layer whose input saw nothing either is told of as such.
    unread = [layer for layer, seen in layers.items() if seen.empty and not ((x := inputs[layer]) and x.empty)]
    if unread:
        names = [layer.rstrip(".") or "its only layer" for layer in unread]
        raise CalibrationError(
            f"The model never reads the weight of {some(names, MOST_NAMED)} where a quantizer could see it, so it "
            "would stay in float without a word: the layer is passed by, or its forward was replaced by one that reads "
            "the weights of another model. Call the layer, put the replacement into a subclass, or leave the weight in "
            "float with a rule (weight: false)."
        )


def check_collection(collection: Mapping[str, MaxCollector | HistogramCollector]) -> None:
    """Refuses a collection in which a quantizer saw nothing or something that is no number.

    Raises:
        CalibrationError: names every such quantizer.

    Warns:
        DeadActivationWarning: names the quantizers that saw only zeros.
    """
    nothing = [path for path, seen in collection.items() if seen.empty]
    broken = [path for path, seen in collection.items() if seen.nonfinite]
    if broken:
        raise CalibrationError(
            f"NaN or Inf reached {some(broken, MOST_NAMED)}. Look at the images, their transform and the weights."
        )
    if nothing:
        raise CalibrationError(
            f"Nothing reached {some(nothing, MOST_NAMED)}: no image was given, or the model never calls these layers. "
            "Give at least one image, or leave the layers in float with a rule (input: false)."
        )
    dead = [path for path, seen in collection.items() if float(seen.amax) == 0 and float(seen.amin) == 0]
    if dead:
        warnings.warn(
            f"Only zeros reached {some(dead, MOST_NAMED)}: their output will be 0.",
            DeadActivationWarning,
            stacklevel=3,
        )


def require_collected(model: nn.Module, paths: Container[str]) -> dict[str, TensorQuantizer]:
    """Returns the activation quantizers of a model, which may lie on the meta device, by path.

    Args:
        model: quantized.
        paths: the paths of those that something was collected of.

    Raises:
        CalibrationError: a quantizer is not among them.
    """
    watched = activation_quantizers(model)
    missing = [path for path in watched if path not in paths]
    if missing:
        raise CalibrationError(f"The collection lacks {some(missing, MOST_NAMED)}. Collect on a model that has them.")
    return watched


def solve_ranges(
    model: nn.Module, collection: Mapping[str, MaxCollector | HistogramCollector], *, weights: bool = True
) -> None:
    """Gives every quantizer of the model its range, in place: activations from the collection, weights from themselves.

    Nothing changes unless every range can be solved.

    Args:
        model: quantized.
        collection: what each activation quantizer saw.
        weights: solve the ranges of weights too; those of weights that lie on their grids already stay as they are.

    Raises:
        CalibrationError: a quantizer is not in the collection, saw nothing usable, or a weight holds NaN or Inf.
    """
    watched = require_collected(model, collection)
    check_collection({path: collection[path] for path in watched})
    _warn_of_clipped({path: collection[path] for path, quantizer in watched.items() if quantizer.spec.unsigned is True})
    specs = {path: quantizer.spec for path, quantizer in watched.items()}
    solved = solve_activations(specs, collection) | (_solve_weights(model) if weights else {})
    found = quantizers(model)
    for path, own in solved.items():
        found[path].set_amax(*own)


def calibrate_weights(model: nn.Module) -> None:
    """Gives every weight quantizer of the model its range, in place.

    Raises:
        CalibrationError: a weight holds NaN or Inf; the message names the module.
    """
    for path, solved in _solve_weights(model).items():
        module = model.get_submodule(path)
        assert isinstance(module, TensorQuantizer)
        module.set_amax(*solved)


def solve_activations(
    specs: Mapping[str, QuantizerSpec], collection: Mapping[str, MaxCollector | HistogramCollector]
) -> dict[str, Range]:
    """Returns the range of each quantizer, by the calibrator that its spec names, on the CPU.

    Args:
        specs: what the quantizers are, by path.
        collection: what each of them saw, and perhaps others.

    Raises:
        CalibrationError: only maxima were collected where a histogram is needed.
    """
    by_max = {path for path, spec in specs.items() if spec.calibrator.method == "max"}
    solved = {
        path: range_of_extremes(collection[path].amin.cpu(), collection[path].amax.cpu(), specs[path])
        for path in by_max
    }
    rest = {path: collection[path] for path in specs if path not in by_max}
    histograms = [seen.histogram() for seen in rest.values() if isinstance(seen, HistogramCollector)]
    if len(histograms) != len(rest):
        raise CalibrationError("The collection holds only maxima where a histogram is needed. Collect histograms.")
    if histograms:
        ranges = ranges_of_histograms(histograms, [specs[path] for path in rest])
        solved |= dict(zip(rest, ranges, strict=True))
    return solved


def _solve_weights(model: nn.Module) -> dict[str, Range]:
    solved = {}
    for path, weight in quantized_weights(model).items():
        try:
            solved[path] = quantized_weight_range(weight)
        except CalibrationError as error:
            remedy = "Calibrate on images" if weight.values is None else "Load the base weights again"
            raise CalibrationError(f"{path.removesuffix('_quantizer')}: {error}. {remedy}.") from error
    return solved


def _warn_of_clipped(unsigned: Mapping[str, MaxCollector | HistogramCollector]) -> None:
    clipped = [path for path, seen in unsigned.items() if float(seen.amin) < 0]
    if clipped:
        warnings.warn(
            f"Negative values reached {some(clipped, MOST_NAMED)}, which are unsigned: they all become 0. "
            "Say `unsigned: auto`.",
            ClippedNegativesWarning,
            stacklevel=3,
        )
