"""The quantizer as scripts use it: its switches, its buffers, what it prints, what it refuses."""

from __future__ import annotations

import copy
import logging
from typing import Any

import numpy as np
import pytest
import torch

from qzoo.compat.pytorch_quantization import tensor_quant as tq
from qzoo.compat.pytorch_quantization.nn import TensorQuantizer
from qzoo.compat.pytorch_quantization.tensor_quant import QuantDescriptor
from qzoo.compat.pytorch_quantization.utils import reduce_amax

X = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


def calibrated(desc: QuantDescriptor, *load: Any, **options: Any) -> TensorQuantizer:
    quantizer = TensorQuantizer(desc, if_quant=False, if_calib=True)
    y = quantizer(X)
    assert desc.learn_amax or torch.equal(y, X)
    quantizer.load_calib_amax(*load, **options)
    quantizer.enable_quant()
    quantizer.disable_calib()
    return quantizer


class TestForward:
    def test_without_a_range_it_is_that_of_each_tensor(self) -> None:
        quantizer = TensorQuantizer()
        for x in (X, 3 * X):
            assert torch.equal(quantizer(x), tq.fake_tensor_quant(x, x.abs().max(), 8, False, False))
        assert quantizer.amax is None
        assert not quantizer.state_dict()

    def test_along_an_axis(self) -> None:
        spans = X.abs().amax(1, keepdim=True)
        assert torch.equal(TensorQuantizer(QuantDescriptor(axis=0))(X), tq.fake_tensor_quant(X, spans, 8, False, False))

    def test_integers_and_their_scale(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(fake_quant=False))
        integers, scale = tq.tensor_quant(X, X.abs().max())
        assert torch.equal(quantizer(X), integers)
        assert quantizer.scale == scale

    @pytest.mark.parametrize("bits", [3, 8, (4, 3)])
    def test_a_fixed_range(self, bits: Any) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(num_bits=bits, amax=0.5))
        span = torch.tensor(0.5)
        expected = (
            tq.scaled_e4m3(X, span) if isinstance(bits, tuple) else tq.fake_tensor_quant(X, span, bits, False, False)
        )
        assert torch.equal(quantizer(X), expected)

    def test_narrow_and_unsigned_are_passed_on(self) -> None:
        narrow = TensorQuantizer(QuantDescriptor(num_bits=2, amax=1.0, narrow_range=True))
        assert narrow(torch.tensor([-5.0])) == -1
        assert TensorQuantizer(QuantDescriptor(num_bits=2, amax=1.0))(torch.tensor([-5.0])) == -2
        unsigned = TensorQuantizer(QuantDescriptor(num_bits=2, amax=3.0, unsigned=True))
        assert unsigned(torch.tensor([0.4, 1.6, 9.0])).tolist() == [0, 2, 3]
        with pytest.raises(TypeError, match="Negative values encountered"):
            unsigned(torch.tensor([-1.0]))

    def test_scale_amax_multiplies_the_range_each_time_by_the_same(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=0.5, scale_amax=0.9))
        expected = tq.fake_tensor_quant(X, torch.tensor(0.5) * 0.9, 8, False, False)
        assert torch.equal(quantizer(X), expected)
        assert torch.equal(quantizer(X), expected)

    def test_pre_quant_scale(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=127.0))
        x = torch.tensor([[0, 0.4, 1.1, 2.0]])
        assert quantizer(x).tolist() == [[0, 0, 1, 2]]
        quantizer.pre_quant_scale = 2.0
        assert quantizer(x).tolist() == [[0, 1, 2, 4]]
        other = TensorQuantizer(QuantDescriptor(amax=127.0))
        other.pre_quant_scale = torch.tensor([[1.0, 2.0, 3.0, 4.0]])
        assert other(x).tolist() == [[0, 1, 3, 8]]
        assert list(other.state_dict()) == ["_amax", "_pre_quant_scale"]

    def test_disabled(self) -> None:
        quantizer = TensorQuantizer(disabled=True)
        assert quantizer(X) is X
        quantizer.enable()
        assert not torch.equal(quantizer(X), X)
        quantizer.disable()
        assert quantizer(X) is X

    def test_half_is_computed_in_float32(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=2.0)).half()
        y = quantizer(X.half())
        assert y.dtype == torch.half
        assert torch.equal(y, tq.fake_tensor_quant(X.half().float(), torch.tensor(2.0), 8, False, False).half())

    def test_it_compiles_and_copies(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=2.0, unsigned=True))
        compiled = torch.compile(quantizer, backend="aot_eager", fullgraph=True)
        assert torch.equal(compiled(X.abs()), quantizer(X.abs()))
        assert torch.equal(copy.deepcopy(quantizer)(X.abs()), quantizer(X.abs()))


