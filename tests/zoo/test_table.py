"""`qzoo.zoo_table`: rows of what is known, and of nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qzoo
from qzoo import environment
from qzoo.results.benchmark import BenchmarkReport, Timing
from qzoo.results.facts import Figure
from qzoo.results.zoo import Measured, ZooRow
from qzoo.weights.receipt import load_receipt, save_receipt
from qzoo.zoo.facts import recipe_files
from qzoo.zoo.latency import keep_report
from qzoo.zoo.name_lookup import find
from tests.each import for_each

RECEIPT = "resnet8_digits_int8.receipt.safetensors"
MINE = """
base: {source: qzoo, architecture: resnet8_digits, weights: v1}
dataset: digits
variants:
  int8: {published: {top1: 98.0, source: "a paper of 2020"}}
  int8_ort: {scheme: int8_ort}
"""


def row(name: str) -> ZooRow:
    (found,) = qzoo.zoo_table(name)
    return found


def made(**fields: object) -> ZooRow:
    """A row with little in it."""
    little = {
        "name": "a_int8", "base": "a", "variant": "int8", "version": 1, "dataset": "digits", "architecture": "qzoo/a",
        "published": [], "published_float": [], "targets": [], "latency": [],
    }  # fmt: skip
    return ZooRow.model_validate(little | fields)


def measured(top1: float, *, complete: bool = True) -> Measured:
    return Measured(
        float_top1=90.0, top1=top1, images=10, complete=complete, date="2026-12-01", cpu="x", place="shipped", file="f"
    )


def published(top1: float | None, source: str = "a paper of 2020", *, own: bool = False) -> Figure:
    return Figure(text=f"{top1}", top1=top1, source=source, own=own)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "mine.yaml").write_text(MINE)
    monkeypatch.setenv("QZOO_RECIPES", str(folder))
    return folder


def test_every_name_has_a_row() -> None:
    assert sorted(one.name for one in qzoo.zoo_table()) == qzoo.list_models()


def test_figures_are_those_of_the_receipt() -> None:
    found = row("resnet8_digits_w4a8")
    receipt = load_receipt(environment.packaged("digits/artifacts/resnet8_digits_w4a8.receipt.safetensors"))
    assert found.measured is not None
    assert (found.top1, found.measured.float_top1) == (receipt.info.top1["quantized"], receipt.info.top1["float"])
    assert found.drop == receipt.info.top1["float"] - receipt.info.top1["quantized"]
    assert (found.measured.images, found.measured.complete, found.standing) == (597, True, "measured")
    assert (found.ranges, found.ranges_at) == ("images", "shipped")
    assert row("resnet8_digits").top1 == receipt.info.top1["float"]


def test_what_was_measured_goes_before_what_was_published_and_a_part_comes_last() -> None:
    claims = {"published": [published(88.0)], "published_float": [published(89.5)]}
    whole = made(measured=measured(89.0), **claims)
    assert (whole.top1, whole.standing, whole.drop) == (89.0, "measured", 1.0)
    part = made(measured=measured(85.0, complete=False), **claims)
    assert (part.top1, part.standing, part.drop) == (88.0, "published", 1.5)
    alone = made(measured=measured(85.0, complete=False))
    assert (alone.top1, alone.standing, alone.drop, alone.comparable_top1) == (85.0, "partial", 5.0, None)
    own = made(published=[published(88.0, own=True)])
    assert (own.standing, own.drop) == ("own", None)


def test_figures_of_two_sources_are_not_subtracted_and_a_bound_is_no_figure() -> None:
    assert made(published=[published(88.0)], published_float=[published(89.0, "another paper")]).drop is None
    assert made(published=[published(None)]).top1 is None


def test_a_receipt_of_another_state_of_the_recipe_is_none(mine: Path) -> None:
    (mine / "artifacts").mkdir()
    shutil.copy(environment.packaged(f"digits/artifacts/{RECEIPT}"), mine / "artifacts" / f"mine{RECEIPT[14:]}")
    assert row("mine_int8").measured is None
    assert (row("mine_int8").top1, row("mine_int8").standing) == (98.0, "published")
    receipt = load_receipt(environment.packaged(f"digits/artifacts/{RECEIPT}"))
    current = receipt.info.model_copy(update={"recipe_sha256": find("mine_int8").resolved.digest})
    place = environment.artifacts() / f"mine{RECEIPT[14:]}"
    place.parent.mkdir(parents=True)
    save_receipt(place, type(receipt)(**{**vars(receipt), "info": current}))
    found = row("mine_int8").measured
    assert found is not None
    assert (found.top1, found.place) == (receipt.info.top1["quantized"], "at hand")


def test_latency_is_that_of_the_kept_report_of_this_recipe() -> None:
    report = BenchmarkReport(
        name="resnet8_digits_int8", runtime="openvino", threads=1, integer_macs=1.0, integer_additions=(0, 0),
        timings=[Timing(batch=size, float_ms=(1, 2, 3), quantized_ms=(0.5, size / 2, 9)) for size in (1, 8)],
        float_operators=[], cpu_flags=[], environment={"cpu": "a processor"}, date="2026-12-01",
    )  # fmt: skip
    path = keep_report(find("resnet8_digits_int8"), report)
    assert path is not None
    found = row("resnet8_digits_int8")
    assert [(one.batch, one.ms, one.float_ms, one.cpu) for one in found.latency] == [
        (1, 0.5, 2.0, "a processor"), (8, 4.0, 2.0, "a processor"),
    ]  # fmt: skip
    assert found.latency_ms == 0.5
    assert row("resnet8_digits").latency_ms == 2.0
    path.write_text(json.dumps(json.loads(path.read_text()) | {"recipe_sha256": "0" * 64}))
    assert row("resnet8_digits_int8").latency == []
    path.write_text("damaged")
    assert row("resnet8_digits_int8").latency == []


def test_what_no_recipe_of_the_catalogue_is_for_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(MINE)
    assert keep_report(find(f"{tmp_path}/other.yaml:int8"), BenchmarkReport.model_construct()) is None


def test_sizes_of_a_recipe_of_ones_own_are_computed_on_demand_and_kept(mine: Path) -> None:
    before = row("mine_int8")
    assert (before.bits, before.bytes, before.macs, before.targets) == (None, None, None, [])
    after, shipped = qzoo.zoo_table("mine_int8", compute=True)[0], row("resnet8_digits_int8")
    assert (after.bits, after.bytes, after.macs) == (shipped.bits, shipped.bytes, shipped.macs)
    assert row("mine_int8") == after
    (mine / "mine.yaml").write_text(MINE.replace("scheme: int8_ort", "scheme: w4a8"))
    assert row("mine_int8").bytes is None


def test_a_recipe_that_cant_be_made_is_told_and_stays(mine: Path) -> None:
    (mine / "mine.yaml").write_text(MINE.replace("resnet8_digits", "resnet9_digits"))
    with pytest.warns(qzoo.FaultyRecipeWarning, match=r"The size of mine is not known: .*resnet9_digits"):
        found = qzoo.zoo_table("mine_int8", compute=True)
    assert found[0].bytes is None


def test_a_faulty_recipe_is_told_and_left_out(mine: Path) -> None:
    (mine / "mine.yaml").write_text("variants: [")
    with pytest.warns(qzoo.FaultyRecipeWarning, match=r"mine.yaml is left out: `qzoo validate .*mine.yaml` says"):
        assert len(qzoo.zoo_table()) == len(qzoo.list_models())


def test_a_changed_scheme_makes_facts_of_ones_own_stale_and_no_others(mine: Path) -> None:
    before = recipe_files()
    (mine / "schemes").mkdir()
    (mine / "schemes" / "mine_scheme.yaml").write_text("rules: [{match: {type: weighted}, weight: {bits: 8}}]")
    after = recipe_files()
    assert [name for name in before if before[name].digest != after[name].digest] == ["mine"]


def test_filters() -> None:
    assert {one.dataset for one in qzoo.zoo_table(dataset="cifar10")} == {"cifar10"}
    assert all(one.ranges_at for one in qzoo.zoo_table(pretrained=True))
    small = qzoo.zoo_table(max_size=0.3)
    assert small
    assert all(one.bytes is not None and one.bytes <= 300_000 for one in small)
    good = qzoo.zoo_table(min_top1=91.5)
    assert {one.standing for one in good} <= {"measured", "published", "own"}
    assert min(one.top1 or 0 for one in good) >= 91.5
    assert "tf_efficientnet_lite0_int8" not in {one.name for one in qzoo.zoo_table(min_top1=80)}, "on a part alone"


def test_a_target_takes_what_its_record_says(mine: Path) -> None:
    qzoo.zoo_table("mine*", compute=True)
    by_target = {
        target: {one.name for one in qzoo.zoo_table(target=target)}
        for target in ("tensorrt", "onnxruntime", "openvino")
    }
    assert "resnet8_digits_fp8" in by_target["tensorrt"] - by_target["onnxruntime"] - by_target["openvino"]
    assert "mine_int8_ort" in (by_target["onnxruntime"] & by_target["openvino"]) - by_target["tensorrt"]
    assert all("resnet8_digits_int8" in names for names in by_target.values())


def test_the_best_comes_first_and_the_unknown_last() -> None:
    by_drop = [one.drop for one in qzoo.zoo_table("resnet20*", sort="drop")]
    known = [drop for drop in by_drop if drop is not None]
    assert known == sorted(known)
    assert by_drop[: len(known)] == known
    tops = [one.comparable_top1 for one in qzoo.zoo_table(sort="top1")]
    found = [top1 for top1 in tops if top1 is not None]
    assert found == sorted(found, reverse=True)
    assert tops[len(found) :] == [None] * (len(tops) - len(found))


@for_each(
    "options, text",
    [
        ({"target": "tensort"}, "Unknown runtime 'tensort'. Did you mean 'tensorrt'?"),
        ({"sort": "siez"}, "There is no column 'siez'. Did you mean 'size'? Known: bits, drop, int, latency,"),
        ({"dataset": "cifar"}, "No recipe is of a dataset 'cifar'. Did you mean 'cifar10'?"),
        ({"min_top1": 101.0}, "A top-1 of at least 101 is none: give percent, from 0 to 100."),
        ({"max_size": 0.0}, "A size of at most 0 MB is none: give one above 0."),
        ({"pattren": "x"}, "zoo_table() has no argument 'pattren'"),
    ],
)
def test_wrong_values_are_told(options: dict[str, object], text: str) -> None:
    with pytest.raises(qzoo.QzooError) as raised:
        qzoo.zoo_table(**options)  # type: ignore[arg-type]
    assert text in str(raised.value)


def test_it_needs_no_torch_and_reads_no_recipe() -> None:
    said = (
        "import sys, qzoo; rows = qzoo.zoo_table(); "
        "print(len(rows) > 400, [name for name in ('torch', 'qzoo.schema.reading.catalog') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", said], capture_output=True, text=True, check=True).stdout
    assert output == "True []\n"
