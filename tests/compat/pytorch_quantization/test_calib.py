"""Calibrators: against the reference's results, and what scripts do with them."""

from __future__ import annotations

import importlib.util
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qzoo.compat.pytorch_quantization import calib
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization.utils import reduce_amax
from qzoo.errors import CalibrationError, UnsupportedError

ORACLE = Path(__file__).resolve().parents[4] / "shared" / "oracle"
CASES = json.loads((ORACLE / "calibrators.json").read_text())["cases"] if ORACLE.is_dir() else []
GRIDS = [(8, False), (8, True), (4, False), (4, True)]


def batches(case: dict[str, Any]) -> list[torch.Tensor]:
    spec = importlib.util.spec_from_file_location("oracle_inputs", ORACLE / "inputs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [torch.from_numpy(x) for x in module.batches(case)]


@pytest.mark.skipif(not CASES, reason="no results of the reference implementation beside the checkout")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
def test_every_case_of_the_reference(case: dict[str, Any]) -> None:
    data, compared = batches(case), 0
    for bits, unsigned in GRIDS:
        histogram = calib.HistogramCalibrator(bits, None, unsigned)
        largest = calib.MaxCalibrator(bits, None, unsigned)
        for x in data:
            histogram.collect(x)
            largest.collect(x)
        assert histogram._calib_hist is not None
        assert len(histogram._calib_hist) == case["histogram"]["num_bins"]
        width = case["histogram"]["bin_width"]
        for method, expected in case["results"][f"num_bits={bits},unsigned={unsigned}"].items():
            if isinstance(expected, dict):  # where the reference itself failed
                continue
            name, _, percentile = method.partition("_")
            options = {"percentile": float(percentile)} if percentile else {}
            amax = largest.compute_amax() if name == "max" else histogram.compute_amax(name, **options)
            assert amax is not None
            assert amax.shape == ()
            slack = 1e-6 * abs(expected) if name in ("max", "percentile") else width * 1.001
            assert abs(float(amax) - expected) <= slack, (method, float(amax), expected)
            compared += 1
    assert compared >= 4


class TestMax:
    def test_the_largest_magnitude_of_all_tensors(self) -> None:
        calibrator = calib.MaxCalibrator(8, None, False)
        assert calibrator.compute_amax() is None
        for x in (torch.tensor([1.0, -5.0]), torch.tensor([2.0])):
            calibrator.collect(x)
        assert calibrator.compute_amax() == 5
        calibrator.reset()
        assert calibrator.compute_amax() is None

    @pytest.mark.parametrize(("axis", "shape"), [(0, (4, 1, 1)), ((0, 2), (4, 1, 3)), (-2, (1, 5, 1))])
    def test_ranges_along_an_axis(self, axis: Any, shape: tuple[int, ...]) -> None:
        calibrator = calib.MaxCalibrator(8, axis, False)
        first, second = torch.randn(4, 5, 3), torch.randn(4, 5, 3)
        calibrator.collect(first)
        calibrator.collect(second)
        amax = calibrator.compute_amax()
        assert amax is not None
        assert amax.shape == shape
        spanned = tuple(dim for dim in range(3) if shape[dim] == 1)
        assert torch.equal(amax, torch.maximum(first.abs(), second.abs()).amax(spanned, keepdim=True))

    def test_another_shape_is_refused(self) -> None:
        calibrator = calib.MaxCalibrator(8, 0, False)
        calibrator.collect(torch.ones(4, 2))
        with pytest.raises(RuntimeError, match=r"amax shape changed! Tensors so far had \(4, 1\) ranges along axis 0"):
            calibrator.collect(torch.ones(5, 2))

    def test_tracking(self) -> None:
        calibrator = calib.MaxCalibrator(8, None, False, track_amax=True)
        for x in (torch.tensor([3.0]), torch.tensor([-1.0])):
            calibrator.collect(x)
        assert [float(amax) for amax in calibrator.amaxs] == [3, 1]
        assert str(calibrator) == "MaxCalibrator(track_amax=True)"
        assert "num_bits=8 axis=None unsigned=False calib_amax=3.0" in repr(calibrator)


class TestHistogram:
    def test_one_pass_serves_every_method(self) -> None:
        calibrator = calib.HistogramCalibrator(8, None, False)
        x = torch.randn(20_000, generator=torch.Generator().manual_seed(0))
        calibrator.collect(x)
        found = {m: calibrator.compute_amax(m) for m in ("percentile", "mse", "entropy")}
        assert all(amax is not None and 1 < float(amax) <= float(x.abs().max()) for amax in found.values())
        assert calibrator.compute_amax("percentile", percentile=50) == pytest.approx(0.6745, abs=0.02)

    def test_nothing_seen(self) -> None:
        calibrator = calib.HistogramCalibrator(8, None, False)
        assert calibrator.compute_amax("mse") is None
        assert calibrator._calib_hist is None
        assert str(calibrator) == "HistogramCalibrator(calib_bin_edges=None)"
        calibrator.collect(torch.zeros(0))
        assert calibrator.compute_amax("entropy") is None

    def test_zeros_can_be_skipped(self) -> None:
        skipping = calib.HistogramCalibrator(8, None, False, skip_zeros=True)
        for x in ([0, 0, 0, 0, 0, 1, 2, 3, 4, 5], [0, 0, 0, 0, 0, 6, 7, 8, 9, 10]):
            skipping.collect(torch.tensor(x, dtype=torch.float32))
        assert skipping._calib_hist is not None
        assert skipping._calib_hist.sum() == 10
        assert skipping.compute_amax("percentile", percentile=50) == pytest.approx(5, abs=10 / 2048)

    def test_numpy_counts_as_torch_does_and_grows_as_it_does(self) -> None:
        generator = torch.Generator().manual_seed(0)
        x_1, x_2 = torch.rand(1023, generator=generator), torch.rand(1023, generator=generator) + 1
        x_1[0] = x_2[1] = 0  # or NumPy's bins would not start at 0
        by_numpy = calib.HistogramCalibrator(8, None, False, num_bins=19, torch_hist=False)
        by_torch = calib.HistogramCalibrator(8, None, False, num_bins=19)
        for x in (x_1, x_2, x_1, x_2):
            by_numpy.collect(x)
            by_torch.collect(x)
            assert by_numpy._calib_hist is not None
            assert by_torch._calib_hist is not None
            assert by_torch._calib_bin_edges is not None
            assert len(by_torch._calib_hist) == len(by_torch._calib_bin_edges) - 1
            # A value within an ulp of an edge may fall on either side of it.
            assert (by_numpy._calib_hist.cumsum(0) - by_torch._calib_hist.cumsum(0)).abs().max() <= 1
            assert by_numpy._calib_hist.sum() == by_torch._calib_hist.sum()
            np.testing.assert_array_almost_equal(by_numpy._calib_bin_edges, by_torch._calib_bin_edges)
            nine = [one.compute_amax("percentile", percentile=90) for one in (by_numpy, by_torch)]
            torch.testing.assert_close(*nine, rtol=1e-6, atol=0)

    def test_numpy_bins_start_at_the_smallest_magnitude(self) -> None:
        calibrator = calib.HistogramCalibrator(8, None, False, num_bins=4, torch_hist=False)
        calibrator.collect(torch.tensor([-1.0, 2.0, 3.0]))
        expected = np.histogram([1.0, 2.0, 3.0], bins=4)
        np.testing.assert_array_equal(calibrator._calib_hist, expected[0])
        np.testing.assert_array_almost_equal(calibrator._calib_bin_edges, expected[1])

    def test_stride_and_start_bin_leave_candidates_out(self) -> None:
        calibrator = calib.HistogramCalibrator(8, None, False)
        calibrator.collect(torch.randn(5000, generator=torch.Generator().manual_seed(1)))
        edges, centres = calibrator._calib_bin_edges, None
        assert edges is not None
        centres = (edges[1:] + edges[:-1]) / 2
        mse = float(calibrator.compute_amax("mse", stride=100, start_bin=500))  # type: ignore[arg-type]
        assert min(abs(mse - float(c)) for c in centres[500::100]) < 1e-6
        entropy = float(calibrator.compute_amax("entropy", stride=100, start_bin=500))  # type: ignore[arg-type]
        assert min(abs(entropy - float(e)) for e in edges[500::100]) < 1e-6

    def test_an_outlier_does_not_decide(self) -> None:
        x = torch.rand(2000, generator=torch.Generator().manual_seed(0))
        x[7] = 10
        for unsigned in (False, True):
            calibrator = calib.HistogramCalibrator(8, None, unsigned)
            calibrator.collect(x)
            assert float(calibrator.compute_amax("entropy")) < 1.1  # type: ignore[arg-type]

    def test_fp8_by_mse(self) -> None:
        calibrator = calib.HistogramCalibrator((4, 3), None, False)
        x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
        calibrator.collect(x)
        assert 0 < float(calibrator.compute_amax("mse")) <= float(x.abs().max())  # type: ignore[arg-type]

    def test_percentile_bounds(self) -> None:
        calibrator = calib.HistogramCalibrator(8, None, False)
        calibrator.collect(torch.arange(100.0))
        assert calibrator.compute_amax("percentile", percentile=0) == 0
        assert float(calibrator.compute_amax("percentile", percentile=100)) == pytest.approx(99, abs=0.1)  # type: ignore[arg-type]
        for percentile in (-10, 200):
            with pytest.raises(ValueError, match=f"Invalid percentile {percentile}. Must be in range 0 <= percentile"):
                calibrator.compute_amax("percentile", percentile=percentile)

    def test_mistakes(self, caplog: pytest.LogCaptureFixture) -> None:
        with pytest.raises(NotImplementedError, match=r"only supports per tensor scaling, not axis=0. .*calibrate_w"):
            calib.HistogramCalibrator(8, 0, False)  # type: ignore[arg-type]
        calibrator = calib.HistogramCalibrator(8, None, False, num_bins=19, grow_method="stretch")
        assert "grow_method is deprecated. Got stretch" in caplog.text
        calibrator.collect(torch.rand(100))
        with pytest.raises(TypeError, match=r"Unknown calibration method entrpy. Did you mean 'entropy'?"):
            calibrator.compute_amax("entrpy")
        with pytest.raises(ValueError, match="start_bin=128, but a histogram has 19 bins"):
            calibrator.compute_amax("mse")
        for wrong in ({"start_bin": 0}, {"stride": 0}):
            with pytest.raises(ValueError, match=r"start_bin=\d+ and stride=\d have to be at least 1"):
                calibrator.compute_amax("entropy", **wrong)
        with pytest.raises(CalibrationError, match="NaN or Inf reached a HistogramCalibrator"):
            calibrator.collect(torch.tensor([torch.inf]))
        one_bit = calib.HistogramCalibrator(1, None, False)
        one_bit.collect(torch.rand(100))
        with pytest.raises(UnsupportedError, match=r"mse finds ranges for 2 to 16 bits, not 1. Use percentile."):
            one_bit.compute_amax("mse")

    def test_histograms_of_several_processes_are_brought_together(self) -> None:
        """By a script that reads and sets the original's attributes."""
        x = torch.rand(4, 500, generator=torch.Generator().manual_seed(0))
        x[:, 0] = 1
        parts, whole = [calib.HistogramCalibrator(8, None, False) for _ in x], calib.HistogramCalibrator(8, None, False)
        for part, own in zip(parts, x, strict=True):
            part.collect(own)
        whole.collect(x)
        merged = calib.HistogramCalibrator(8, None, False)
        merged._calib_hist = sum(part._calib_hist for part in parts)  # type: ignore[misc]
        merged._calib_bin_edges = parts[0]._calib_bin_edges
        assert torch.equal(merged._calib_hist, whole._calib_hist)  # type: ignore[arg-type]
        assert merged.compute_amax("entropy") == whole.compute_amax("entropy")

    def test_it_says_what_it_holds(self, caplog: pytest.LogCaptureFixture) -> None:
        calibrator = calib.HistogramCalibrator(8, None, True)
        with caplog.at_level(logging.DEBUG):
            calibrator.collect(torch.linspace(0, 2, 50))
        assert str(calibrator) == "HistogramCalibrator(calib_bin_edges=[0.000, ..., 2.000](2049))"
        assert "unsigned=True calib_bin_edges=tensor" in repr(calibrator)
        assert not caplog.text


class TestWeights:
    @staticmethod
    def model() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(
            quant_nn.QuantConv2d(3, 6, 3), quant_nn.QuantConvTranspose2d(6, 4, 2), torch.nn.ReLU(),
            quant_nn.QuantLinear(8, 5),
        )  # fmt: skip

    def test_max_is_that_of_the_calibrator(self) -> None:
        model = self.model()
        calib.calibrate_weights(model, method="max")
        for index, axis in ((0, 0), (1, 1), (3, 0)):
            layer = model[index]  # type: ignore[index]
            spanned = tuple(dim for dim in range(layer.weight.dim()) if dim != axis)
            assert torch.equal(layer.weight_quantizer.amax, reduce_amax(layer.weight, axis=spanned))
        calib.calibrate_weights(fresh := self.model(), method="max", perchannel=False)
        assert fresh[0].weight_quantizer.amax == fresh[0].weight.abs().max()  # type: ignore[index]

    @pytest.mark.parametrize("method", ["percentile", "mse"])
    def test_a_channel_has_what_a_calibrator_of_its_own_finds(self, method: str) -> None:
        model = self.model()
        calib.calibrate_weights(model, method=method, percentile=99)
        options: dict[str, Any] = {"percentile": 99} if method == "percentile" else {}
        for index, axis, shape in ((0, 0, (6, 1, 1, 1)), (1, 1, (1, 4, 1, 1)), (3, 0, (5, 1))):
            layer = model[index]  # type: ignore[index]
            amax = layer.weight_quantizer.amax
            assert amax.shape == shape
            for channel in range(max(shape)):
                own = calib.HistogramCalibrator(8, None, False)
                own.collect(layer.weight.select(axis, channel))
                assert amax.flatten()[channel] == own.compute_amax(method, **options)

    def test_one_range(self) -> None:
        model = self.model()
        calib.calibrate_weights(model, method="mse", perchannel=False)
        own = calib.HistogramCalibrator(8, None, False)
        own.collect(model[0].weight)  # type: ignore[index]
        assert model[0].weight_quantizer.amax == own.compute_amax("mse")  # type: ignore[index]

    @pytest.mark.parametrize("method", ["max", "mse", "percentile"])
    def test_a_single_channel_keeps_its_dimensions(self, method: str) -> None:
        layer = quant_nn.QuantConv2d(3, 1, 3)
        calib.calibrate_weights(layer, method=method)
        assert layer.weight_quantizer.amax.shape == (1, 1, 1, 1)

    def test_unknown_methods(self) -> None:
        with pytest.raises(TypeError, match=r"Unknown calibration method entropy. Known: max, mse, percentile."):
            calib.calibrate_weights(self.model(), method="entropy")


def test_ones_own_calibrator_has_to_say_what_it_does() -> None:
    own = calib._Calibrator(8, None, False)
    for call in (lambda: own.collect(torch.ones(1)), own.reset, own.compute_amax):
        with pytest.raises(NotImplementedError, match="_Calibrator has to say how"):
            call()