class TestLearning:
    def test_the_range_is_that_of_the_bounds(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=0.5, learn_amax=True))
        clipped = X.clamp(-0.5, 0.5)
        assert torch.equal(quantizer(X).detach(), tq.fake_tensor_quant(clipped, torch.tensor(0.5), 8, False, False))
        clipping = TensorQuantizer(QuantDescriptor(amax=0.5, learn_amax=True), if_quant=False, if_clip=True)
        assert torch.equal(clipping(X).detach(), X.clamp(-0.5, 0.5))

    def test_the_bounds_are_trained_with_the_gradient_of_what_they_clip(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=0.5, learn_amax=True))
        quantizer(X).sum().backward()
        assert quantizer.clip.clip_value_max.grad == (X >= 0.5).sum()
        assert quantizer.clip.clip_value_min.grad == (X <= -0.5).sum()

    def test_they_start_at_what_was_calibrated(self, caplog: pytest.LogCaptureFixture) -> None:
        quantizer = calibrated(QuantDescriptor(learn_amax=True))
        quantizer.init_learn_amax()
        assert quantizer.clip.clip_value_max == X.abs().max()
        assert quantizer.clip.clip_value_min == -X.abs().max()
        quantizer._buffers["_amax"] = torch.tensor([1.0, 3.0])
        quantizer.init_learn_amax()
        assert quantizer.clip.clip_value_max == 3
        assert "Per channel learned amax not supported. Initializing with max(amax)." in caplog.text

    def test_switching_them_off(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(learn_amax=True))
        quantizer.disable_clip()
        assert not any(bound.requires_grad for bound in quantizer.clip.parameters())
        quantizer.enable_clip()
        assert all(bound.requires_grad for bound in quantizer.clip.parameters())

    def test_mistakes(self) -> None:
        with pytest.raises(ValueError, match=r"learn_amax is False. Cannot enable clip. Say QuantDescriptor\(learn_am"):
            TensorQuantizer(if_clip=True)
        with pytest.raises(RuntimeError, match="Called init_learn_amax with learn_amax=False"):
            TensorQuantizer().init_learn_amax()
        with pytest.raises(RuntimeError, match="Called init_learn_amax without a range"):
            TensorQuantizer(QuantDescriptor(learn_amax=True)).init_learn_amax()


