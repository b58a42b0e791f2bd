"""The commands as a person runs them: exit codes, what is printed, what is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from qzoo.cli.main import app
from qzoo.schema.reading.catalog import Catalog
from tests.each import for_each

COMMANDS = [
    "benchmark", "calibrate", "check", "doctor", "evaluate", "explain", "export", "finetune", "lint", "list", "new",
    "optimize", "pull", "push", "recommend", "reproduce", "search", "sensitivity", "show", "solve", "validate",
    "verify", "zoo",
]  # fmt: skip
MINE = """\
version: 1
base: {source: qzoo, architecture: resnet8_digits}
dataset: digits
calibration: {images: 64}
published: {top1: 10.0, tolerance: 1.0, source: "a figure that is wrong"}
variants:
  int8: {input: {calibrator: {percentile: 99.9}}}
"""


def qzoo(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    return file


def test_what_was_made_without_images_is_always_said_to_be(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QZOO_RECIPES", str(tmp_path))
    result = qzoo("calibrate", "mine_int8", "--data", "synthetic", "--calib-images", "20")
    assert "17 ranges from 20 synthetic images, " in result.output
    file = tmp_path / "home" / "artifacts" / "data-free" / "mine_int8.ranges.safetensors"
    assert file.is_file()
    (row,) = json.loads(qzoo("list", "mine*", "--pretrained", "--json", "-").output)
    assert (row["name"], row["ranges"], row["ranges_at"]) == ("mine_int8", "synthetic", "at hand")
    assert "synthetic" in qzoo("list", "mine*", "--pretrained").output
    assert "Ranges at hand are made from synthetic images." in qzoo("explain", "mine_int8").output
    assert (
        "mine_int8, ranges from synthetic images: top-1" in qzoo("evaluate", "mine_int8", "--ranges", str(file)).output
    )
    missing = qzoo("evaluate", "mine_int8")
    assert missing.exit_code == 2
    assert "Nothing is released or calibrated for mine_int8 yet." in missing.output


@for_each("command", COMMANDS)
def test_help_has_examples(command: str) -> None:
    result = qzoo(command, "--help")
    assert result.exit_code == 0
    assert f"qzoo {command}" in result.output.split("Examples", 1)[1]


def test_help_and_version() -> None:
    assert all(command in qzoo("--help").output for command in COMMANDS)
    assert qzoo("--version").output.startswith("qzoo ")


def test_list_shows_every_recipe() -> None:
    output = qzoo("list").output
    assert all(name in output for name in Catalog.load().recipes)
    assert "Nothing matches 'yolo*'" in qzoo("list", "yolo*").output


def test_show() -> None:
    recipe = qzoo("show", "resnet50")
    assert "int8_entropy:" in recipe.output
    variant = qzoo("show", "resnet50_int8_p999").output
    assert "resnet50_int8_p999@1  digest" in variant
    assert "75.438 ±0.2" in variant
    assert json.loads(qzoo("show", "resnet50", "--json", "-").output)["dataset"] == "imagenet-1k"
    assert len(json.loads(qzoo("show", "resnet50_int8", "--json", "-").output)["digest"]) == 64


def test_explain_names_the_rule_file_and_line_of_every_quantizer() -> None:
    output = qzoo("explain", "resnet50_int8").output
    assert "resnet50_int8: 55 input, 54 weight quantizers; 0 layers in float." in output
    lines = [line.split() for line in output.splitlines() if line.startswith(("layer", "conv1", "avgpool", "fc"))]
    assert len(lines) == 109
    assert all(line[-1].partition(":")[0].endswith(".yaml") and line[-1].partition(":")[2].isdigit() for line in lines)
    avgpool = next(line for line in lines if line[0] == "avgpool")
    assert avgpool[2:5] == ["8bit", "per-tensor", "max"]
    facts = json.loads(qzoo("explain", "resnet50_int8", "--json", "-").output)
    assert len(facts["quantizers"]) == 109


def test_explain_lists_what_stays_in_float() -> None:
    output = qzoo("explain", "resnet50_mixed_example").output
    assert "54 input, 53 weight" in output
    assert "float: fc" in output
    assert "  16 add (residual)               layer1.0, layer1.1, layer1.2 and 13 more" in output
    operators = qzoo("explain", "timm/test_vit:int8_vit").output.partition("Operators in float")[2]
    assert {"layer_norm", "gelu", "add"} <= {line.split()[1] for line in operators.splitlines()[1:]}
    assert "sdpa" not in operators


def test_explain_counts_the_tutorials_sixteen_residual_quantizers() -> None:
    output = qzoo("explain", "resnet50_int8_residual").output
    assert sum("residual_quantizer" in line for line in output.splitlines()) == 16
    assert "resnet50_int8_residual: 55 input, 54 weight, 16 residual quantizers; 0 layers in float." in output
    assert "add (residual)" not in output
    facts = json.loads(qzoo("explain", "resnet50_int8_residual", "--json", "-").output)
    paths = [q["path"] for q in facts["quantizers"] if q["role"] == "residual"]
    assert len(paths) == 16
    assert paths[0] == "layer1.0.residual_quantizer"


def test_explain_of_a_base_lists_its_variants() -> None:
    result = qzoo("explain", "resnet8_digits")
    assert result.exit_code == 2
    assert "'resnet8_digits' is a float base; name one of its variants: resnet8_digits_int8" in result.output


def test_validate_binds_every_rule(mine: Path) -> None:
    assert "ok" in qzoo("validate", str(mine)).output
    bad = "  {}: {{rules: [{{match: {{name: '{}'}}, weight: {{bits: 4}}}}]}}\n"
    mine.write_text(MINE + bad.format("one", "conv9*") + bad.format("two", "liner"))
    result = qzoo("validate", "resnet8_digits", str(mine))
    assert result.exit_code == 2
    assert "ok resnet8_digits: 10 variants" in result.output
    assert "mine.yaml:8: variants.one.rules.0 of mine_one matches nothing: 'conv9*'. Nearest: 'conv1'" in result.output
    assert "mine.yaml:9: variants.two.rules.0 of mine_two matches nothing: 'liner'. Nearest: 'linear'" in result.output


def test_calibrate_then_evaluate(mine: Path, tmp_path: Path) -> None:
    made = qzoo("calibrate", f"{mine}:int8", "-o", str(tmp_path / "a.safetensors"))
    assert made.exit_code == 0, made.output
    assert "mine_int8: 17 ranges from 64 images" in made.output
    report = tmp_path / "e.json"
    shown = qzoo("evaluate", f"{mine}:int8", "--ranges", str(tmp_path / "a.safetensors"), "--json", str(report))
    assert "on 597 images" in shown.stdout
    written = json.loads(report.read_text())
    assert written["images"] == 597
    assert written["top1"] > 95


def test_calibrated_ranges_are_found_in_the_cache(mine: Path) -> None:
    missing = qzoo("evaluate", f"{mine}:int8")
    assert missing.exit_code == 2
    assert "released or calibrated for mine_int8 yet. This calibrates it, once: qzoo calibrate" in missing.output
    assert qzoo("calibrate", str(mine)).exit_code == 0
    assert "mine.yaml:int8: top-1 9" in qzoo("evaluate", f"{mine}:int8").output


def test_calibrating_says_where_shipped_ranges_come_first() -> None:
    result = qzoo("calibrate", "resnet8_digits_int8_max", "--calib-images", "16")
    assert "resnet8_digits_int8_max.ranges.safetensors comes first; for these say `--ranges" in result.output


def test_one_file_cannot_hold_several_variants(tmp_path: Path) -> None:
    result = qzoo("calibrate", "resnet8_digits", "-o", str(tmp_path / "all.safetensors"))
    assert result.exit_code == 2
    assert "is one file, but 7 variants are made. Give a folder with -o." in result.output


def test_reproduce_writes_the_report_and_exits_with_0() -> None:
    result = qzoo("reproduce", "--only", "int8", "--json", "-")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["schema"], report["name"], report["dataset"], report["images"]) == (
        1,
        "resnet8_digits",
        "digits",
        597,
    )
    assert report["complete"] is True
    assert [row["verdict"] for row in report["rows"]] == ["own", "own"]
    row = report["rows"][1]
    assert set(row) == {
        "variant", "stage", "method", "source", "top1", "top5", "ci95", "agreement_with_float", "lost", "gained",
        "mcnemar_p", "published", "verdict", "seconds",
    }  # fmt: skip
    assert row["ci95"][0] < row["top1"] < row["ci95"][1]
    assert (report["rows"][0]["mcnemar_p"], row["lost"], row["gained"], row["mcnemar_p"]) == (None, 0, 0, 1.0)
    assert set(row["published"]) >= {"top1", "tolerance", "source"}
    assert len(report["calibration"]["sample_sha256"]) == len(report["recipe_sha256"]) == 64
    assert {"torch", "cpu", "threads"} <= set(report["environment"])


def test_reproduce_exits_with_1_where_a_figure_is_off(mine: Path) -> None:
    result = qzoo("reproduce", str(mine))
    assert result.exit_code == 1
    assert "fail" in result.output


def test_fewer_images_are_partial_and_exit_with_0(mine: Path) -> None:
    result = qzoo("reproduce", str(mine), "--eval-images", "100")
    assert result.exit_code == 0
    assert "partial: fewer images than the published protocol" in result.output
    assert "digits test, 100 images" in result.output


def test_a_leak_is_shown(mine: Path) -> None:
    mine.write_text(MINE.replace("images: 64", "images: 64, split: test"))
    assert "the split that accuracy is measured on" in qzoo("reproduce", str(mine)).output
    mine.write_text(MINE.replace("images: 64", "images: 64, split: test, allow_leak: true"))
    assert "allow_leak: calibrated on images of the evaluation split" in qzoo("reproduce", str(mine)).output


def test_a_recipe_that_wants_too_many_images_says_so(mine: Path) -> None:
    mine.write_text(MINE.replace("images: 64", "images: 6400"))
    assert "calibrated on 1,200 images (all there are; the recipe wants more)" in qzoo("reproduce", str(mine)).output


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["reproduce", "resnet8_digit"], "Unknown model 'resnet8_digit'. Did you mean 'resnet8_digits'?"),
        (["reproduce", "--only", "int9"], "has no variant 'int9'. Did you mean 'int8'?"),
        (["reproduce", "--calib-images", "5000"], "5,000 images are asked for, but digits train holds 1,200."),
        (["reproduce", "--device", "cuda:77"], "Device 'cuda:77' can't be used here"),
        (["reproduce", "--device", "gpu"], "Device 'gpu' can't be used here"),
        (["reproduce", "resnet20_cifar10", "--data", "/nowhere"], "There is no folder /nowhere."),
        (["evaluate", "resnet8_digits_int8", "--ranges", "none.safetensors"], "No ranges file at none.safetensors."),
        (["explain", "timm/test_rsnet:int8"], "timm has no model 'test_rsnet'. Did you mean 'test_resnet"),
        (["explain", "timm/test_resnet"], "name one of its variants: timm/test_resnet:"),
        (["reproduce", "--json", "/proc/nowhere/out.json"], "/proc/nowhere"),
        (["calibrate", "resnet8_digits_int8", "-o", "ranges.st"], "is neither a folder nor a .safetensors file"),
        (["show", "missing.yaml"], "There is no recipe file missing.yaml."),
    ],
)
def test_known_mistakes_print_one_message_and_exit_with_2(arguments: list[str], text: str) -> None:
    result = qzoo(*arguments)
    assert result.exit_code == 2
    assert text in " ".join(result.output.split())
    assert "Traceback" not in result.output


def test_ctrl_c_leaves_no_report(tmp_path: Path) -> None:
    # A job in the background ignores interrupts, and so would its children; a person's shell starts it like this.
    default = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-m", "qzoo", "reproduce", "--json", str(tmp_path / "out.json")]
    process = subprocess.Popen(
        [sys.executable, "-c", default, *command], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    first = next(line for line in process.stderr if not line.startswith(("loading", "opening", "looking")))
    assert first.startswith("evaluating float")
    time.sleep(0.01)
    os.kill(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Interrupted." in errors
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
    assert output == ""
