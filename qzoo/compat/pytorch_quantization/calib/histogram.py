"""Ranges from histograms: a calibrator whose one histogram serves every method, and the same for weights."""

from __future__ import annotations

import logging
import math
from typing import Any

import torch
from torch import Tensor, nn

from qzoo.compat.pytorch_quantization.calib.calibrator import _Calibrator
from qzoo.errors import CalibrationError, UnsupportedError, did_you_mean
from qzoo.quant.calibration.bins import REFERENCE_BINS, NumpyBins, ReferenceBins
from qzoo.quant.calibration.histogram import Histogram
from qzoo.quant.calibration.solvers import solve
from qzoo.quant.calibration.solvers.stack import EVERY_BIN, FIRST_BIN, Search
from qzoo.quant.layers import TRANSPOSED
from qzoo.schema.quantizer import Calibrator, QuantizerSpec

logger = logging.getLogger(__name__)

METHODS = ("entropy", "mse", "percentile")
WEIGHT_METHODS = ("max", "mse", "percentile")


class HistogramCalibrator(_Calibrator):
    """A histogram of magnitudes with the bins of pytorch-quantization; qzoo's solvers find the range.

    Args:
        num_bits: the number of bits of the grid that the range is for, or `(4, 3)`.
        axis: None; histograms are of whole tensors.
        unsigned: the grid starts at 0.
        num_bins: the number of bins of the first tensor; larger ones make more.
        grow_method: not used any more.
        skip_zeros: leave zeros out.
        torch_hist: count by torch, from 0 on; if not by NumPy, from the first tensor's smallest magnitude on.

    Raises:
        NotImplementedError: an axis is given.

    Example:
        >>> calibrator = HistogramCalibrator(8, None, False)
        >>> calibrator.collect(torch.arange(100.0))
        >>> float(calibrator.compute_amax("percentile", percentile=90)) <= 90
        True
    """

    def __init__(
        self, num_bits: int | tuple[int, int], axis: None, unsigned: bool, num_bins: int = REFERENCE_BINS,
        grow_method: str | None = None, skip_zeros: bool = False, torch_hist: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_bits, axis, unsigned)
        if axis is not None:
            raise NotImplementedError(
                f"Calibrator histogram collection only supports per tensor scaling, not axis={axis}. For weights per "
                "channel: calib.calibrate_weights(model), or calib_method='max'."
            )
        if grow_method is not None:
            logger.warning("grow_method is deprecated. Got %s, ignored!", grow_method)
        self._num_bins, self._skip_zeros, self._torch_hist = num_bins, skip_zeros, torch_hist
        self._bins: ReferenceBins | None = None

    # Scripts read these two, and set them, as to bring the histograms of several processes together.
    @property
    def _calib_hist(self) -> Tensor | None:
        return None if self._bins is None else self._bins.counts

    @_calib_hist.setter
    def _calib_hist(self, counts: Any) -> None:
        self._started().counts = torch.as_tensor(counts).detach().float().cpu()

    @property
    def _calib_bin_edges(self) -> Tensor | None:
        return None if self._bins is None else self._bins.edges

    @_calib_bin_edges.setter
    def _calib_bin_edges(self, edges: Any) -> None:
        self._started().edges = torch.as_tensor(edges).detach().float().cpu()

    def collect(self, x: Tensor) -> None:
        """Takes note of a tensor.

        Raises:
            CalibrationError: it holds NaN or Inf, or is so much larger than the first that a million bins don't do.
        """
        x = x.detach()
        if self._skip_zeros:
            x = x[x != 0]
        if not x.numel():
            return
        low, high = (float(value) for value in torch.aminmax(x))
        if not (math.isfinite(low) and math.isfinite(high)):
            raise CalibrationError("NaN or Inf reached a HistogramCalibrator. Look at the images and the weights.")
        self._started().add(x, max(abs(low), abs(high)), signed=low < 0)

    def _started(self) -> ReferenceBins:
        if self._bins is None:
            self._bins = (ReferenceBins if self._torch_hist else NumpyBins)(self._num_bins)
        return self._bins

    def reset(self) -> None:
        """Forgets the histogram."""
        self._bins = None

    def compute_amax(
        self, method: str, *, stride: int = 1, start_bin: int = FIRST_BIN, percentile: float = 99.99
    ) -> Tensor | None:
        """Returns the range by a method, float32 `()`; None if nothing was collected.

        Args:
            method: `entropy`, `mse` or `percentile`.
            stride: how many bins entropy and mse go on to the next range they try.
            start_bin: the first they try.
            percentile: in percent, 0 to 100.

        Raises:
            TypeError: the method is unknown.
            ValueError: the percentile, the first bin or the stride is out of range, or no bin is left to try.
        """
        check_method(method, METHODS, percentile)
        if start_bin < 1 or stride < 1:
            raise ValueError(f"start_bin={start_bin} and stride={stride} have to be at least 1.")
        if self._bins is None:
            return None
        return amax_of([self._bins], method, self._num_bits, self._unsigned, percentile, Search(start_bin, stride))[0]

    def __str__(self) -> str:
        edges = self._calib_bin_edges
        text = "None" if edges is None else f"[{edges[0]:.3f}, ..., {edges[-1]:.3f}]({len(edges)})"
        return f"HistogramCalibrator(calib_bin_edges={text})"

    def __repr__(self) -> str:
        return (
            f"HistogramCalibrator({super().__repr__()} calib_bin_edges={self._calib_bin_edges} "
            f"calib_hist={self._calib_hist})"
        )


