"""What each quantizer of a model does to its tensor, told from a few images: values, what is clipped, noise in dB."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.quant.calibration.collecting import activation_quantizers
from qzoo.quant.calibration.collectors import HistogramCollector
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.fake_quant import fake_quantize, represented
from qzoo.quant.grouped import along_weight
from qzoo.quant.quantizer import TensorQuantizer
from qzoo.quant.ranges import quantizers, require_calibrated, switched_off
from qzoo.quant.weights import QuantizedWeight, quantized_weights
from qzoo.results.details import QuantizerDetail
from qzoo.tasks.inputs.batches import Batch
from qzoo.tasks.measuring.deviation import sqnr_db
from qzoo.tasks.measuring.quarters import pieces
from qzoo.tasks.measuring.running import Runner, measuring
from qzoo.tasks.measuring.seen_values import of_histogram, of_tensor, share_beyond

COMPARED = 32
"""Images that noise is measured on: a ratio of sums over all their values is the same to a tenth of a dB or so."""


def quantizer_details(
    model: nn.Module, batches: Iterable[Batch], histograms: Mapping[str, Histogram] | None = None
) -> list[QuantizerDetail]:
    """Returns what each quantizer that is on does, in the order in which tensors pass them.

    Each batch is run twice: without quantizers, and with them. So a tensor is held against the one of the same model
    in float, whose weights are those of the base unless they were optimized or trained.

    Args:
        model: calibrated; not changed.
        batches: on its device. The activations of 8 images are kept at a time.
        histograms: by path, what calibration saw; of other activations those of the batches are taken.

    Raises:
        NotCalibratedError: a quantizer has no range.
        DataError: the model does not run on a batch.
    """
    with measuring(model):
        require_calibrated(model, "measure its noise")
        watch = _Watch(model, set(histograms or {}))
        for batch in pieces(batches):
            watch.compare(batch)
        seen = {**watch.histograms(), **(histograms or {})}
        found = [_activation(path, watch.quantizers[path], noise, seen) for path, noise in watch.noises.items()]
        return _in_order(found, [_weight(path, one) for path, one in quantized_weights(model).items() if _is_on(one)])


@dataclass
class _Noise:
    """Sums of squares over all values of a tensor: signal and noise of the quantizer alone, and of all before it."""

    own_signal: float = 0.0
    own_noise: float = 0.0
    signal: float = 0.0
    noise: float = 0.0

    def add(self, x: Tensor, y: Tensor, in_float: Tensor | None) -> None:
        self.own_signal += _energy(x)
        self.own_noise += _energy(x.double() - y.double())
        if in_float is not None and in_float.shape == y.shape:
            self.signal += _energy(in_float)
            self.noise += _energy(in_float.double() - y.double())


class _Watch:
    def __init__(self, model: nn.Module, known: set[str]) -> None:
        self.model, self.runner = model, Runner(model)
        self.quantizers = {path: one for path, one in activation_quantizers(model).items() if one.state == "quantizing"}
        self.collectors = {path: HistogramCollector(two_sided=True) for path in self.quantizers if path not in known}
        self.noises: dict[str, _Noise] = {}

    def compare(self, batch: Batch) -> None:
        calls: dict[str, list[Tensor]] = {path: [] for path in self.quantizers}
        noted = _hooked(self.quantizers, lambda path, x, y: calls[path].append(x.clone()))
        with noted, switched_off(quantizers(self.model).values()):
            self.runner(batch)
        for path, collector in self.collectors.items():
            for x in calls[path]:
                collector.collect(x)

        def add(path: str, x: Tensor, y: Tensor) -> None:
            in_float = calls[path].pop(0) if calls[path] else None
            self.noises.setdefault(path, _Noise()).add(x, y, in_float)

        with _hooked(self.quantizers, add):
            self.runner(batch)

    def histograms(self) -> dict[str, Histogram]:
        return {path: one.histogram() for path, one in self.collectors.items() if not one.empty and not one.nonfinite}


@contextmanager
def _hooked(watched: Mapping[str, TensorQuantizer], see: Callable[[str, Tensor, Tensor], None]) -> Iterator[None]:
    def hook(path: str) -> Any:
        return lambda module, args, y: see(path, args[0].detach(), y.detach())

    handles = [one.register_forward_hook(hook(path)) for path, one in watched.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _activation(path: str, quantizer: TensorQuantizer, noise: _Noise, seen: Mapping[str, Histogram]) -> QuantizerDetail:
    low, high = (float(end) for end in _ends(quantizer))
    half = float(quantizer.amax.detach()) / quantizer.grid.bound / 2
    values = seen.get(path)
    return QuantizerDetail(
        path=path,
        of="activation",
        spec=str(quantizer.spec),
        amax=float(quantizer.amax.detach()),
        range=(low, high),
        seen=None if values is None else of_histogram(values),
        clipped=None if values is None else 100 * share_beyond(values, low - half, high + half),
        own_sqnr_db=_decibels(noise.own_signal, noise.own_noise),
        sqnr_db=_decibels(noise.signal, noise.noise),
    )


def _weight(path: str, weight: QuantizedWeight) -> QuantizerDetail:
    assert weight.values is not None
    quantizer, values = weight.quantizer, weight.values.detach().float()
    rounded = fake_quantize(values, quantizer.amax.detach(), quantizer.grid, quantizer.zero_point)
    low, high = _ends(quantizer)
    half = quantizer.amax.detach() / quantizer.grid.bound / 2
    below, above = (along_weight(end, values) for end in (low - half, high + half))
    return QuantizerDetail(
        path=path,
        of="weight",
        spec=str(quantizer.spec),
        amax=float(quantizer.amax.detach().max()),
        range=(float(low.min()), float(high.max())),
        seen=of_tensor(values),
        clipped=100 * float(((values < below) | (values > above)).double().mean()),
        own_sqnr_db=_decibels(_energy(values), _energy(values.double() - rounded.double())),
    )


def _is_on(weight: QuantizedWeight) -> bool:
    return weight.values is not None and weight.quantizer.state == "quantizing"


def _ends(quantizer: TensorQuantizer) -> tuple[Tensor, Tensor]:
    amax, zero_point = quantizer.amax.detach(), quantizer.zero_point
    low, high = represented(amax, quantizer.grid, None if zero_point is None else zero_point.detach())
    return torch.as_tensor(low).to(amax).expand_as(amax), torch.as_tensor(high).to(amax).expand_as(amax)


def _energy(x: Tensor) -> float:
    return float(x.double().square().sum())


def _decibels(signal: float, noise: float) -> float | None:
    return None if signal == 0 or noise == 0 else round(sqnr_db(signal, noise), 2)


def _in_order(activations: list[QuantizerDetail], weights: list[QuantizerDetail]) -> list[QuantizerDetail]:
    """Returns all of them, a weight after the first activation of its layer."""
    waiting = {one.path: one for one in weights}
    found: list[QuantizerDetail] = []
    for one in activations:
        layer = one.path.rpartition(".")[0]
        found += [one, *(waiting.pop(path) for path in [*waiting] if path.rpartition(".")[0] == layer)]
    return [*found, *waiting.values()]
