"""Charts are text, in the colours of the page, and say what they show."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from qzoo.report.html.charts.accuracy import Claimed, Measured, accuracy_chart
from qzoo.report.html.charts.bars import Bar, Pair, bar_chart, pair_chart
from qzoo.report.html.charts.canvas import FIRST, INK, PROPERTIES, drawing, finished, label
from qzoo.report.html.charts.noise import noise_charts
from qzoo.report.html.charts.tensors import percent, tensor_charts
from qzoo.results.details import QuantizerDetail, SeenValues


def texts(svg: str) -> list[str]:
    return [one.text or "" for one in ElementTree.fromstring(svg).iter("text")]


def quantizer(path: str, clipped: float, noise: float | None = 20.0) -> QuantizerDetail:
    seen = SeenValues((-1.0, 0.0, 1.0, 2.0), (1, 100, 10), -0.5, 1.5)
    return QuantizerDetail(
        f"{path}.input_quantizer", "activation", "8bit", 1.0, (-1.0, 1.0), seen, clipped, 30.0, noise
    )


def test_colours_are_the_page_s_and_text_stays_text() -> None:
    with drawing(4, 2) as figure:
        axes = figure.subplots()
        axes.plot([1, 2], [1, 2], color=FIRST)
        axes.bar([1], [1], color=INK, hatch="//")
        axes.annotate("50 % $x$ <b>", (1, 1))
        chart = finished(figure, "a title", "some words", "a note")
    assert "50 % $x$ <b>" in texts(chart.svg)
    assert not re.search("|".join(PROPERTIES), chart.svg)
    assert {"var(--first)", "var(--ink)", "var(--quiet)"} <= set(re.findall(r"var\(--\w+\)", chart.svg))
    assert "font-family" not in chart.svg
    assert (chart.title, chart.note, chart.width) == ("a title", "a note", 384)


def test_ids_of_two_charts_differ_and_each_is_used() -> None:
    first, second = (bar_chart("t", [Bar("a", 1.0, "one", marked=True)], "x").svg for _ in range(2))
    ids = [set(re.findall(r' id="([^"]+)"', one)) for one in (first, second)]
    assert ids[0]
    assert not ids[0] & ids[1]
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)|labelledby="(\S+) (\S+)"', first))
    assert ids[0] == {one for found in used for one in found if one}


def test_names_are_fit_to_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-secret-token")
    assert label("x\x00y a-secret-token") == r"x\x00y ***"
    assert len(label("layer" * 100)) == 40
    assert r"x\x00y" in texts(bar_chart("t", [Bar("x\x00y", 1.0, "1")], "x").svg)
    assert "\u7f51\u7edc" in texts(bar_chart("t", [Bar("\u7f51\u7edc", 1.0, "1")], "x").svg)


def test_accuracy_shows_float_first_and_what_is_claimed() -> None:
    rows = [Measured("float", 75.0, (74.0, 76.0)), Measured("int8", 74.5, (73.5, 75.5), (Claimed(74.4, None),))]
    chart = accuracy_chart(rows)
    assert chart.text == (
        "Top-1 in percent, with 95 % intervals: float 75.00 (74.00 to 76.00); int8 74.50 (73.50 to 75.50)."
    )
    assert {"float", "int8", "75.00", "74.50"} <= set(texts(chart.svg))


def test_a_far_claim_does_not_press_the_rest_together() -> None:
    near = accuracy_chart([Measured("float", 75.0, (74.0, 76.0))])
    far = accuracy_chart([Measured("float", 75.0, (74.0, 76.0), (Claimed(20.0, 0.1),))])
    ticks = [[one for one in texts(chart.svg) if re.fullmatch(r"\d\d\.\d+", one)] for chart in (near, far)]
    assert ticks[0] == ticks[1]


def test_tensors_are_drawn_once_with_the_range_of_each_variant() -> None:
    charts, left_out = tensor_charts({"int8": [quantizer("a", 0.0)], "w4a4": [quantizer("a", 2.5)]}, "512 images")
    assert charts is not None
    (chart,) = charts.charts
    assert (left_out, chart.title, chart.note) == (0, "a.input", "-0.5 to 1.5; 2.5 % clipped at most (w4a4)")
    assert {"int8", "w4a4"} <= set(texts(chart.svg))
    assert charts.title == "Values of a tensor on 512 images, and the range of each variant"
    assert tensor_charts({}, "") == (None, 0)


def test_where_tensors_are_too_many_those_that_are_clipped_most_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qzoo.report.html.charts.tensors.MOST_DRAWN", 2)
    many = [quantizer(str(n), clipped) for n, clipped in enumerate((0.5, 0.1, 3.0, 0.0))]
    charts, left_out = tensor_charts({"int8": many}, "images")
    assert charts is not None
    assert [one.title for one in charts.charts] == ["0.input", "2.input"]
    assert left_out == 2


def test_noise_names_the_worst_place() -> None:
    chart = noise_charts({"int8": [quantizer("a", 0, 30.0), quantizer("b", 0, 12.5), quantizer("c", 0, 20.0)]}, 32)
    assert chart is not None
    assert "Least 12.5 dB, at b.input; 20.0 dB at the last." in str(chart)
    assert noise_charts({}, 0) is None


def test_pairs_on_a_logarithmic_axis_have_plain_numbers() -> None:
    chart = pair_chart("t", [Pair("a", 0.001, 10.0)], "error", ("before", "after"), log=True)
    assert "0.01" in texts(chart.svg)
    assert not [one for one in texts(chart.svg) if "$" in one]
    assert chart.note == "Open circle: before; filled square: after."


def test_what_is_not_nothing_does_not_read_as_nothing() -> None:
    assert [percent(share) for share in (0.0, 0.0000001, 0.5, 12.345)] == ["0 %", "<0.001 %", "0.5 %", "12.3 %"]