def calibrate_weights(
    model: nn.Module, method: str = "percentile", perchannel: bool = True, percentile: float = 99.99,
    num_bins: int = REFERENCE_BINS,
) -> None:  # fmt: skip
    """Gives the weight quantizers of a model's quantized layers their ranges, in place, whatever their calibrators.

    Args:
        model: with layers of `qzoo.compat.pytorch_quantization.nn`.
        method: `max`, `mse` or `percentile`.
        perchannel: one range for each output channel, which the groups of a transposed convolution share; if not, one
            for the weight.
        percentile: in percent.
        num_bins: the number of bins of each histogram.

    Raises:
        TypeError: the method is unknown.
        RuntimeError: a quantizer has a range of another shape already.
    """
    check_method(method, WEIGHT_METHODS, percentile)
    for layer in model.modules():
        quantizer = getattr(layer, "weight_quantizer", None)
        if quantizer is not None and isinstance(getattr(layer, "weight", None), Tensor):
            weight = layer.weight.detach()  # type: ignore[operator]
            axis = int(isinstance(layer, TRANSPOSED)) if perchannel else None
            if method == "max":
                amax = _rows(weight, axis).abs().amax(1)
            else:
                amax = _by_histograms(_rows(weight, axis), method, quantizer, percentile, num_bins)
            shape = [-1 if dim == axis else 1 for dim in range(weight.dim())] if perchannel else []
            quantizer.amax = amax.float().reshape(shape)


def check_method(method: str, known: tuple[str, ...], percentile: float) -> None:
    """Refuses an unknown method, and a percentile that is none.

    Raises:
        TypeError: the method is unknown.
        ValueError: the percentile is not from 0 to 100.
    """
    if method not in known:
        raise TypeError(f"Unknown calibration method {method}. {did_you_mean(str(method), known)}")
    if not 0 <= percentile <= 100:
        raise ValueError(f"Invalid percentile {percentile}. Must be in range 0 <= percentile <= 100.")


def amax_of(
    bins: list[ReferenceBins], method: str, num_bits: int | tuple[int, int], unsigned: bool, percentile: float,
    search: Search,
) -> Tensor:  # fmt: skip
    """Returns the ranges that qzoo's solvers find in histograms of equally many bins, float32 `(n,)`."""
    if method == "percentile" and percentile == 0:
        return torch.stack([one.edges[0] for one in bins])
    histograms = [Histogram(*one.result()[:2], 0.0, float(one.edges[-1]), "reference") for one in bins]
    fewest = min(len(histogram.counts) for histogram in histograms)
    if method != "percentile" and search.first >= fewest:
        raise ValueError(f"start_bin={search.first}, but a histogram has {fewest} bins. Give a smaller one.")
    said: Any = {"percentile": percentile} if method == "percentile" else method
    calibrator = Calibrator.model_validate(said)
    return torch.as_tensor(solve(histograms, [_spec(num_bits, unsigned, calibrator)] * len(bins), search))


def _spec(num_bits: int | tuple[int, int], unsigned: bool, calibrator: Calibrator) -> QuantizerSpec:
    if calibrator.method == "percentile":
        return QuantizerSpec(calibrator=calibrator)  # the grid does not matter
    if isinstance(num_bits, tuple):
        return QuantizerSpec(format="e4m3", calibrator=calibrator)
    if not 2 <= num_bits <= 16:
        raise UnsupportedError(f"{calibrator.method} finds ranges for 2 to 16 bits, not {num_bits}. Use percentile.")
    return QuantizerSpec(bits=num_bits, unsigned=bool(unsigned), calibrator=calibrator)


def _rows(weight: Tensor, axis: int | None) -> Tensor:
    return weight.reshape(1, -1) if axis is None else weight.movedim(axis, 0).flatten(1)


def _by_histograms(rows: Tensor, method: str, quantizer: nn.Module, percentile: float, num_bins: int) -> Tensor:
    histograms = [ReferenceBins(num_bins) for _ in rows]
    for bins, row in zip(histograms, rows, strict=True):
        bins.add(row, float(row.abs().max()), signed=True)
    return amax_of(histograms, method, quantizer.num_bits, quantizer.unsigned, percentile, EVERY_BIN)  # type: ignore[arg-type]
