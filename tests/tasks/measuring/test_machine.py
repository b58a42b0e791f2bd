"""What a measurement was made on; CPUs without VNNI, played: warned of before the work, and nowhere else."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn

import qzoo
from qzoo.errors import CalibrationError
from qzoo.runtimes.registry import runtime_named
from qzoo.tasks.benchmark import benchmark
from qzoo.tasks.measuring import machine as saturation
from qzoo.tasks.measuring.machine import SaturationWarning, cpu_flags, has_dot_products, warn_of_saturation
from tests.each import for_each

WITHOUT, WITH, UNKNOWN = ["avx2"], ["avx2", "avx_vnni"], []


def network(scheme: str = "int8_ort") -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)]
    return qzoo.calibrate(qzoo.quantize(nn.Sequential(*layers).eval(), scheme), [torch.randn(8, 1, 4, 4)])


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setattr(saturation, "cpu_flags", lambda: WITHOUT)
    return monkeypatch


@for_each(
    ("flags", "expected"),
    [
        (["avx2"], False), (["avx2", "avx512f"], False), (["avx2", "avx_vnni"], True), (["avx512_vnni"], True),
        (["avx512f", "amx_int8"], True), (["asimddp"], True), (["i8mm"], True), ([], None),
    ],
)  # fmt: skip
def test_what_a_cpu_can_is_told_by_its_flags(flags: list[str], expected: bool | None) -> None:
    assert has_dot_products(flags) is expected


def test_this_machine_s_flags_are_known_ones() -> None:
    assert set(cpu_flags()) <= {"avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"}


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_eight_bit_weights_are_warned_of(runtime: str, on: pytest.MonkeyPatch) -> None:
    with pytest.warns(SaturationWarning) as caught:
        warn_of_saturation(network(), runtime_named(runtime))
    said = str(caught[0].message)
    assert "has no VNNI: " + runtime_named(runtime).title in said
    assert "--reduce-range, in Python reduce_range=True" in said


@pytest.mark.parametrize(
    ("scheme", "runtime", "flags"),
    [
        ("int8_ort", "tensorrt", WITHOUT), ("w4a8", "onnxruntime", WITHOUT), ("fp8", "onnxruntime", WITHOUT),
        ("int8_ort", "onnxruntime", WITH), ("int8_ort", "onnxruntime", UNKNOWN),
    ],
)  # fmt: skip
def test_what_can_not_overflow_is_not(
    scheme: str, runtime: str, flags: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saturation, "cpu_flags", lambda: flags)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_saturation(network(scheme), runtime_named(runtime))


@pytest.mark.runtimes
def test_exporting_and_timing_warn_before_they_work(on: pytest.MonkeyPatch, tmp_path) -> None:
    model, file = network(), tmp_path / "a.onnx"
    with pytest.warns(SaturationWarning), pytest.raises(CalibrationError):
        qzoo.export(model, file, "onnxruntime", images=[torch.randn(1, 1, 4, 4)], adapt_on=[])
    assert not file.exists()
    with pytest.warns(SaturationWarning), pytest.raises(CalibrationError):
        benchmark(model, "openvino", adapt_on=[])


@pytest.mark.runtimes
def test_seven_bits_are_exported_and_timed_without_a_warning(on: pytest.MonkeyPatch, tmp_path) -> None:
    model, seen = network(), [torch.randn(8, 1, 4, 4)]
    with warnings.catch_warnings():
        warnings.simplefilter("error", SaturationWarning)
        qzoo.export(model, tmp_path / "a.onnx", example=seen[0][:1], adapt_on=seen, reduce_range=True)
        with pytest.raises(qzoo.errors.UnsupportedError, match="give images to adapt it on"):
            benchmark(model, "onnxruntime", reduce_range=True)
