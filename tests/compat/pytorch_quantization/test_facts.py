"""The constants and defaults of pytorch-quantization 2.2.1, read in its source, NVIDIA/TensorRT, a table of them.

Files: tensor_quant.py, quant_modules.py, nn/modules/*.py, calib/*.py, utils/reduce_amax.py, optim/helper.py.
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from qzoo.compat.pytorch_quantization import calib, quant_modules, utils
from qzoo.compat.pytorch_quantization import nn as quant_nn
from qzoo.compat.pytorch_quantization import tensor_quant as tq
from qzoo.compat.pytorch_quantization.nn.modules import _utils
from qzoo.compat.pytorch_quantization.optim import helper
from tests.each import for_each

PER_TENSOR = "QUANT_DESC_8BIT_PER_TENSOR"
OF_CONVOLUTIONS = {f"Conv{n}d": f"QUANT_DESC_8BIT_CONV{n}D_WEIGHT_PER_CHANNEL" for n in (1, 2, 3)}
OF_TRANSPOSED = {f"ConvTranspose{n}d": f"QUANT_DESC_8BIT_CONVTRANSPOSE{n}D_WEIGHT_PER_CHANNEL" for n in (1, 2, 3)}
BY_ROW = "QUANT_DESC_8BIT_LINEAR_WEIGHT_PER_ROW"

CONSTANTS: dict[str, tuple[int, int | None, bool]] = {
    PER_TENSOR: (8, None, False),
    "QUANT_DESC_UNSIGNED_8BIT_PER_TENSOR": (8, None, True),
    BY_ROW: (8, 0, False),
    **dict.fromkeys(OF_CONVOLUTIONS.values(), (8, 0, False)),
    **dict.fromkeys(OF_TRANSPOSED.values(), (8, 1, False)),
}
"""Bits, axis, unsigned. Transposed weights are (in, out / groups, ...): 2.2.1 has axis 1, versions before it axis 0."""


@for_each("name", CONSTANTS)
def test_descriptors(name: str) -> None:
    desc = getattr(tq, name)
    assert (desc.num_bits, desc.axis, desc.unsigned) == CONSTANTS[name]
    assert (desc.fake_quant, desc.narrow_range, desc.learn_amax, desc.calib_method) == (True, False, False, "max")
    assert (desc.amax, desc.scale_amax, desc.name) == (None, None, None)


def test_there_are_no_others() -> None:
    assert {name for name in vars(tq) if name.startswith("QUANT_DESC_")} == set(CONSTANTS)


WEIGHTED = {**OF_CONVOLUTIONS, **OF_TRANSPOSED, "Linear": BY_ROW, "LSTM": BY_ROW, "LSTMCell": BY_ROW}
AVERAGE = [f"{kind}{n}d" for kind in ("AvgPool", "AdaptiveAvgPool") for n in (1, 2, 3)]
NOT_REPLACED = [f"{kind}{n}d" for kind in ("MaxPool", "InstanceNorm") for n in (1, 2, 3)]


@for_each("name", [*WEIGHTED, *AVERAGE, *NOT_REPLACED])
def test_defaults_of_classes(name: str) -> None:
    layer = getattr(quant_nn, f"Quant{name}")
    assert layer.default_quant_desc_input == getattr(tq, PER_TENSOR)
    if name in WEIGHTED:
        assert layer.default_quant_desc_weight == getattr(tq, WEIGHTED[name])
        assert issubclass(layer, _utils.QuantMixin)
    else:
        assert not hasattr(layer, "default_quant_desc_weight")
        assert issubclass(layer, _utils.QuantInputMixin)


def test_defaults_of_ones_own_classes() -> None:
    assert _utils.QuantMixin.default_quant_desc_weight is getattr(tq, PER_TENSOR)
    assert _utils.QuantInputMixin.default_quant_desc_input is getattr(tq, PER_TENSOR)


def test_what_initialize_replaces() -> None:
    replaced = [*WEIGHTED, *AVERAGE]
    assert [entry.mod_name for entry in quant_modules._DEFAULT_QUANT_MAP] == replaced
    for module, name, by in quant_modules._DEFAULT_QUANT_MAP:
        assert module is nn
        assert by is getattr(quant_nn, f"Quant{name}")
    assert quant_modules._quant_entry._fields == ("orig_mod", "mod_name", "replace_mod")


SIGNATURES: list[tuple[Any, dict[str, Any]]] = [
    (tq.fake_tensor_quant, {"num_bits": 8, "unsigned": False, "narrow_range": True}),
    (tq.tensor_quant, {"num_bits": 8, "unsigned": False, "narrow_range": True}),
    (tq.legacy_fake_tensor_quant, {"num_bits": 8, "unsigned": False, "narrow_range": True}),
    (tq.fake_affine_tensor_quant, {"num_bits": 8}),
    (tq.scaled_e4m3, {"amax": None, "E": 4, "M": 3}),
    (tq.QuantDescriptor, {"num_bits": 8, "name": None}),
    (quant_nn.Clip, {"learn_min": False, "learn_max": False}),
    (calib.MaxCalibrator, {"track_amax": False}),
    (
        calib.HistogramCalibrator,
        {"num_bins": 2048, "grow_method": None, "skip_zeros": False, "torch_hist": True},
    ),
    (calib.HistogramCalibrator.compute_amax, {"stride": 1, "start_bin": 128, "percentile": 99.99}),
    (calib.calibrate_weights, {"method": "percentile", "perchannel": True, "percentile": 99.99, "num_bins": 2048}),
    (utils.reduce_amax, {"axis": None, "keepdims": True}),
    (quant_modules.initialize, {"float_module_list": None, "custom_quant_modules": None}),
    (quant_modules.QuantModuleReplacementHelper.prepare_state, {"float_module_list": None, "custom_map": None}),
    (_utils.pop_quant_desc_in_kwargs, {"input_only": False}),
    (_utils.QuantMixin.init_quantizer, {"num_layers": None}),
    (helper.group_parameters, {"lrs": None, "momentums": None, "weight_decays": None}),
]
"""A function, and its parameters that have defaults, in their order."""


@for_each(("function", "expected"), SIGNATURES)
def test_defaults_of_functions(function: Any, expected: dict[str, Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    said = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
    assert list(said.items()) == list(expected.items())


def test_defaults_of_a_quantizer() -> None:
    parameters = inspect.signature(quant_nn.TensorQuantizer).parameters
    assert list(parameters) == ["quant_desc", "disabled", "if_quant", "if_clip", "if_calib"]
    one = quant_nn.TensorQuantizer()
    assert (one.num_bits, one.axis, one.unsigned, one.narrow_range, one.fake_quant) == (8, None, False, False, True)
    assert (one._disabled, one._if_quant, one._if_clip, one._if_calib) == (False, True, False, False)
    assert (one.amax, one.maxbound, one._scale) == (None, 127, 1.0)
    assert type(one._calibrator) is calib.MaxCalibrator
    assert quant_nn.TensorQuantizer(tq.QuantDescriptor(num_bits=(4, 3))).maxbound == 448.0


def known(*shape: int) -> torch.Tensor:
    """1, 2, 3 ... with the signs alternating."""
    values = torch.arange(1.0, np.prod(shape) + 1)
    return (values * (-1) ** torch.arange(len(values))).reshape(shape)


class TestATransposedConvolution:
    def test_ranges_by_hand(self) -> None:
        """Weight (2, 3, 1, 2): 1..6 of input 0, 7..12 of input 1; output channel 0 has 1, 2, 7, 8."""
        layer = quant_nn.QuantConvTranspose2d(2, 3, (1, 2), bias=False)
        layer.weight.data = known(2, 3, 1, 2)
        calib.calibrate_weights(layer, method="max")
        assert layer.weight_quantizer.amax.shape == (1, 3, 1, 1)
        assert layer.weight_quantizer.amax.flatten().tolist() == [8.0, 10.0, 12.0]

    @pytest.mark.parametrize("n", [1, 2, 3])
    def test_dynamic_calibrated_and_by_calibrate_weights_agree(self, n: int) -> None:
        layer = getattr(quant_nn, f"QuantConvTranspose{n}d")(2, 3, 2, bias=False)
        layer.input_quantizer.disable()
        layer.weight.data = known(2, 3, *(2,) * n)
        x = torch.randn(1, 2, *(3,) * n)
        dynamic = layer(x)
        layer.weight_quantizer.enable_calib()
        layer(x)
        layer.weight_quantizer.load_calib_amax()
        channels = 2**n  # values of one input and output channel; those of the last input are the largest
        assert layer.weight_quantizer.amax.shape == (1, 3, *(1,) * n)
        assert layer.weight_quantizer.amax.flatten().tolist() == [channels * (4 + out) for out in range(3)]
        assert torch.equal(layer(x), dynamic)
        calib.calibrate_weights(layer, method="max")
        assert torch.equal(layer(x), dynamic)

    def test_output_by_hand(self) -> None:
        """An input of 1 gives the quantized weight itself: round(w * 127 / amax) * amax / 127, channel by channel."""
        layer = quant_nn.QuantConvTranspose2d(2, 3, (1, 2), bias=False)
        layer.input_quantizer.disable()
        layer.weight.data = known(2, 3, 1, 2)
        x = torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
        amax = np.array([[8.0], [10.0], [12.0]])
        expected = np.round(np.array([[1.0, -2.0], [3.0, -4.0], [5.0, -6.0]]) * 127 / amax) * amax / 127
        np.testing.assert_allclose(layer(x)[0, :, 0].detach().numpy(), expected, rtol=1e-6)

    def test_gradients_stop_outside_a_range_of_an_output_channel(self) -> None:
        layer = quant_nn.QuantConvTranspose2d(
            2, 3, (1, 2), bias=False, quant_desc_weight=tq.QuantDescriptor(axis=1, amax=[[[[2.0]], [[9.5]], [[20.0]]]])
        )
        layer.input_quantizer.disable()
        layer.weight.data = known(2, 3, 1, 2)
        layer(torch.ones(1, 2, 1, 1)).sum().backward()
        passes = [[[[1.0, 1.0]], [[1.0, 1.0]], [[1.0, 1.0]]], [[[0.0, 0.0]], [[1.0, 0.0]], [[1.0, 1.0]]]]
        assert layer.weight.grad.tolist() == passes  # type: ignore[union-attr]

    def test_groups_share_ranges(self) -> None:
        """Weight (4, 2, 1, 1) of 2 groups and 4 output channels: two ranges, as the original's axis says."""
        layer = quant_nn.QuantConvTranspose2d(4, 4, 1, groups=2, bias=False)
        layer.weight.data = known(4, 2, 1, 1)
        calib.calibrate_weights(layer, method="max")
        assert layer.weight_quantizer.amax.shape == (1, 2, 1, 1)
        assert layer.weight_quantizer.amax.flatten().tolist() == [7.0, 8.0]

    @pytest.mark.runtimes
    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("groups", [1, 2])
    def test_the_exported_graph_computes_the_same(self, groups: int, tmp_path: Any) -> None:
        import onnx
        import onnxruntime

        torch.manual_seed(0)
        layer = quant_nn.QuantConvTranspose2d(4, 6, 2, groups=groups)
        x = torch.randn(1, 4, 3, 3)
        for quantizer in (layer.input_quantizer, layer.weight_quantizer):
            quantizer.enable_calib()
        layer(x)
        for quantizer in (layer.input_quantizer, layer.weight_quantizer):
            quantizer.load_calib_amax()
            quantizer.disable_calib()
        with quant_modules.enable_onnx_export():
            torch.onnx.export(layer, (x,), tmp_path / "t.onnx", dynamo=False, opset_version=13, verbose=False)
        nodes = [node for node in onnx.load(tmp_path / "t.onnx").graph.node if node.op_type == "QuantizeLinear"]
        assert [[a.i for a in node.attribute if a.name == "axis"] for node in nodes] == [[], [1]]
        session = onnxruntime.InferenceSession(tmp_path / "t.onnx", providers=["CPUExecutionProvider"])
        (computed,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
        np.testing.assert_allclose(computed, layer(x).detach().numpy(), atol=1e-5)
