"""What is known here, gathered: every figure is in a file, and read from it by other means it is the same."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

import qzoo
from qzoo import environment
from qzoo.commands import recommend as gathering
from qzoo.errors import UnknownNameError
from qzoo.results.recommendation import KnownFigure, Recommendation
from qzoo.results.search import SearchCandidate, SearchGroup, SearchPoint, SearchReport
from qzoo.tasks.measuring.machine import cpu_name
from qzoo.zoo.name_lookup import find
from tests.each import for_each

NAME = "resnet8_digits_int8"
WITH_RECEIPTS = ["resnet8_digits", "resnet20_cifar10", "tf_efficientnet_lite0"]


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with VNNI, whatever this one has."""
    processor(monkeypatch, "avx2", "avx512_vnni")


def processor(monkeypatch: pytest.MonkeyPatch, *flags: str) -> None:
    monkeypatch.setattr(gathering, "cpu_flags", lambda: list(flags))


def kept(name: str) -> Path:
    folder = environment.artifacts()
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def value(found: Recommendation, quantity: str) -> float | None:
    return next((one.value for one in found.figures if one.quantity == quantity), None)


def counted(path: Path) -> tuple[float, float]:
    """Returns both accuracies of a receipt, counted from its predictions and labels."""
    with safe_open(path, "pt") as file:
        tops = [file.get_tensor(f"{model}.top")[:, 0] for model in ("float", "quantized")]
        labels = file.get_tensor("labels")
    before, after = (100 * (top.long() == labels.long()).to(torch.float64).mean().item() for top in tops)
    return before, after


@for_each("variant", ["int8", "int8_max", "fp8", "w4a8", "w4a4"])
def test_figures_are_those_of_the_receipt(variant: str) -> None:
    found = qzoo.recommend(f"resnet8_digits_{variant}", "onnxruntime")
    path = environment.packaged(f"digits/artifacts/resnet8_digits_{variant}.receipt.safetensors")
    before, after = counted(path)
    if variant == "fp8":
        assert (found.variant, found.figures) == (None, [])
        return
    assert value(found, "float top-1") == pytest.approx(before, abs=1e-3)
    assert value(found, "top-1") == pytest.approx(after, abs=1e-3)
    assert found.drop == pytest.approx(before - after, abs=1e-3)
    (source,) = {one.source for one in found.figures if one.quantity in ("drop", "top-1", "float top-1")}
    assert source.startswith(f"receipt {path.name}: 597 images of digits test, 20")


@for_each("base", WITH_RECEIPTS)
def test_every_figure_has_a_source_of_its_own(base: str) -> None:
    for target in ("onnxruntime", "tensorrt"):
        for one in qzoo.recommend(base, target).figures:
            assert one.source.startswith(("receipt ", "published: ", "an earlier run of ours: "))


def test_published_figures_are_those_of_the_recipe() -> None:
    found = qzoo.recommend("resnet18", "onnxruntime")
    published = qzoo.recipe("resnet18").published
    expected = [(one.top1, f"published: {one.source}") for one in published if one.top1 is not None]
    assert [(one.value, one.source) for one in found.figures if one.quantity == "published float top-1"] == expected
    assert expected
    assert found.drop is None  # nobody has measured one here


def test_of_what_nobody_measured_there_is_no_figure() -> None:
    found = qzoo.recommend("timm/test_resnet", "tensorrt", max_drop=0.5)
    assert found.variant == "timm.test_resnet_int8_residual"
    assert found.figures == []
    commands = [str(one.command) for one in found.unknown]
    assert commands[0] == "qzoo calibrate timm/test_resnet:int8_residual --data PATH"
    assert commands[1].startswith("qzoo evaluate timm/test_resnet:int8_residual --data PATH --receipt ")


