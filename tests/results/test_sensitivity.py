from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from qzoo.results.sensitivity import Deviation, Excluded, LayerSensitivity, SensitivityReport
from qzoo.schema.rule import Rule

FIELDS = {
    "schema", "name", "version", "dataset", "split", "images", "complete", "float_top1", "quantized", "layers",
    "mended", "calibration", "recipe_sha256", "environment", "seconds", "rules",
}  # fmt: skip


def layer(name: str, sqnr_db: float | None, rank: int) -> LayerSensitivity:
    same = Deviation(sqnr_db=sqnr_db, top1=76.0, flips=1)
    rule = {"match": {"name": name}, "input": False}
    return LayerSensitivity(
        name=name, alone=same, left_out=same, drop=0.5, gain=0.0, rank_by_sqnr=rank, rank_by_drop=rank, rule=rule
    )


def example() -> SensitivityReport:
    whole = Deviation(sqnr_db=9.0, top1=70.0, flips=31)
    return SensitivityReport(
        name="net_int8", images=400, float_top1=76.0, quantized=whole,
        layers=[layer("block.0.conv", 10.0, 1), layer("block.1.conv", None, 2)],
        mended=[Excluded(layers=["block.0.conv"], deviation=whole, gain=5.0)], seconds=1.0,
    )  # fmt: skip


def test_the_json_has_these_fields() -> None:
    content = json.loads(example().to_json())
    assert set(content) == FIELDS
    assert content["schema"] == 1
    assert set(content["layers"][0]) == {
        "name", "alone", "left_out", "drop", "gain", "rank_by_sqnr", "rank_by_drop", "rule",
    }  # fmt: skip
    assert set(content["quantized"]) == {"sqnr_db", "top1", "flips"}
    assert set(content["mended"][0]) == {"layers", "deviation", "gain"}
    assert content["layers"][-1]["alone"]["sqnr_db"] is None


def test_the_json_is_read_back() -> None:
    content = json.loads(example().to_json())
    del content["schema"], content["rules"]
    assert SensitivityReport.model_validate(content) == example()


def test_rules_are_those_of_the_worst_and_valid() -> None:
    (rule,) = example().rules()
    assert rule == {"match": {"name": "block.0.conv"}, "input": False, "why": "sensitivity: SQNR 10.0 dB alone"}
    assert Rule.model_validate(rule).input is False
    assert example().rules_yaml() == (
        "- {match: {name: block.0.conv}, input: false, why: 'sensitivity: SQNR 10.0 dB alone'}\n"
    )


def test_operands_of_one_operator_have_one_rule() -> None:
    report = example()
    same = [one.model_copy(update={"rule": {"match": {"name": "block"}, "residual": "none"}}) for one in report.layers]
    worst = report.mended[0].model_copy(update={"layers": [one.name for one in same]})
    (rule,) = report.model_copy(update={"layers": same, "mended": [worst]}).rules()
    assert rule["why"] == "sensitivity: SQNR 10.0 dB alone"
    unnamed = [one.model_copy(update={"rule": None}) for one in report.layers]
    assert report.model_copy(update={"layers": unnamed}).rules_yaml() == ""


def test_infinity_is_no_figure() -> None:
    with pytest.raises(ValidationError):
        Deviation(sqnr_db=float("inf"), top1=None, flips=0)
