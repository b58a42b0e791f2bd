"""Average pooling in ONNX Runtime, against torch's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.to_onnx import to_onnx
from tests.each import for_each

pytestmark = pytest.mark.runtimes


@for_each(
    ("dims", "fields"),
    [
        (2, {"kernel_size": 3, "stride": 2, "padding": 1, "divisor_override": 2}),
        (2, {"kernel_size": (2, 3), "divisor_override": 5}),
        (2, {"kernel_size": 3, "padding": 1, "count_include_pad": False, "divisor_override": 4}),
        (2, {"kernel_size": 2, "stride": (1, 2), "ceil_mode": True}),
        (2, {"kernel_size": 3, "padding": (1, 0), "count_include_pad": False}),
        (3, {"kernel_size": 2, "stride": 1, "divisor_override": 3}),
        (3, {"kernel_size": 3, "padding": 1}),
    ],
)
def test_averages_have_the_divisor_that_was_said(tmp_path: Path, dims: int, fields: dict[str, Any]) -> None:
    import onnxruntime

    torch.manual_seed(0)
    conv, pool = (nn.Conv2d, nn.AvgPool2d) if dims == 2 else (nn.Conv3d, nn.AvgPool3d)
    # 16 bits, so that what is measured is not the step of a quantizer.
    rules = [{"match": {"type": "weighted"}, "weight": {"bits": 16}, "input": {"bits": 16}}]
    rules.append({"match": {"type": "pooling"}, "input": {"bits": 16}})
    x = torch.rand(2, 2, *(7, 8, 6)[:dims])
    model = qzoo.quantize(nn.Sequential(conv(2, 3, 1), pool(**fields)).eval(), "int8", rules=rules, example=x)
    qzoo.calibrate(model, [x])
    ir.save(to_onnx(model, x[:1], runtime_named("onnxruntime")), tmp_path / "x.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "x.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, model(x).detach().numpy(), atol=2e-4)