def test_the_issues_example(monkeypatch: pytest.MonkeyPatch) -> None:
    processor(monkeypatch, "avx2", "avx512f")
    found = qzoo.recommend("resnet20_cifar10", "onnxruntime", max_drop=0.5)
    assert (found.variant, found.advice.flags) == ("resnet20_cifar10_int8", ["--reduce-range"])
    assert "7-bit weights" in found.advice.reasons[-1]
    processor(monkeypatch, "avx2", "avx_vnni")
    assert qzoo.recommend("resnet20_cifar10", "onnxruntime", max_drop=0.5).advice.flags == ["--adapt"]
    found = qzoo.recommend("tf_efficientnet_lite0", "openvino")
    assert (found.variant, found.advice.flags) == ("tf_efficientnet_lite0_int8_ort", [])
    found = qzoo.recommend("tf_efficientnet_lite0", "tensorrt")
    assert (found.variant, found.advice.flags) == ("tf_efficientnet_lite0_int8_residual", [])


def test_max_drop_leaves_out_what_a_receipt_says() -> None:
    before, after = counted(environment.packaged("digits/artifacts/resnet8_digits_w2a2_opt.receipt.safetensors"))
    assert before - after > 0.5
    found = qzoo.recommend("resnet8_digits_w2a2_opt", "onnxruntime", max_drop=0.5)
    assert found.variant is None
    assert f"it lost {before - after:.2f} points" in found.left_out[0].reason
    assert qzoo.recommend("resnet8_digits_w2a2_opt", "onnxruntime", max_drop=1).variant == "resnet8_digits_w2a2_opt"


def test_receipts_of_ones_own_folder_count_and_others_and_damaged_ones_do_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_RECIPES", str(tmp_path))
    shutil.copy(environment.packaged("digits/resnet8_digits.yaml"), tmp_path / "mine.yaml")
    shutil.copy(environment.packaged("digits/resnet8_digits.safetensors"), tmp_path)
    shipped = environment.packaged("digits/artifacts/resnet8_digits_w2a2_opt.receipt.safetensors")
    before, after = counted(shipped)
    own = kept("mine_w2a2_opt.receipt.safetensors")
    assert qzoo.recommend("mine_w2a2_opt", "onnxruntime").drop is None
    shutil.copy(shipped, own)
    assert qzoo.recommend("mine_w2a2_opt", "onnxruntime").drop == pytest.approx(before - after, abs=1e-3)
    own.write_bytes(shipped.read_bytes()[:1000])
    assert qzoo.recommend("mine_w2a2_opt", "onnxruntime").drop is None
    shutil.copy(environment.packaged("digits/artifacts/resnet8_digits_int8.receipt.safetensors"), own)
    assert qzoo.recommend("mine_w2a2_opt", "onnxruntime").drop is None


def benchmark_report(**changes: Any) -> str:
    report: dict[str, Any] = {
        "name": NAME, "runtime": "onnxruntime", "threads": 2, "integer_macs": 1.0, "integer_additions": [3, 3],
        "timings": [
            {"batch": 8, "float_ms": [5, 6, 7], "quantized_ms": [3, 4, 5]},
            {"batch": 1, "float_ms": [1.1, 1.25, 1.4], "quantized_ms": [0.4, 0.5, 0.6]},
        ],
        "float_operators": [], "cpu_flags": [], "environment": {"cpu": cpu_name()}, "date": "2026-11-30",
        "recipe_sha256": find(NAME).resolved.digest,
    }  # fmt: skip
    return json.dumps(report | changes)


def test_latencies_are_those_that_were_measured_on_this_machine() -> None:
    file = kept(f"{NAME}.onnxruntime.benchmark.json")
    file.write_text(benchmark_report())
    found = qzoo.recommend(NAME, "onnxruntime")
    assert (value(found, "latency"), value(found, "float latency")) == (0.5, 1.25)
    source = f"measured on this machine, 2 threads, 2026-11-30: {file.name}"
    assert {one.source for one in found.figures if "latency" in one.quantity} == {source}
    assert value(qzoo.recommend(NAME, "openvino"), "latency") is None
    for changes in (
        {"environment": {"cpu": "another"}},
        {"recipe_sha256": "0" * 64},
        {"runtime": "openvino"},
        {"x": 1},
    ):
        file.write_text(benchmark_report(**changes))
        assert value(qzoo.recommend(NAME, "onnxruntime"), "latency") is None


