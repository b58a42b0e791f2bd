"""Calibrators: what finds ranges, in the words of pytorch-quantization."""

from qzoo.compat.pytorch_quantization.calib.calibrator import _Calibrator
from qzoo.compat.pytorch_quantization.calib.histogram import HistogramCalibrator
from qzoo.compat.pytorch_quantization.calib.max import MaxCalibrator
from qzoo.compat.pytorch_quantization.calib.weights import calibrate_weights

__all__ = ["HistogramCalibrator", "MaxCalibrator", "_Calibrator", "calibrate_weights"]
