"""ONNX Runtime: a graph that it can't load is told in words."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from qzoo.errors import UnsupportedError
from qzoo.runtimes import onnxruntime

pytestmark = pytest.mark.runtimes


@pytest.mark.parametrize(("optimized", "how"), [(True, "with"), (False, "without")])
def test_a_graph_that_it_can_not_load_is_told_with_its_reason(optimized: bool, how: str, tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(one, TensorProto.FLOAT, [1]) for one in "xy")
    graph = helper.make_graph([helper.make_node("NoSuchOperator", ["x"], ["y"])], "g", [x], [y])
    onnx.save(helper.make_model(graph), tmp_path / "a.onnx")
    with pytest.raises(UnsupportedError, match=f"can't load this graph {how} its optimizations: .*NoSuchOperator"):
        onnxruntime.session(tmp_path / "a.onnx", 1, optimized)