def search_report(**changes: Any) -> SearchReport:
    group = SearchGroup(
        name="conv1", layers=["conv1"], weights=1, macs=1, rules=[], unchanged=["int8"],
        loss={"float": 0.0, "int8": 0.1}, cost={"bits": {"float": 32.0, "int8": 8.0}},
    )  # fmt: skip
    points = [
        SearchPoint(
            name="solution",
            choice={"conv1": "int8"},
            predicted_loss=0.1,
            predicted_deviation=0.1,
            cost={},
            drop=0.4,
            latency_ms=0.25,
        ),
        SearchPoint(
            name="uniform float",
            choice={"conv1": "float"},
            predicted_loss=0.0,
            predicted_deviation=0.0,
            cost={},
            drop=0.0,
        ),
        SearchPoint(
            name="never measured", choice={"conv1": "int8"}, predicted_loss=0.0, predicted_deviation=0.0, cost={}
        ),
    ]
    facts: dict[str, Any] = {
        "name": "resnet18_int8", "dataset": "imagenet-1k", "split": "val", "target": "onnxruntime",
        "budget": {"max_drop": 0.5}, "minimize": "latency", "candidates": [SearchCandidate(name="int8", changes={})],
        "groups": [group], "rest": {}, "scored_images": 8, "images": 1300, "float_top1": 70.0, "points": points,
        "environment": {"cpu": cpu_name()}, "seconds": 1.0,
    }  # fmt: skip
    return SearchReport.model_validate(facts | changes)


def test_a_point_that_a_search_measured_is_recommended_where_it_meets_the_budget() -> None:
    file = kept("resnet18_int8.search.json")
    file.write_text(search_report().to_json())
    found = qzoo.recommend("resnet18", "onnxruntime", max_drop=0.5)
    assert (found.variant, found.point, found.drop, value(found, "latency")) == ("resnet18_int8", "solution", 0.4, 0.25)
    source = f"search {file.name}: 1,300 images of imagenet-1k val, {cpu_name()}"
    assert {one.source for one in found.figures} == {source}
    assert qzoo.recommend("resnet18", "onnxruntime", max_drop=0.1).point == "uniform float"
    assert qzoo.recommend("resnet18", "openvino", max_drop=0.5).point is None
    assert qzoo.recommend("resnet18", "onnxruntime").point is None
    for changes in ({"target": None}, {"recipe_sha256": "0" * 64}, {"environment": {}}):
        file.write_text(search_report(**changes).to_json())
        found = qzoo.recommend("resnet18", "onnxruntime", max_drop=0.5)
        assert value(found, "latency") is None
        assert (found.point is None) == (changes != {"environment": {}})
    for damaged in ("{", "[]", ""):
        file.write_text(damaged)
        assert qzoo.recommend("resnet18", "onnxruntime", max_drop=0.5).point is None
    file.write_bytes(b"\xff\xfe")
    assert qzoo.recommend("resnet18", "onnxruntime", max_drop=0.5).point is None


def test_unknown_targets_and_names_are_told_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown runtime 'onnxruntme'. Did you mean 'onnxruntime'\?"):
        qzoo.recommend("resnet18", "onnxruntme")
    with pytest.raises(UnknownNameError, match=r"Unknown model 'resnet8_digit'. Did you mean 'resnet8_digits'\?"):
        qzoo.recommend("resnet8_digit", "onnxruntime")


def test_the_default_target_runs_here() -> None:
    assert qzoo.recommend("resnet8_digits").target == gathering.runtimes_here()[0].name
    assert all(one.missing() is None for one in gathering.runtimes_here())


def test_figures_in_the_json_are_those_of_the_result() -> None:
    found = qzoo.recommend("resnet8_digits", "onnxruntime")
    written = json.loads(found.to_json())
    assert written["schema"] == 1
    assert [KnownFigure.model_validate(one) for one in written["figures"]] == found.figures
