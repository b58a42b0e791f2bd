from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import qzoo
from qzoo.cli.main import app
from qzoo.errors import UnknownNameError
from qzoo.schema.resolution.percentiles import UnlikelyPercentileWarning

GOOD = "base: {source: qzoo, architecture: resnet8_digits}\ndataset: digits\nvariants:\n  int8: {}\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def validated(*texts: str) -> list[dict[str, Any]]:
    files = [f"{'abcdef'[n]}.yaml" for n in range(len(texts))]
    for file, text in zip(files, texts, strict=True):
        Path(file).write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["validate", *files, "--json", "-"])
    found: list[dict[str, Any]] = json.loads(result.output)
    assert result.exit_code == (0 if all(one["ok"] for one in found) else 2)
    return found


def test_a_sound_file() -> None:
    assert validated(GOOD) == [{"file": "a.yaml", "ok": True, "variants": 1, "problems": []}]


def test_file_line_column_and_field_of_each_problem() -> None:
    first, second, third, fourth = validated(
        GOOD + "  b: {input: {bitz: 4}}\n",
        GOOD + "  b: {rules: [{match: {name: cnv1}, input: false}]}\n",
        GOOD + "\tb: {}\n",
        GOOD,
    )
    [key] = first["problems"]
    assert (key["file"], key["line"], key["column"], key["field"]) == ("a.yaml", 5, 15, "variants.b.input.bitz")
    assert key["message"].startswith("unknown key 'bitz'. Did you mean 'bits'?")
    [rule] = second["problems"]
    assert (rule["file"], rule["line"], rule["field"]) == ("b.yaml", 5, "variants.b.rules.0")
    assert "matches nothing: 'cnv1'. Nearest: 'conv1'" in rule["message"]
    assert second["variants"] == 2
    [tab] = third["problems"]
    assert (tab["file"], tab["line"], tab["column"], tab["field"]) == ("c.yaml", 5, 1, None)
    assert fourth["ok"]


def test_to_a_file() -> None:
    Path("a.yaml").write_text(GOOD)
    result = CliRunner().invoke(app, ["validate", "a.yaml", "--json", "made/found.json"])
    assert "ok a.yaml: 1 variants" in result.output
    assert json.loads(Path("made/found.json").read_text())[0]["ok"] is True


def test_all_mistakes_of_a_file_are_told_at_once() -> None:
    text = (
        "base: {source: qzoo, architecture: resnet8_digitz}\ndataset: digits\nvesion: 1\n"
        "calibration: {split: trian}\nvariants:\n  a: {from: c}\n  int8: {calibration: {split: tets}}\n"
    )
    [found] = validated(text)
    fields = {problem["field"]: (problem["line"], problem["message"]) for problem in found["problems"]}
    assert list(fields) == [
        "vesion", "calibration.split", "variants.a.from", "variants.int8.calibration.split", "base.architecture",
    ]  # fmt: skip
    assert fields["base.architecture"][0] == 1
    assert fields["calibration.split"] == (4, "digits has no split 'trian'. Did you mean 'train'? Known: test, train.")
    assert "Did you mean 'test'?" in fields["variants.int8.calibration.split"][1]


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        (
            "resnet8_digits}",
            "resnet8_digit}",
            "a.yaml:1: base.architecture: qzoo has no architecture 'resnet8",
        ),
        ("resnet8_digits}", "resnet8_digits, weights: v9}", "a.yaml:1: base.weights: 'resnet8_digits' has no weights"),
        ("qzoo, architecture: resnet8_digits", "timm, architecture: resnt18", "a.yaml:1: base.architecture: timm has "),
        (
            "qzoo, architecture: resnet8_digits",
            "torchvision, architecture: resnet18, weights: V9",
            "a.yaml:1: base.weights: resnet18 has no weights 'V9'. ",
        ),
        ("dataset: digits", "dataset: digitz", "a.yaml:2: dataset: Unknown dataset 'digitz'. Did you mean 'digits'?"),
    ],
)
def test_names_that_nobody_knows_have_a_place(old: str, new: str, place: str) -> None:
    [found] = validated(GOOD.replace(old, new))
    assert place in CliRunner().invoke(app, ["validate", "a.yaml"]).output
    [problem] = found["problems"]
    assert place.startswith(f"a.yaml:{problem['line']}: {problem['field']}: ")
    if problem["field"] != "dataset":
        with pytest.raises(UnknownNameError) as caught:
            qzoo.create("a.yaml:int8", pretrained="float")
        assert str(caught.value).startswith(place)
        assert place in CliRunner().invoke(app, ["explain", "a.yaml:int8"]).output
    else:
        assert place in CliRunner().invoke(app, ["calibrate", "a.yaml:int8"]).output


def test_a_percentile_below_half_is_warned_of() -> None:
    text = GOOD.replace("int8: {}", "int8: {input: {calibrator: {percentile: 0.9999}}}")
    [found] = validated(text)
    assert found["ok"]
    [problem] = found["problems"]
    assert problem["level"] == "warning"
    assert (problem["line"], problem["field"]) == (4, "variants.int8.input")
    assert problem["message"].endswith("Did you mean 99.99? It is in percent.")
    output = CliRunner().invoke(app, ["validate", "a.yaml", "--schema-only"]).output
    assert "warning a.yaml:4: variants.int8.input: percentile 0.9999 clips 99.0001 % of all values" in output
    with pytest.warns(UnlikelyPercentileWarning, match="a.yaml:4: variants.int8.input: percentile 0.9999 clips"):
        qzoo.create("a.yaml:int8")
    assert validated(text.replace("0.9999", "50"))[0]["problems"] == []


def test_a_missing_file_is_no_near_match() -> None:
    Path("perc.yaml").write_text(GOOD)
    output = CliRunner().invoke(app, ["validate", "nope.yaml"]).output
    assert "There is no recipe file nope.yaml. `qzoo list` shows" in output


@pytest.mark.parametrize(
    ("text", "held"), [("", "nothing"), ("hello\n", "a text"), ("- a\n", "a list"), ("7\n", "a number")]
)
def test_a_file_that_is_no_mapping(text: str, held: str) -> None:
    [found] = validated(text)
    [problem] = found["problems"]
    assert problem["message"].startswith(f"a.yaml holds {held}; a recipe is a mapping")


def test_a_variant_set_and_a_scheme_have_no_model_to_fit() -> None:
    for folder, text in (("variants", "variants: {a: {}, b: {}}"), ("schemes", "rules: [{match: {type: weighted}}]")):
        Path(folder).mkdir()
        Path(folder, "mine.yaml").write_text(text)
    result = CliRunner().invoke(app, ["validate", "variants/mine.yaml", "schemes/mine.yaml"])
    assert result.exit_code == 2
    assert "ok variants/mine.yaml: 2 variants" in result.output
    assert "schemes/mine.yaml:1: rules.0: a rule needs one of `weight`, `input`," in result.output
