"""Timing a variant in a runtime, and what the runtime says of its kernels."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import UnsupportedError
from qzoo.runtimes.registry import runtime_named
from qzoo.runtimes.timing import BLOCK, BLOCKS, WARMUP, latency, multiply_accumulates, side_by_side
from qzoo.runtimes.to_onnx import float_to_onnx, to_onnx
from qzoo.tasks.benchmark import benchmark
from tests.runtimes.conftest import digits, network

pytestmark = pytest.mark.runtimes


class Wide(nn.Module):
    """Large enough for integer kernels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32)
        self.depthwise, self.point = nn.Conv2d(32, 32, 3, groups=32, padding=1), nn.Conv2d(32, 32, 1)
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(32, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        y = torch.relu(self.depthwise(x))
        return self.fc(self.pool(torch.relu(self.point(y) + x)).flatten(1))


@pytest.fixture(scope="module")
def models() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    x = torch.randn(4, 3, 32, 32)
    model = Wide().eval()
    return qzoo.calibrate(qzoo.quantize(model, "int8_ort", example=x[:1]), [x]), model


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_float_and_quantized_are_timed_and_what_ran_on_integers_is_told(
    runtime: str, models: tuple[nn.Module, nn.Module]
) -> None:
    report = benchmark(models[0], runtime, name="wide", batches=(1, 2), threads=1)
    assert [timing.batch for timing in report.timings] == [1, 2]
    for timing in report.timings:
        for low, median, high in (timing.float_ms, timing.quantized_ms):
            assert 0 < low <= median <= high
        assert timing.speed == timing.float_ms[1] / timing.quantized_ms[1]
    assert report.integer_additions == (1, 1)
    assert report.integer_macs > 0.95
    assert {one.node for one in report.float_operators} <= {"fc/Gemm"}
    assert (report.threads, report.runtime, report.name) == (1, runtime, "wide")


def test_a_layer_that_stays_in_float_has_a_reason() -> None:
    model = network()
    quantized = qzoo.calibrate(qzoo.quantize(model, "int8", example=digits(1)), [digits()])
    report = benchmark(quantized, "onnxruntime", batches=(1,), threads=1)
    assert report.integer_macs < 0.5
    assert report.integer_additions == (0, 2)
    reasons = {one.node: one.reason for one in report.float_operators}
    assert ": it is signed, after 3.relu/Relu, which gives nothing below 0" in reasons["3.conv1/Conv"]
    assert reasons["3/Add"] == "neither input is quantized: it runs in float"


def test_a_runtime_that_does_not_run_here_is_refused(models: tuple[nn.Module, nn.Module]) -> None:
    with pytest.raises(UnsupportedError, match=r"TensorRT does not run here: "):
        benchmark(models[0], "tensorrt")


def test_multiply_accumulates_are_those_of_the_formula(models: tuple[nn.Module, nn.Module]) -> None:
    expected = {
        "stem/Conv": 32 * 32 * 32 * 3 * 9, "depthwise/Conv": 32 * 32 * 32 * 9, "point/Conv": 32 * 32 * 32 * 32,
        "fc/Gemm": 320,
    }  # fmt: skip
    quantized, model = models
    example = torch.zeros(1, 3, 32, 32)
    for name in ("tensorrt", "onnxruntime"):
        assert multiply_accumulates(to_onnx(quantized, example, runtime_named(name)).graph) == expected
    # The exporter folds batch norm of a float model, and calls the layer by it.
    assert sorted(multiply_accumulates(float_to_onnx(model, example).graph).values()) == sorted(expected.values())


def test_sessions_take_turns_and_warm_up() -> None:
    calls: list[str] = []

    class Counting:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, x: object) -> object:
            calls.append(self.name)
            return x

    found = list(side_by_side({"a": Counting("a"), "b": Counting("b")}, digits(1).numpy()))  # type: ignore[dict-item]
    assert [name for name, _ in found] == (["a"] * BLOCK + ["b"] * BLOCK) * BLOCKS
    assert calls[: WARMUP + BLOCK + 1] == ["a"] * (WARMUP + BLOCK) + ["b"]
    assert latency([1_000_000, 2_000_000, 3_000_000]).median == 2.0
