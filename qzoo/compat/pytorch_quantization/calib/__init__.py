"""Calibrators: what finds ranges, in the words of pytorch-quantization."""

from qzoo.compat.pytorch_quantization.calib.calibrator import _Calibrator
from qzoo.compat.pytorch_quantization.calib.histogram import HistogramCalibrator, calibrate_weights
from qzoo.compat.pytorch_quantization.calib.max import MaxCalibrator

__all__ = ["HistogramCalibrator", "MaxCalibrator", "_Calibrator", "calibrate_weights"]
