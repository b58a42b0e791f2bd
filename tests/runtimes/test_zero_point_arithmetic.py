"""The arithmetic of zero points against ONNX Runtime's own QuantizeLinear and DequantizeLinear."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qzoo.quant.fake_quant import dequantize, fake_quantize, grid, quantize

onnx = pytest.importorskip("onnx")
pytestmark = pytest.mark.runtimes

TYPES = [("INT2", 2), ("UINT2", 2), ("INT4", 4), ("UINT4", 4), ("INT8", 8), ("UINT8", 8), ("INT16", 16), ("UINT16", 16)]
CHANNELS = 5


def by_onnxruntime(x: np.ndarray, step: np.ndarray, zero_point: np.ndarray, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the integers, in float32, and what they stand for."""
    import onnxruntime
    from onnx import TensorProto, helper

    kind = getattr(TensorProto, of)
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["q"], axis=0),
        helper.make_node("DequantizeLinear", ["q", "step", "zero"], ["y"], axis=0),
        helper.make_node("Cast", ["q"], ["codes"], to=TensorProto.FLOAT),
    ]
    constants = [
        helper.make_tensor("step", TensorProto.FLOAT, step.shape, step.ravel()),
        helper.make_tensor("zero", kind, zero_point.shape, zero_point.ravel()),
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, x.shape) for name in ("codes", "y")]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)]
    opset = 25 if "INT2" in of else 21
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=13 if opset == 25 else 10
    )
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return tuple(session.run(None, {"x": x}))


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize(("of", "bits"), TYPES)
def test_equals_onnxruntime(of: str, bits: int, per_channel: bool) -> None:
    generator = np.random.default_rng(bits)
    on = grid(bits=bits, unsigned=True)
    shape = (CHANNELS,) if per_channel else ()
    # Steps that are powers of two make ties exact, which two roundings of a scale could settle in different ways.
    step = np.asarray(np.float32(2.0) ** generator.integers(-6, 3, shape))
    zero_point = np.asarray(generator.integers(0, 2**bits, shape))
    x = (generator.integers(-(2 ** (bits + 2)), 2 ** (bits + 2), (CHANNELS, 200)) / 4).astype(np.float32)
    x *= step.reshape(-1, 1).astype(np.float32)
    lowest = 0 if of.startswith("U") else 2 ** (bits - 1)
    codes, y = by_onnxruntime(x, step.astype(np.float32), zero_point - lowest, of)
    amax = torch.as_tensor(step.reshape((-1, 1) if per_channel else ()) * on.bound, dtype=torch.float32)
    ours = torch.as_tensor(np.reshape(zero_point, (-1, 1) if per_channel else ()), dtype=torch.int32)
    values = quantize(torch.from_numpy(x), amax, on, ours)
    np.testing.assert_array_equal(values.numpy() - lowest, codes)
    np.testing.assert_array_equal(dequantize(values, amax, on, ours).numpy(), y)
    np.testing.assert_array_equal(fake_quantize(torch.from_numpy(x), amax, on, ours).numpy(), y)
