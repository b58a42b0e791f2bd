"""`--html`: every command that measures writes its result as a page."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from qzoo.cli.main import app
from tests.report.html.reading import read

EVALUATE = ("--eval-images", "40")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def test_reproduce(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.html"
    words = ("reproduce", "resnet8_digits", "--only", "int8,w4a4", "--html", str(target))
    result = run(*words)
    assert result.exit_code == 0, result.output
    assert f"report: {target}" in result.stderr
    page = read(target.read_text())
    (title,) = page.all("h1")
    assert title.text == "resnet8_digits@1"
    assert [one.text for one in page.all("h2")] == ["Accuracy", "Noise", "Ranges", "Flipped images", "Rerun it"]
    assert page.all("code")[-2].text == " ".join(["qzoo", *words])
    assert "variants:" in page.all("code")[-1].text
    assert "Values of 9 tensors on 512 images" in target.read_text()
    assert "Noise along the network, on 32 images" in target.read_text()
    assert page.all("img")


def test_no_images(tmp_path: Path) -> None:
    target = tmp_path / "a.html"
    result = run("reproduce", "--only", "w4a4", "--html", str(target), "--no-images")
    assert result.exit_code == 0, result.output
    page = read(target.read_text())
    assert "says something else than float" in page.text
    assert not page.all("img")


@pytest.mark.parametrize(
    ("words", "headings"),
    [
        (("sensitivity", "resnet8_digits_w4a4", *EVALUATE), ["Layers", "What to leave in float", "Noise", "Ranges"]),
        (("calibrate", "resnet8_digits_int8"), ["Noise", "Ranges", "Files"]),
        (("check", "resnet8_digits_int8"), ["Ranges found here", "Noise", "Ranges"]),
        (("verify", "resnet8_digits_int8", "--images", "40"), ["Predictions", "The receipt", "Noise", "Ranges"]),
    ],
)
def test_of_other_commands(words: tuple[str, ...], headings: list[str], tmp_path: Path) -> None:
    target = tmp_path / "a.html"
    result = run(*words, "--html", str(target))
    assert result.exit_code == 0, result.output
    page = read(target.read_text())
    assert [one.text for one in page.all("h2")] == [*headings, "Rerun it"]
    facts = [one.text for one in page.all("dt")]
    assert {"torch", "cpu", "device"} <= set(facts)
    assert page.all("code")[-2].text.startswith(f"qzoo {words[0]} {words[1]}")


def test_json_alone_stays_json(tmp_path: Path) -> None:
    import json

    target = tmp_path / "a.html"
    result = run("check", "resnet8_digits_int8", "--json", "-", "--html", str(target))
    assert json.loads(result.stdout)["verdict"] == "fine"
    assert target.is_file()


def test_a_page_that_can_t_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    result = run("check", "resnet8_digits_int8", "--html", str(tmp_path))
    assert result.exit_code == 2
    assert f"--html {tmp_path} is a folder, not a file" in result.stderr
    assert "checking" not in result.stderr


@pytest.mark.runtimes
def test_of_runtimes(tmp_path: Path) -> None:
    export, timed = tmp_path / "export.html", tmp_path / "benchmark.html"
    name, runtime = "resnet8_digits_int8", ("--runtime", "onnxruntime")
    result = run("export", name, *runtime, "-o", str(tmp_path / "a.onnx"), "--adapt", "--html", str(export))
    assert result.exit_code in (0, 1), result.output
    assert [one.text for one in read(export.read_text()).all("h2")][:2] == ["Findings", "Parity"]
    result = run("benchmark", name, *runtime, "--batch", "1", "--html", str(timed))
    assert result.exit_code == 0, result.output
    assert [one.text for one in read(timed.read_text()).all("h2")] == ["Latency", "In float", "Rerun it"]


@pytest.mark.slow
def test_of_what_changes_weights(tmp_path: Path) -> None:
    optimized, trained = tmp_path / "optimize.html", tmp_path / "finetune.html"
    result = run("optimize", "resnet8_digits_w2a2_opt", "-o", str(tmp_path / "made"), "--html", str(optimized))
    assert result.exit_code == 0, result.output
    assert read(optimized.read_text()).all("h2")[0].text == "Steps"
    result = run("finetune", "resnet8_digits_w4a4", "--epochs", "1", "--lr", "0.001", "-o", str(tmp_path / "run"),
                 *EVALUATE, "--html", str(trained))  # fmt: skip
    assert result.exit_code == 0, result.output
    assert [one.text for one in read(trained.read_text()).all("h2")][:2] == ["Training", "Noise"]