class TestCalibrating:
    @pytest.mark.parametrize("axis", [None, 0, (0, 1)])
    def test_max(self, axis: Any) -> None:
        quantizer = calibrated(QuantDescriptor(axis=axis))
        spanned = {None: (0, 1), 0: (1,), (0, 1): ()}[axis]
        assert torch.equal(quantizer.amax, reduce_amax(X, axis=spanned))  # type: ignore[arg-type]

    @pytest.mark.parametrize("method", ["percentile", "mse", "entropy"])
    def test_histogram(self, method: str) -> None:
        quantizer = calibrated(QuantDescriptor(calib_method="histogram"), method)
        assert quantizer.amax == quantizer._calibrator.compute_amax(method)  # type: ignore[union-attr]
        assert 0 < quantizer.amax <= X.abs().max() * 1.001  # type: ignore[operator]

    def test_again_by_another_method(self) -> None:
        quantizer = calibrated(QuantDescriptor(calib_method="histogram"), "percentile", percentile=50)
        before = quantizer.amax.clone()  # type: ignore[union-attr]
        quantizer.load_calib_amax(method="percentile", percentile=99)
        assert quantizer.amax > before  # type: ignore[operator]

    def test_nothing_seen(self, caplog: pytest.LogCaptureFixture) -> None:
        for method in ("max", "histogram"):
            quantizer = TensorQuantizer(QuantDescriptor(calib_method=method))
            options = {} if method == "max" else {"method": "mse"}
            with pytest.raises(RuntimeError, match=r"Calibrator returned None. .* Passing 'strict=False' to `load_cal"):
                quantizer.load_calib_amax(**options)
            quantizer.load_calib_amax(strict=False, **options)
            assert "Set amax to NaN!" in caplog.text
            assert quantizer.amax.isnan()  # type: ignore[union-attr]
            assert quantizer(X).isnan().all()

    @pytest.mark.parametrize("there", [[1.0], 1.0, [[1.0], [2.0], [3.0], [4.0]]])
    def test_a_range_takes_the_shape_of_the_one_that_is_there(self, there: Any) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=np.array(there)), if_quant=False, if_calib=True)
        quantizer(X)
        quantizer.load_calib_amax()
        assert torch.equal(quantizer.amax, X.abs().max().expand(np.shape(there)))  # type: ignore[arg-type]
        quantizer._calibrator.reset()  # type: ignore[union-attr]
        quantizer.load_calib_amax(strict=False)
        assert quantizer.amax.isnan().all()  # type: ignore[union-attr]

    def test_but_not_where_there_is_none_for_it(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=[1.0, 2.0]), if_calib=True, if_quant=False)
        quantizer._axis = quantizer._calibrator._axis = 0  # type: ignore[union-attr]
        quantizer(X)
        with pytest.raises(
            RuntimeError, match=r"Changing shape when setting amax is not allowed. It has \(2,\), given"
        ):
            quantizer.load_calib_amax()

    def test_nothing_is_collected_while_the_model_is_exported(self, caplog: pytest.LogCaptureFixture) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=1.0), if_calib=True)
        torch.export.export(quantizer, (X,))
        assert quantizer._calibrator.compute_amax() is None  # type: ignore[union-attr]
        assert "Complete calibration before exporting" in caplog.text

    def test_without_a_calibrator(self) -> None:
        quantizer = TensorQuantizer()
        quantizer._calibrator = None
        with pytest.raises(ValueError, match="Calibrator was not created, cannot enable calibration"):
            quantizer.enable_calib()
        with pytest.raises(RuntimeError, match="Calibrator not created"):
            quantizer.load_calib_amax()


class TestRange:
    def test_setting_it(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=3.14))
        quantizer.amax = 0.577
        assert quantizer.amax == np.float32(0.577)
        assert quantizer.step_size == np.float32(0.577) / 127
        other = TensorQuantizer()
        other.amax = np.array([3.142, 2.718], dtype=np.float32)
        assert other.amax.shape == (2,)  # type: ignore[union-attr]

    def test_another_shape_is_refused(self) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(amax=[1.0, 2.0]))
        for kind in (RuntimeError, TypeError):  # versions of the original raise either
            with pytest.raises(
                kind, match=r"Changing shape when setting amax is not allowed. It has \(2,\), given: \(\)"
            ):
                quantizer.amax = 1.0
        quantizer.pre_quant_scale = 1.0
        with pytest.raises(RuntimeError, match="Changing shape when setting pre_quant_scale"):
            quantizer.pre_quant_scale = [1.0, 2.0]

    @pytest.mark.parametrize("kind", [torch.Tensor.clone, torch.nn.Parameter])
    def test_scripts_may_set_the_attribute(self, kind: Any) -> None:
        quantizer = TensorQuantizer()
        quantizer._amax = kind(torch.tensor(2.0))
        assert quantizer(torch.tensor([5.0])) == 2
        quantizer.amax = 3.0
        assert quantizer(torch.tensor([5.0])) == 3

    def test_none_means_nothing(self, caplog: pytest.LogCaptureFixture) -> None:
        TensorQuantizer().amax = None
        assert "Setting amax to None is meaningless" in caplog.text
        assert TensorQuantizer().step_size is None
        assert "step_size is undefined under dynamic amax mode" in caplog.text

    def test_properties(self, caplog: pytest.LogCaptureFixture) -> None:
        quantizer = TensorQuantizer(QuantDescriptor(axis=1))
        quantizer.num_bits, quantizer.unsigned, quantizer.narrow_range = 7, True, True
        assert (quantizer.num_bits, quantizer.unsigned, quantizer.narrow_range) == (7, True, True)
        assert (quantizer.maxbound, quantizer.axis, quantizer.fake_quant) == (127, 1, True)
        assert TensorQuantizer(QuantDescriptor(num_bits=(4, 3))).maxbound == 448
        assert quantizer.scale == 1
        assert "Fake quantize mode doesn't use scale explicitly!" in caplog.text
        assert TensorQuantizer(QuantDescriptor(fake_quant=False)).scale is None
        assert "Accessing scale before quantizing any tensor!" in caplog.text


