from typing import Any

from rich.console import Console

from qzoo.report.search import search_table
from qzoo.results.search import SearchCandidate, SearchGroup, SearchPoint, SearchReport
from qzoo.results.sensitivity import Deviation


def point(name: str, choice: str, bits: float, drop: float | None, **facts: Any) -> SearchPoint:
    found = {"measured": Deviation(sqnr_db=20.0, top1=None, flips=3), "agreement": 98.5, "drop_ci95": (-0.25, 1.25)}
    return SearchPoint(
        name=name, choice={"conv": choice, "pool": "w8a8"}, predicted_loss=0.1, predicted_deviation=0.2,
        cost={"bits": bits, "size": bits / 32, "macs_float": 0.0}, drop=drop, **{**found, **facts},
    )  # fmt: skip


def report(*points: SearchPoint, **facts: Any) -> SearchReport:
    loss, cost = {"w8a8": 0.001, "w4a8": 0.02}, {"bits": {"w8a8": 8.0, "w4a8": 4.0}}
    groups = [
        SearchGroup(
            name="conv", layers=["conv"], weights=10, macs=10, loss=loss, cost=cost, unchanged=["w8a8"],
            rules=[{"match": {"name": "conv"}, "weight": False, "input": False}],
        ),
        SearchGroup(
            name="pool", layers=[], weights=0, macs=0, loss=loss, cost=cost, unchanged=["w8a8", "w4a8"],
            rules=[{"match": {"name": "pool"}, "input": False}],
        ),
    ]  # fmt: skip
    candidates = [
        SearchCandidate(name="w8a8", changes={}),
        SearchCandidate(name="w4a8", changes={"weight": {"bits": 4}}),
    ]
    whole = {
        "name": "net_int8", "variant": "int8", "dataset": "digits", "split": "test", "budget": {"bits": 4.0},
        "minimize": "loss", "candidates": candidates, "groups": groups, "rest": {}, "scored_images": 128, "images": 512,
        "float_top1": 99.0, "points": list(points), "neighbours_tried": 12, "neighbours_better": 1, "seconds": 9.2,
    }  # fmt: skip
    return SearchReport.model_validate(whole | facts)


def shown(found: SearchReport) -> str:
    console = Console(width=150, highlight=False)
    with console.capture() as capture:
        for part in search_table(found):
            console.print(part)
    return capture.get()


def test_points_stand_beside_each_other() -> None:
    text = shown(report(point("solution", "w4a8", 4.0, 0.5, on_front=True), point("uniform w8a8", "w8a8", 8.0, -0.1)))
    title, head, solution, uniform, _, chosen, *_ = text.splitlines()
    assert title.strip() == "net_int8: bits 4 on digits test, 512 images"
    assert head.split() == ["choice", "bits", "size", "drop", "95%", "agree"], "of float MACs all have as many"
    assert solution.split() == ["solution", "4.00", "0.125", "+0.50", "-0.2..+1.2", "98.50", "front"]
    assert uniform.split() == ["uniform", "w8a8", "8.00", "0.250", "-0.10", "-0.2..+1.2", "98.50"]
    assert chosen == "solution: groups of layers 1 w4a8", "pooling has no weights"
    assert "12 neighbours tried, 1 times one was better; 9.2 s in all" in " ".join(text.split())


def test_what_was_not_measured_is_not_claimed() -> None:
    found = report(point("solution", "w4a8", 4.0, None, measured=None, agreement=None, drop_ci95=None))
    assert "not measured" in shown(found)
    assert "No choice" not in shown(found)


def test_a_budget_that_is_missed_is_told() -> None:
    found = report(point("solution", "w8a8", 8.0, 2.5), budget={"max_drop": 0.5})
    assert not found.is_met
    assert "No choice that was measured loses at most 0.5: this is the one that loses least." in shown(found)
    unlabelled = report(point("solution", "w8a8", 8.0, None, agreement=99.7), budget={"max_drop": 0.5})
    assert unlabelled.is_met, "other predictions are no fewer than lost ones"


def test_latencies_are_told_where_they_were_measured() -> None:
    timed = (
        point("solution", "w4a8", 4.0, 0.5, latency_ms=1.25),
        point("uniform w8a8", "w8a8", 8.0, 0.0, latency_ms=1.2),
    )
    text = shown(report(*timed, target="onnxruntime", float_latency_ms=3.0))
    assert "measured in onnxruntime, one image: float 3.00 ms, solution 1.25 ms, uniform w8a8 1.20 ms" in text


def test_rules_say_why_and_leave_out_what_the_variant_says() -> None:
    found = report(point("solution", "w4a8", 4.0, 0.5))
    assert found.rules() == [
        {"match": {"name": "conv"}, "weight": {"bits": 4}, "why": "search: w4a8 here, together 0.02 nats"}
    ]
    assert found.rules_yaml() == (
        "- {match: {name: conv}, weight: {bits: 4}, why: 'search: w4a8 here, together 0.02 nats'}\n"
    )
    assert report(point("solution", "w8a8", 8.0, 0.0)).rules() == []
