"""The verdict that follows from what each quantizer is like."""

from __future__ import annotations

import json

from qzoo.results.check import CheckedQuantizer, CheckReport, Fault


def row(path: str, fault: Fault | None = None, judged: bool = True) -> CheckedQuantizer:
    ends = (-1.0, 1.0)
    of = "weight" if path.startswith("w") else "activation"
    return CheckedQuantizer.model_validate(
        {"path": path, "of": of, "range": ends, "found": ends, "ratio": 1.0, "clipped": 0.0, "fault": fault,
         "judged": judged}
    )  # fmt: skip


def report(*rows: CheckedQuantizer, ci95: tuple[float, float] = (91.0, 100.0)) -> CheckReport:
    return CheckReport(
        name="net_int8", images=64, agreement=95.0, ci95=ci95, sqnr_db=None, quantizers=list(rows), seconds=1.0
    )


def test_fine() -> None:
    found = report(row("a"), row("w"), row("b", judged=False))
    assert found.verdict == "fine"
    expected = "2 ranges fit these images; 1 more were learned, and have no other range to be held against."
    assert found.sentence == expected
    assert found.faults == []


def test_some_layers_or_most_of_either_kind() -> None:
    found = report(row("a", "narrow"), row("b"), row("w1"), row("w2"))
    assert (found.verdict, found.sentence) == ("layers", "1 of 4 ranges do not fit: a (too narrow).")
    for most in (
        report(row("a", "narrow"), row("b", "wide"), row("c"), *(row(f"w{n}") for n in range(9))),
        report(row("w1", "wide"), row("w2", "wide"), row("w3"), *(row(f"a{n}") for n in range(9))),
    ):
        assert most.verdict == "recalibrate"
        assert most.sentence.startswith("Most ranges do not fit these images: ")
    assert report(row("a", "wide"), row("b"), row("w", "wide"), row("w2")).verdict == "layers"


def test_low_agreement_is_told_only_where_it_is_sure_and_no_range_explains_it() -> None:
    assert report(row("a"), ci95=(70.0, 89.9)).verdict == "low agreement"
    assert report(row("a"), ci95=(70.0, 90.1)).verdict == "fine"
    assert report(row("a", "wide"), row("b"), row("c"), ci95=(5.0, 20.0)).verdict == "layers"


def test_json_and_what_is_printed_have_the_verdict() -> None:
    found = report(row("a", "wide"), row("b"), row("w"))
    facts = json.loads(found.to_json())
    assert (facts["schema"], facts["verdict"], facts["sentence"]) == (1, "layers", found.sentence)
    assert facts["quantizers"][0]["fault"] == "wide"
    assert "verdict: layers" in str(found)
