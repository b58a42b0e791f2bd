"""Graphs with quantizers left out are those that are exported with these off."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import UnknownNameError
from qzoo.quant.ranges import quantizers
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.runtime import Array
from qzoo.runtimes.to_onnx import to_onnx
from qzoo.runtimes.without_quantizers import Exporter
from tests.each import for_each
from tests.runtimes.conftest import digits

pytestmark = pytest.mark.runtimes

STEM, SECOND = ("0.input_quantizer", "0.weight_quantizer"), ("3.conv2.input_quantizer", "3.conv2.weight_quantizer")
BLOCK = ("3.conv1.input_quantizer", "3.conv1.weight_quantizer", "3.residual_quantizer", "3.residual_main_quantizer")
CHOSEN: dict[str, Callable[[nn.Module], list[str]]] = {
    "none": lambda model: [],
    "stem": lambda model: [*STEM],
    "a layer": lambda model: [*SECOND],
    "a block's input": lambda model: [*BLOCK],
    "one of two quantizers of a tensor": lambda model: [BLOCK[0]],
    "a weight alone": lambda model: ["7.weight_quantizer"],
    "an input alone": lambda model: ["7.input_quantizer"],
    "all": lambda model: [*quantizers(model)],
}


@contextmanager
def off(model: nn.Module, paths: list[str]) -> Iterator[None]:
    for path in paths:
        quantizers(model)[path].state = "off"
    try:
        yield
    finally:
        for path in paths:
            quantizers(model)[path].state = "quantizing"


@pytest.fixture(scope="module")
def exporters(fitting: nn.Module) -> dict[str, Exporter]:
    return {name: Exporter(fitting, digits(1), runtime_named(name)) for name in ("onnxruntime", "openvino")}


def outputs(graph: ir.Model, x: torch.Tensor, file: Path) -> Array:
    ir.save(graph, file)
    session = runtime_named("onnxruntime").session(file, 1, False)
    return session.run({"images": x.numpy()})["logits"]


@for_each("chosen", CHOSEN)
def test_a_graph_computes_what_the_model_does_with_these_quantizers_off(
    chosen: str, exporters: dict[str, Exporter], fitting: nn.Module, tmp_path: Path
) -> None:
    paths, x = CHOSEN[chosen](fitting), digits(8)
    for runtime, exporter in exporters.items():
        with off(fitting, paths), torch.no_grad():
            expected = fitting(x).numpy()
        found = outputs(exporter.without(paths), x, tmp_path / f"{runtime}.onnx")
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()
        with torch.no_grad():
            whole = fitting(x).numpy()
        assert (np.abs(expected - whole).max() > 4e-4 * np.abs(whole).max()) == bool(paths)


def layout(graph: ir.Model) -> list[tuple[str, Any]]:
    return [(node.op_type, node.outputs[0].shape) for node in graph.graph]


@for_each("chosen", [name for name in CHOSEN if name != "all"])
def test_a_graph_has_the_nodes_of_a_real_export(
    chosen: str, exporters: dict[str, Exporter], fitting: nn.Module
) -> None:
    paths, exporter = CHOSEN[chosen](fitting), exporters["onnxruntime"]
    with off(fitting, paths):
        real = to_onnx(fitting, digits(1), exporter.runtime)
    assert layout(exporter.without(paths)) == layout(real)


def test_a_clip_to_a_narrow_type_goes_with_its_quantizer_and_the_relu_in_it_stays(tmp_path: Path) -> None:
    model, x = qzoo.create("resnet8_digits_w4a4", pretrained=True), digits(8)
    exporter = Exporter(model, x[:1], runtime_named("onnxruntime"))
    paths = ["layer2.conv2.input_quantizer", "layer2.conv2.weight_quantizer"]
    with off(model, paths), torch.no_grad():
        expected = model(x).numpy()
    found = exporter.without(paths)
    # The clip to the ends of 4 bits holds the ReLU before it; without it, the ReLU is there again.
    whole, left = ([node.op_type for node in graph.graph] for graph in (exporter.without([]), found))
    assert left.count("Clip") == whole.count("Clip") - 1
    assert left.count("Relu") == whole.count("Relu") + 1
    assert np.abs(outputs(found, x, tmp_path / "w4.onnx") - expected).max() < 1e-4 * np.abs(expected).max()


def test_a_path_that_is_none_is_refused_with_the_nearest(exporters: dict[str, Exporter]) -> None:
    with pytest.raises(UnknownNameError, match=r"no quantizer '0\.inputs_quantizer' that is on\. Did you mean '0\.inp"):
        exporters["onnxruntime"].without(["0.inputs_quantizer"])


def test_what_comes_before_a_quantizer_is_known(exporters: dict[str, Exporter]) -> None:
    for exporter in exporters.values():
        sources = exporter.sources()
        assert sources["0.input_quantizer"] == set()
        assert sources["3.conv1.input_quantizer"] == sources["3.residual_quantizer"] == set(STEM)
        assert sources["3.residual_main_quantizer"] == set(SECOND)
        assert sources["4.conv1.input_quantizer"] == {"3.residual_quantizer", "3.residual_main_quantizer"}