class TestStateDict:
    @pytest.mark.parametrize("amax", [3.142, [3.142, 2.718]])
    def test_there_and_back(self, amax: Any) -> None:
        state = TensorQuantizer(QuantDescriptor(amax=amax)).state_dict()
        assert list(state) == ["_amax"]
        loaded = TensorQuantizer()  # has no buffer yet
        assert loaded.load_state_dict(state).missing_keys == []
        assert torch.equal(loaded.amax, torch.tensor(amax))  # type: ignore[arg-type]
        assert loaded.amax is not state["_amax"]

    def test_a_missing_range_is_reported(self, caplog: pytest.LogCaptureFixture) -> None:
        model = torch.nn.Sequential(TensorQuantizer(QuantDescriptor(amax=1.0)))
        with (
            caplog.at_level(logging.ERROR),
            pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "0._am'),
        ):
            model.load_state_dict({})
        assert "0: No amax in state_dict." in caplog.text
        assert model.load_state_dict({}, strict=False).missing_keys == ["0._amax"]

    def test_another_shape_is_refused(self) -> None:
        with pytest.raises(RuntimeError, match="size mismatch for _amax"):
            TensorQuantizer(QuantDescriptor(amax=1.0)).load_state_dict({"_amax": torch.ones(2)})


@pytest.mark.parametrize(
    ("quantizer", "text"),
    [
        (TensorQuantizer(), "8bit fake per-tensor amax=dynamic calibrator=MaxCalibrator scale=1.0 quant"),
        (
            TensorQuantizer(QuantDescriptor(amax=2.64, calib_method="histogram")),
            "8bit fake per-tensor amax=2.6400 calibrator=HistogramCalibrator scale=1.0 quant",
        ),
        (
            TensorQuantizer(QuantDescriptor(axis=0, amax=[0.5, 0.25], num_bits=4, unsigned=True)),
            "unsigned 4bit fake axis=0 amax=[0.2500, 0.5000](2) calibrator=MaxCalibrator scale=1.0 quant",
        ),
        (
            TensorQuantizer(QuantDescriptor(narrow_range=True, scale_amax=0.9), if_quant=False, if_calib=True),
            "8bit narrow fake per-tensor amax=dynamic *0.9 calibrator=MaxCalibrator scale=1.0 calib",
        ),
        (
            TensorQuantizer(QuantDescriptor(learn_amax=True, fake_quant=False)),
            "8bit per-tensor amax=dynamic learned calibrator=MaxCalibrator quant clip",
        ),
        (
            TensorQuantizer(QuantDescriptor(num_bits=(4, 3))),
            "(4, 3)bit fake per-tensor amax=dynamic calibrator=MaxCalibrator scale=1.0 quant",
        ),
        (TensorQuantizer(disabled=True), "disabled"),
    ],
)
def test_it_prints_as_the_original_does(quantizer: TensorQuantizer, text: str) -> None:
    assert quantizer.extra_repr() == text
    if not quantizer._learn_amax:  # which has a submodule to print
        assert repr(quantizer) == f"TensorQuantizer({text})"
