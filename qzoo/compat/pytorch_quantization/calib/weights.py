"""Ranges of weights from histograms of their own."""

from __future__ import annotations

from torch import Tensor, nn

from qzoo.compat.pytorch_quantization.calib.histogram import amax_of, check_method
from qzoo.compat.pytorch_quantization.utils import reduce_amax
from qzoo.compat.pytorch_quantization.utils.axes import other_axes
from qzoo.quant.layers import output_channel_axis
from qzoo.quant.reference_bins import REFERENCE_BINS, ReferenceBins
from qzoo.quant.solvers.stack import EVERY_BIN

METHODS = ("max", "mse", "percentile")


def calibrate_weights(
    model: nn.Module, method: str = "percentile", perchannel: bool = True, percentile: float = 99.99,
    num_bins: int = REFERENCE_BINS,
) -> None:  # fmt: skip
    """Gives the weight quantizers of a model's quantized layers their ranges, in place, whatever their calibrators.

    Args:
        model: with layers of `qzoo.compat.pytorch_quantization.nn`.
        method: `max`, `mse` or `percentile`.
        perchannel: one range for each output channel; if not, one for the weight.
        percentile: in percent.
        num_bins: of each histogram.

    Raises:
        TypeError: the method is unknown.
        RuntimeError: a quantizer has a range of another shape already.
    """
    check_method(method, METHODS, percentile)
    for layer in model.modules():
        quantizer = getattr(layer, "weight_quantizer", None)
        if quantizer is not None and isinstance(getattr(layer, "weight", None), Tensor):
            weight = layer.weight.detach()  # type: ignore[operator]
            axis = output_channel_axis(layer) if perchannel else None
            if method == "max":
                amax = reduce_amax(weight, axis=other_axes(weight, axis))
            else:
                amax = _by_histograms(weight, axis, method, quantizer, percentile, num_bins)
            quantizer.amax = amax.cpu().numpy()


def _by_histograms(
    weight: Tensor, axis: int | None, method: str, quantizer: nn.Module, percentile: float, num_bins: int
) -> Tensor:
    rows = weight.reshape(1, -1) if axis is None else weight.movedim(axis, 0).flatten(1)
    histograms = [ReferenceBins(num_bins) for _ in rows]
    for bins, row in zip(histograms, rows, strict=True):
        bins.add(row, float(row.abs().max()), signed=True)
    amax = amax_of(histograms, method, quantizer.num_bits, quantizer.unsigned, percentile, EVERY_BIN)  # type: ignore[arg-type]
    if axis is None:
        return amax[0]
    return amax.reshape([-1 if dim == axis else 1 for dim in range(weight.dim())])
