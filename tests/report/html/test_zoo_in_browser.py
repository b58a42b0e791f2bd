"""The zoo's page in a real browser: no error, nothing beyond the window's edge, sorting, filtering, folds, charts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qzoo.commands.zoo import write_zoo

pytestmark = pytest.mark.slow
OPENED = "document.querySelectorAll('details').forEach(one => { one.open = true; })"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "zoo.html"
    write_zoo(file)
    return file


@pytest.fixture
def opened(browser: Any, file: Path) -> Iterator[Callable[..., Any]]:
    """Opens the page in a window of some width, and notes what it says and asks for."""
    contexts: list[Any] = []

    def open_page(width: int = 1400, place: str = "", **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(file.as_uri() + place)
        return page

    yield open_page
    for context in contexts:
        context.close()


def table(page: Any) -> Any:
    return page.locator("table", has_text="All models")


@pytest.mark.parametrize("width", [400, 1400])
def test_no_error_no_request_and_no_sideways_scrolling(opened: Callable[..., Any], width: int) -> None:
    page = opened(width)
    page.evaluate(OPENED)
    wide, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert wide <= window
    assert page.said == []
    assert len(page.asked) == 1


def test_a_heading_sorts_up_and_down_and_what_is_not_known_stays_last(opened: Callable[..., Any]) -> None:
    page = opened()
    heading, found = table(page).locator("thead th").nth(2), []
    for _ in range(2):
        heading.locator("button").click()
        found.append(table(page).locator("tbody tr > :nth-child(3)").all_text_contents())
    known = sorted(float(one) for one in found[0] if one)
    assert len(known) > 50
    unknown = [""] * (len(found[0]) - len(known))
    assert found[0] == [*(f"{one:.2f}" for one in known), *unknown]
    assert found[1] == [*(f"{one:.2f}" for one in known[::-1]), *unknown]


def test_the_field_leaves_the_rows_with_all_its_words(opened: Callable[..., Any]) -> None:
    page = opened()
    page.get_by_role("searchbox", name="Filter rows of: All models").fill("DIGITS w4")
    assert table(page).locator("tbody tr:visible th").all_text_contents() == [
        "resnet8_digits_w4a8", "resnet8_digits_w4a4", "resnet8_digits_w4a4_qat",
    ]  # fmt: skip


def test_one_chart_is_seen_at_a_time_the_one_that_was_chosen_by_key_too(opened: Callable[..., Any]) -> None:
    page = opened()
    charts = page.locator(".choice > figure")
    assert [charts.nth(n).is_visible() for n in range(2)] == [True, False]
    page.get_by_label("size", exact=True).press("ArrowRight")
    assert [charts.nth(n).is_visible() for n in range(2)] == [False, True]


def test_a_name_and_a_point_lead_to_the_recipe_which_unfolds(opened: Callable[..., Any]) -> None:
    page = opened()
    assert page.locator("details[open]").count() == 0
    table(page).get_by_role("link", name="resnet8_digits_w4a8", exact=True).click()
    assert page.locator("details[open] > summary").all_text_contents() == ["resnet8_digits"]
    page.locator("svg a[href='#resnet20_cifar10_w2a2_lsq']").first.click(force=True)
    assert page.locator("[id='resnet20_cifar10_w2a2_lsq']").is_visible()
    assert page.locator("pre", has_text="qzoo zoo").count() == 0  # it was not made by a command


def test_points_say_what_they_are_and_no_key_stops_at_them(opened: Callable[..., Any]) -> None:
    page = opened()
    point = page.locator("svg a[href='#resnet8_digits_int8'] title").first
    assert point.text_content() == "resnet8_digits_int8: 99.33 %, 0.0794 MB"
    assert page.evaluate("[...document.querySelectorAll('svg a')].every(one => one.tabIndex === -1)")


def test_it_prints_with_all_charts(opened: Callable[..., Any]) -> None:
    page = opened()
    page.emulate_media(media="print")
    charts = page.locator(".choice > figure")
    assert all(charts.nth(n).is_visible() for n in range(charts.count()))
    assert not page.get_by_label("size", exact=True).is_visible()


def test_dark_windows_have_dark_pages_and_light_names_in_charts(opened: Callable[..., Any]) -> None:
    page = opened(color_scheme="dark")
    paper, name = page.evaluate(
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    assert sum(map(int, paper[4:-1].split(","))) < 200 < 400 < sum(map(int, name[4:-1].split(",")))
