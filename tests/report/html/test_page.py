"""A page of any result is one sound file, says what was found, and shows names that may be anybody's as text."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import qzoo
from qzoo.report.html.write import html
from qzoo.results.details import Details
from tests.each import for_each
from tests.report.html.reading import Element, read

KINDS = [
    "reproduce",
    "sensitivity",
    "search",
    "check",
    "verify",
    "optimize",
    "finetune",
    "export",
    "benchmark",
    "calibrate",
]
HOSTILE = "<script>alert(1)</script>\"'&$x${{ 7 * 6 }}\x1b[2J\x00\u202e</svg><img src=x onerror=y>"
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"

Made = dict[str, Callable[[str], Any]]
Gathered = Callable[..., Details]


def some_details(kind: str, details: Details) -> Details:
    """Returns all of it for two kinds: the same charts on each page take their time."""
    return details if kind in ("reproduce", "calibrate") else replace(details, quantizers={})


@pytest.fixture(scope="module")
def pages(made: Made, gathered: Gathered, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        kind: html(make("int8"), folder / f"{kind}.html", some_details(kind, gathered("int8"))).read_text()
        for kind, make in made.items()
    }


@pytest.fixture(scope="module")
def hostile(made: Made, gathered: Gathered, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("hostile")
    name = HOSTILE + TOKEN
    return {
        kind: html(make(name), folder / f"{kind}.html", some_details(kind, gathered(name))).read_text()
        for kind, make in made.items()
    }


def ids(page: Element) -> list[str]:
    return [one.attributes["id"] for one in page.every if "id" in one.attributes]


@for_each("kind", KINDS)
def test_it_is_sound(kind: str, pages: dict[str, str]) -> None:
    page = read(pages[kind])
    (document,) = page.all("html")
    assert document.attributes["lang"] == "en"
    assert len(page.all("main")) == len(page.all("h1")) == len(page.all("header")) == len(page.all("footer")) == 1
    levels = [int(one.tag[1]) for one in page.every if re.fullmatch(r"h[1-6]", one.tag)]
    assert all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False)), levels
    found = ids(page)
    assert len(found) == len(set(found))
    links = [one.attributes["href"] for one in page.every if one.attributes.get("href", "").startswith("#")]
    named = [word for one in page.every for word in one.attributes.get("aria-labelledby", "").split()]
    referred = re.findall(r"url\(#([^)]+)\)", pages[kind])
    assert {*(link[1:] for link in links), *named, *referred} <= set(found)


@for_each("kind", KINDS)
def test_charts_and_tables_have_words(kind: str, pages: dict[str, str]) -> None:
    page = read(pages[kind])
    charts, tables = page.all("svg"), page.all("table")
    assert charts
    assert tables
    for svg in charts:
        assert svg.attributes["role"] == "img"
        assert all(one.text.strip() for one in (*svg.all("title"), *svg.all("desc")))
        assert len(svg.all("desc")) == 1
    for table in tables:
        (caption,) = table.all("caption")
        assert caption.text.strip()
        assert {one.attributes.get("scope") for one in table.all("th")} == {"col", "row"}
        rows = [len(row.all("td")) + len(row.all("th")) for row in table.all("tr")]
        assert len(set(rows)) == 1
    for image in page.all("img"):
        assert image.attributes["alt"]


@for_each("kind", KINDS)
def test_it_needs_nothing_from_elsewhere(kind: str, pages: dict[str, str]) -> None:
    page = read(pages[kind])
    addresses = [one.attributes[name] for one in page.every for name in ("src", "href") if name in one.attributes]
    assert all(one.startswith(("#", "data:image/webp;base64,")) for one in addresses)
    assert not re.search(r"https?:|@import|url\((?!#)", pages[kind])
    (script,) = page.all("script")
    digest = base64.b64encode(hashlib.sha256(script.text.encode()).digest()).decode()
    policy = next(one.attributes["content"] for one in page.all("meta") if "content-security" in str(one).lower())
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy


@for_each("kind", KINDS)
def test_names_are_text(kind: str, hostile: dict[str, str], pages: dict[str, str]) -> None:
    page = read(hostile[kind])
    assert len(page.all("script")) == 1
    assert not [one for one in page.every if any(name.startswith("on") for name in one.attributes)]
    assert len(page.every) == len(read(pages[kind]).every)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", hostile[kind])
    assert "alert(1)" in page.text
    assert "{{ 7 * 6 }}" in page.text
    assert r"\x1b[2J" in page.text
    assert TOKEN not in hostile[kind]


def test_the_verdict_comes_first(pages: dict[str, str]) -> None:
    said = {
        "reproduce": "All 3 figures are as published or as measured before; w4a4 loses most against float, 5.00 points",
        "sensitivity": "Quantizing everything takes top-1 from 75.00 to 72.00 %, at 9.0 dB SQNR. Worst alone is int8.0",
        "search": "With at most 5.2 bits a weight on average and at most 0.5 points of top-1 lost the solution loses",
        "check": "1 of 2 ranges do not fit: int8.input_quantizer (too narrow).",
        "verify": "Not reproduced: this is another model or another arithmetic. int8 differs.",
        "optimize": "Done: round (2 changes). Mean error of what it changed: round from 0.3 to 0.1.",
        "finetune": "Training took top-1 from 50.00 % to 64.00 %, +14.00 points.",
        "export": "It does not fit ONNX Runtime: a rule is broken, r: int8: int8 is wrong",
        "benchmark": "2.50 times as fast as float, 1 image at a time; 98.0 % of the multiply-accumulates and 2 of 3",
        "calibrate": "4 quantizers have a range; int8.1.input clips most, 0.5 % of its values; noise is worst",
    }
    for kind, words in said.items():
        (verdict,) = [one for one in read(pages[kind]).all("p") if "verdict" in one.attributes.get("class", "")]
        assert verdict.text.startswith(words)


def test_a_missed_figure_is_the_verdict(made: Made, tmp_path: Path) -> None:
    report = made["reproduce"]("int8")
    rows = [one.model_copy(update={"verdict": "fail"}) if one.variant == "w4a4" else one for one in report.rows]
    page = html(report.model_copy(update={"rows": rows}), tmp_path / "a.html").read_text()
    assert '<p class="verdict bad">1 of 3 figures are not what was published: w4a4.</p>' in page


def test_what_to_rerun(pages: dict[str, str]) -> None:
    page = read(pages["reproduce"])
    command, recipe = (one.text for one in page.all("code")[-2:])
    assert command == "qzoo reproduce int8"
    assert recipe == "name: int8\nname: int8\nname: int8"
    facts = dict(zip((one.text for one in page.all("dt")), (one.text for one in page.all("dd")), strict=True))
    assert facts["cpu"] == "a CPU"


def test_flipped_images_have_both_answers_and_are_counted(pages: dict[str, str]) -> None:
    (gallery,) = [one for one in read(pages["reproduce"]).all("ul") if one.attributes.get("class") == "gallery"]
    words = " ".join(gallery.text.split())
    assert words == "no. 7, label cat float cat 2.5 int8 dog 0.5, lost w4a4 int8 1.5, lost"
    assert "3 more, whose answers lie closer together, are left out." in pages["reproduce"]


def test_without_images_there_are_none(made: Made, gathered: Gathered, tmp_path: Path) -> None:
    details = gathered("int8")
    page = html(made["reproduce"]("int8"), tmp_path / "a.html", details, images=False).read_text()
    assert "<img" not in page
    assert "no. 7, label" in page
    assert details.flips[0].picture


def test_without_details_the_figures_are_there(made: Made, tmp_path: Path) -> None:
    for kind, make in made.items():
        page = read(html(make("int8"), tmp_path / f"{kind}.html").read_text())
        assert "Noise along" not in page.text
        assert page.all("table")


def test_several_results_stand_below_each_other(made: Made, gathered: Gathered, tmp_path: Path) -> None:
    page = read(html([made["export"]("a"), made["benchmark"]("a")], tmp_path / "a.html", gathered("a")).read_text())
    assert [one.text for one in page.all("h2")] == ["net_int8: export", "net_int8: benchmark", "Rerun it"]
    assert len(ids(page)) == len(set(ids(page)))
    assert [one.text.partition(":")[0] for one in page.all("p") if "verdict" in one.attributes.get("class", "")] == [
        "net_int8", "net_int8",
    ]  # fmt: skip


def test_what_has_no_page_is_refused(tmp_path: Path) -> None:
    with pytest.raises(qzoo.ArgumentError, match=r"html\(\) got int; expected a result that has a page: Benchmark"):
        html(3, tmp_path / "a.html")
    with pytest.raises(qzoo.ArgumentError, match=r"html\(\) got no result"):
        html([], tmp_path / "a.html")
    assert not (tmp_path / "a.html").exists()


@pytest.mark.slow
def test_a_large_network_stays_small(made: Made, gathered: Gathered, tmp_path: Path) -> None:
    page = html(made["reproduce"]("int8"), tmp_path / "a.html", gathered("int8", tensors=300))
    assert page.stat().st_size < 3_000_000
    text = page.read_text()
    assert "240 more tensors, of which less is clipped, are in the table alone." in text
    assert "The table shows 1,000 of 1,200 quantizers" in text
