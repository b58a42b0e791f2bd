"""`qzoo export` and `qzoo lint` as a person runs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper
from typer.testing import CliRunner, Result

from qzoo.cli.main import app
from qzoo.tasks.measuring.machine import cpu_flags, has_dot_products

pytestmark = pytest.mark.runtimes

MINE = """\
version: 1
base: {source: qzoo, architecture: resnet8_digits}
dataset: digits
calibration: {images: 128}
variants:
  ort: {scheme: int8_ort}
"""


def qzoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def plain(result: Result) -> str:
    return " ".join(result.output.split())


def test_a_fitting_variant_is_written_checked_and_compared(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(MINE)
    name, file = f"{tmp_path / 'mine.yaml'}:ort", tmp_path / "ort.onnx"
    ranges = tmp_path / "ort.ranges.safetensors"
    assert qzoo("calibrate", name, "-o", str(ranges)).exit_code == 0
    made = ("--ranges", str(ranges), "-o", str(file), "--images", "64", "--json", str(tmp_path / "a.json"))
    result = qzoo("export", name, "--runtime", "onnxruntime", "--reduce-range", *made)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "a.json").read_text())
    assert f"{file}: mine_ort_for_onnxruntime for ONNX Runtime, {report['bytes'] / 1e6:.2f} MB" in plain(result)
    assert "8 of 8 layers quantized" in plain(result)
    assert "Compared on 64 images: ONNX Runtime predicts the same for" in plain(result)
    assert "fed rightly, within 1 step" in plain(result)
    assert report["parity"]["agreement_plain"] >= 98
    assert [one for one in report["findings"] if one["level"] == "error"] == []
    assert {"onnx", "onnxruntime", "openvino", "torch"} <= report["environment"].keys()
    checked = qzoo("lint", str(file), "--runtime", "onnxruntime")
    assert checked.exit_code == 0
    assert f"{file}: 8 of 8 layers quantized, 0 errors" in plain(checked)
    other = qzoo("lint", str(file), "-r", "tensorrt", "--json", str(tmp_path / "found.json"))
    assert other.exit_code == 1
    assert {"zero-point", "residual"} <= {one["rule"] for one in json.loads((tmp_path / "found.json").read_text())}


def test_a_scheme_that_does_not_fit_is_named_with_one_that_does(tmp_path: Path) -> None:
    result = qzoo("export", "resnet8_digits_int8", "-r", "onnxruntime", "-o", str(tmp_path / "a.onnx"), "--images", "0")
    assert result.exit_code == 1
    assert "error signed: layer1.conv1.input_quantizer/QuantizeLinear: it is signed, after Relu" in plain(result)
    assert "resnet8_digits_int8 does not fit ONNX Runtime. A variant of scheme int8_ort does" in plain(result)
    assert "--adapt derives one from the same ranges." in plain(result)
    assert "note: not compared with the model: no images were asked for" in plain(result)
    assert (tmp_path / "a.onnx").is_file()


@pytest.mark.parametrize(("dynamic", "shape"), [("size", ["batch", 1, "height", "width"]), ("none", [1, 1, 8, 8])])
def test_sizes_are_fixed_or_not(dynamic: str, shape: list[Any], tmp_path: Path) -> None:
    file = str(tmp_path / "a.onnx")
    result = qzoo("export", "resnet8_digits_int8", "-r", "tensorrt", "--dynamic", dynamic, "-o", file, "--images", "3")
    assert result.exit_code == 0, result.output
    dims = onnx.load(file).graph.input[0].type.tensor_type.shape.dim
    assert [one.dim_param or one.dim_value for one in dims] == shape


@pytest.mark.parametrize("how", ["--adapt", "--reduce-range"])
def test_it_can_be_adapted(how: str, tmp_path: Path) -> None:
    made = ("-o", str(tmp_path / "a.onnx"), "--json", str(tmp_path / "a.json"))
    result = qzoo("export", "resnet8_digits_int8", "-r", "onnxruntime", how, *made)
    report = json.loads((tmp_path / "a.json").read_text())
    # On a CPU without VNNI, 8 bits overflow, which is told: with the reason, and the flag that mends it.
    overflows = report["fault"] is not None
    assert result.exit_code == int(overflows), result.output
    assert not (overflows and how == "--reduce-range")
    assert not (overflows and has_dot_products(cpu_flags()))
    for words in ("overflow 16 bits on this CPU, which has no VNNI", "Export with --reduce-range"):
        assert (words in plain(result)) is overflows
    assert "resnet8_digits_int8_for_onnxruntime for ONNX Runtime" in plain(result)
    assert {one["rule"] for one in report["findings"]} == {"float-operator", "saturation"} - (
        {"saturation"} if how == "--reduce-range" else set()
    )


def test_optimizations_that_change_predictions_are_told(tmp_path: Path) -> None:
    # ONNX Runtime 1.32 computes something else of FP8 graphs once it optimizes them.
    file, report = tmp_path / "a.onnx", tmp_path / "a.json"
    result = qzoo("export", "resnet8_digits_fp8", "-r", "onnxruntime", "-o", str(file), "--json", str(report))
    parity = json.loads(report.read_text())["parity"]
    assert parity["agreement_plain"] == 100
    changed = f"ONNX Runtime's own optimizations change {100 - parity['agreement']:.1f} % of the predictions"
    assert (changed in plain(result)) is (result.exit_code == 1) is (parity["agreement"] < 90)


def test_names_of_a_file_are_no_markup(tmp_path: Path) -> None:
    name = "[red]\x1b[2Jconv"
    x, y = (helper.make_tensor_value_info(one, TensorProto.FLOAT, [1, 1, 4, 4]) for one in "xy")
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    graph = helper.make_graph([helper.make_node("Conv", ["x", "w"], ["y"], name=name)], "g", [x], [y], [weight])
    onnx.save(helper.make_model(graph), tmp_path / "a.onnx")
    result = qzoo("lint", str(tmp_path / "a.onnx"), "-r", "openvino")
    assert result.exit_code == 0
    assert r"float-layer: [red]\x1b[2Jconv: both inputs are float" in plain(result)
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet8_digits",), "'resnet8_digits' is a float base; name one of its variants: resnet8_digits_int8, "),
        (("resnet8_digits_int8", "-r", "onnx"), "Unknown runtime 'onnx'. Did you mean 'onnxruntime'?"),
    ],
)
def test_a_mistake_is_told_in_words(
    arguments: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    runtime = () if "-r" in arguments else ("-r", "openvino")
    result = qzoo("export", *arguments, *runtime)
    assert result.exit_code == 2
    assert message in plain(result)
    assert not list(tmp_path.glob("*.onnx"))


def test_without_the_packages_the_command_that_installs_them_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qzoo.runtimes.runtime as packages

    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named '{name}'")

    monkeypatch.setattr(packages, "import_module", missing)
    result = qzoo("export", "resnet8_digits_int8", "-r", "openvino", "-o", str(tmp_path / "a.onnx"))
    assert result.exit_code == 2
    assert "This needs onnxscript, which can't be imported here" in plain(result)
    assert "pip install 'qzoo[export]'" in plain(result)
    assert "pip install 'qzoo[export]'" in plain(qzoo("lint", "a.onnx", "-r", "openvino"))


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_the_exported_variant_can_be_evaluated_in_its_runtime(runtime: str) -> None:
    facts = [
        json.loads(qzoo("evaluate", "resnet8_digits_int8", *more, "--json", "-").stdout)
        for more in ((), ("--runtime", runtime))
    ]
    assert abs(facts[0]["top1"] - facts[1]["top1"]) <= 0.4
    assert facts[1]["images"] == 597
    assert [one["runtime"] for one in facts] == [None, runtime]
    assert f"resnet8_digits_int8 in {runtime}: top-1 " in plain(qzoo("evaluate", "resnet8_digits_int8", "-r", runtime))


def test_it_is_evaluated_and_timed_with_weights_of_seven_bits() -> None:
    of_seven = ("resnet8_digits_int8", "-r", "onnxruntime", "--reduce-range")
    result = qzoo("evaluate", *of_seven, "--eval-images", "100")
    assert result.exit_code == 0, result.output
    assert "resnet8_digits_int8 in onnxruntime with weights of 7 bits: top-1 " in plain(result)
    timed = qzoo("benchmark", *of_seven, "--batch", "1", "--threads", "1")
    assert "resnet8_digits_int8_for_onnxruntime in onnxruntime, 1 threads" in plain(timed)
    refused = qzoo("evaluate", "resnet8_digits_int8", "--reduce-range")
    assert refused.exit_code == 2
    assert "name one with --runtime" in plain(refused)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet8_digits",), "'resnet8_digits' is the float base; a runtime gets a variant. Name one: int8, "),
        (
            ("resnet8_digits_int8", "--device", "cuda"),
            "--runtime onnxruntime decides itself what it runs on. Leave out",
        ),
        (("resnet8_digits_int8", "--receipt", "a"), "--receipt holds the predictions of the variant itself."),
    ],
)
def test_what_a_runtime_can_not_evaluate_is_told(arguments: tuple[str, ...], message: str) -> None:
    result = qzoo("evaluate", *arguments, "--runtime", "onnxruntime")
    assert result.exit_code == 2
    assert message in plain(result)


def test_a_benchmark_shows_float_beside_quantized(tmp_path: Path) -> None:
    options = ("--batch", "2", "--threads", "1", "--json", str(tmp_path / "a.json"))
    result = qzoo("benchmark", "resnet8_digits_int8", "-r", "onnxruntime", *options)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "a.json").read_text())
    assert [one["batch"] for one in report["timings"]] == [2]
    assert "resnet8_digits_int8 in onnxruntime, 1 threads" in plain(result)
    share = f"{100 * report['integer_macs']:.1f} % of the multiply-accumulates"
    assert f"On integers: {share}, 0 of 3 additions" in plain(result)
    assert "in float: layer1/Add (" in plain(result)
    (row,) = json.loads(qzoo("list", "resnet8_digits_int8", "--json", "-").output)
    assert [one["ms"] for one in row["latency"]] == [report["timings"][0]["quantized_ms"][1]]
    assert "`qzoo list` shows it." in plain(result)
