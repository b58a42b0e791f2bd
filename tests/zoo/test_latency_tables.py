"""A table is measured once, and again only where it may be another; one of the user's is read with care."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import qzoo
from qzoo import environment
from qzoo.errors import UnsupportedError, WeightsError
from qzoo.results.latency_table import GroupLatency, LatencyTable
from qzoo.tasks.export import versions
from qzoo.tasks.latency_table import measured_of
from qzoo.tasks.measuring.machine import cpu_flags, cpu_name
from qzoo.zoo import latency_tables as command
from qzoo.zoo.latency_tables import FoundTable, kept_or_measured
from tests.each import for_each

GROUPS = {
    "first": ["0.input_quantizer", "0.weight_quantizer"],
    "second": ["1.input_quantizer", "1.weight_quantizer"],
}
X = torch.zeros(1, 4)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)).eval()
    return qzoo.calibrate(qzoo.quantize(layers, "int8_ort"), [torch.randn(8, 4)])


def table(model: nn.Module, runtime: str, of: Any, /, **told: Any) -> LatencyTable:
    fields: dict[str, Any] = {
        "name": "small", "runtime": runtime, "threads": 1, "batch": 1, "date": "2026-12-01",
        "float_ms": (2.0, 2.0, 2.0), "quantized_ms": (1.0, 1.0, 1.0), "cpu_flags": cpu_flags(),
        "groups": [GroupLatency(name=name, left_in_float_ms=0.5, interval_ms=(0.5, 0.5)) for name in of],
        "measured_of_sha256": measured_of(model, of, X), "environment": {"cpu": cpu_name(), **versions()},
    }  # fmt: skip
    return LatencyTable(**(fields | told))


@pytest.fixture
def measured(model: nn.Module, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int, int]]:
    """What was measured: here each time the same milliseconds, so that no runtime is needed."""
    calls: list[tuple[str, int, int]] = []

    def measure(
        model: nn.Module, runtime: str, groups: Any, *, threads: int, batch: int, example: Any, progress: Any
    ) -> LatencyTable:
        calls.append((runtime, threads, batch))
        return table(model, runtime, groups, threads=threads, batch=batch)

    monkeypatch.setattr(command, "latency_table", measure)
    monkeypatch.setattr(command, "timed_runtime", command.runtime_named)
    monkeypatch.setenv("QZOO_HOME", str(tmp_path / "home"))
    return calls


def find(model: nn.Module, **options: Any) -> FoundTable:
    return kept_or_measured(model, "onnxruntime", GROUPS, **{"threads": 1, "example": X} | options)


def test_a_table_is_measured_once(model: nn.Module, measured: list[Any]) -> None:
    first, second = find(model), find(model)
    assert (first.origin, second.origin, measured) == ("measured", "kept", [("onnxruntime", 1, 1)])
    assert first.table == second.table
    assert first.file == second.file
    assert first.file.parent == environment.home() / "latency"
    assert first.why.startswith("Latencies were measured now (there was no table of this model in ONNX Runtime on this")
    assert second.why == f"Latencies were measured on 2026-12-01: {second.file}."


def test_other_threads_images_groups_and_models_have_tables_of_their_own(model: nn.Module, measured: list[Any]) -> None:
    find(model)
    find(model, threads=2)
    find(model, batch=8)
    kept_or_measured(model, "onnxruntime", {"all": [*GROUPS["first"], *GROUPS["second"]]}, threads=1, example=X)
    kept_or_measured(model, "openvino", GROUPS, threads=1, example=X)
    assert len(measured) == len(list((environment.home() / "latency").iterdir())) == 5
    assert find(model).origin == "kept"


def test_of_a_busy_machine_it_is_said(model: nn.Module, measured: list[Any]) -> None:
    file = find(model).file
    wide = [GroupLatency(name=name, left_in_float_ms=0.5, interval_ms=(0.4, 0.8)) for name in GROUPS]
    file.write_text(table(model, "onnxruntime", GROUPS, groups=wide).model_dump_json())
    # Half of 0.4 ms, of 1 ms.
    assert "The machine was busy: what a group adds is known to 20 % of the model's latency only." in find(model).why


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "release": ({"environment": {"cpu": cpu_name(), "onnxruntime": "1.0.0"}}, "is of onnxruntime 1.0.0, this is "),
    "processor": ({"environment": versions() | {"cpu": "a 486"}}, "is of cpu a 486, this is "),
    "flags": ({"cpu_flags": ["mmx"]}, "is of another model or processor"),
    "model": ({"measured_of_sha256": "0" * 64}, "is of another model or processor"),
}


@for_each("change", CHANGES)
def test_it_is_measured_anew_where_it_may_be_another(change: str, model: nn.Module, measured: list[Any]) -> None:
    told, reason = CHANGES[change]
    file = find(model).file
    file.write_text(table(model, "onnxruntime", GROUPS, **told).model_dump_json())
    count = len(measured)
    again = find(model)
    assert (again.origin, len(measured)) == ("measured", count + 1)
    assert reason in again.why
    assert find(model).origin == "kept"


def test_one_that_can_not_be_read_is_measured_anew(model: nn.Module, measured: list[Any]) -> None:
    find(model).file.write_text("{")
    assert "(the one that was kept can't be read)" in find(model).why
    assert len(measured) == 2


def given(model: nn.Module, tmp_path: Path, runtime: str = "tensorrt", **told: Any) -> Path:
    file = tmp_path / "given.json"
    file.write_text(table(model, runtime, GROUPS, **told).model_dump_json())
    return file


def test_a_table_of_the_users_is_taken_for_tensorrt_too(model: nn.Module, measured: list[Any], tmp_path: Path) -> None:
    file = given(model, tmp_path, threads=3, measured_of_sha256=None, environment={})
    found = kept_or_measured(model, "tensorrt", GROUPS, given=file, example=X)
    assert (found.origin, found.file, measured) == ("given", file, [])
    assert found.why == f"Latencies are those of {file}."
    assert found.table.of_choice(["first"]) == 1.5


def test_without_one_tensorrt_is_refused(model: nn.Module) -> None:
    with pytest.raises(UnsupportedError, match="Give a table of what that measured: --latency-table FILE"):
        kept_or_measured(model, "tensorrt", GROUPS, example=X)


def test_a_table_of_the_users_that_does_not_fit_is_refused_with_the_reason(
    model: nn.Module, measured: list[Any], tmp_path: Path
) -> None:
    def refused(file: Path, **options: Any) -> str:
        with pytest.raises(WeightsError) as error:
            find(model, given=file, **options)
        assert str(file) in str(error.value)
        return str(error.value).replace(str(file), "FILE")

    one = GroupLatency(name="first", left_in_float_ms=0.5, interval_ms=(0.5, 0.5))
    other = one.model_copy(update={"name": "third"})
    wrong = given(model, tmp_path)
    assert refused(wrong) == "FILE is a latency table with runtime tensorrt, but onnxruntime is asked for."
    assert refused(given(model, tmp_path, "onnxruntime"), threads=2).endswith("with threads 1, but 2 is asked for.")
    assert refused(given(model, tmp_path, "onnxruntime"), batch=8).endswith("with batch 1, but 8 is asked for.")
    assert refused(given(model, tmp_path, "onnxruntime", groups=[one])) == (
        "FILE lists second not at all. This model's groups are: first, second."
    )
    second = one.model_copy(update={"name": "second"})
    assert "lists third though the model has no such group" in refused(
        given(model, tmp_path, "onnxruntime", groups=[one, second, other])
    )
    assert "lists first twice" in refused(given(model, tmp_path, "onnxruntime", groups=[one, second, one]))
    assert "was measured of another model (small): its layers, quantizers, formats or input size differ" in refused(
        given(model, tmp_path, "onnxruntime", measured_of_sha256="0" * 64)
    )
    hint = "Give a latency table, as docs/search.md shows one, or leave out --latency-table to have it measured."
    assert refused(tmp_path / "none.json") == f"No file at {tmp_path / 'none.json'}. {hint}".replace(
        str(tmp_path / "none.json"), "FILE"
    )
    broken = tmp_path / "broken.json"
    broken.write_text("no JSON")
    assert refused(broken).endswith(hint)
    whole = json.loads(given(model, tmp_path, "onnxruntime").read_text())
    broken.write_text(json.dumps(whole | {"float_ms": "fast"}))
    assert refused(broken).startswith("FILE: float_ms: ")
    assert measured == []
