"""Pages in a real browser: they open at once, fit any window, load nothing, and their tables sort and filter."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from qzoo.report.html.write import html
from qzoo.results.details import Details

pytestmark = [pytest.mark.slow]
KINDS = ["reproduce", "sensitivity", "search", "check", "verify", "optimize", "finetune", "export", "benchmark"]
SECOND = 1000
"""In milliseconds."""


@pytest.fixture(scope="module")
def pages(
    made: dict[str, Callable[[str], Any]], gathered: Callable[..., Details], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    folder, name = tmp_path_factory.mktemp("pages"), "layer1.0.conv1"
    return {kind: html(make(name), folder / f"{kind}.html", gathered(name, 4)) for kind, make in made.items()}


@pytest.fixture
def opened(browser: Any, pages: dict[str, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page in a window of some width, and notes what it says and asks for."""
    contexts: list[Any] = []

    def open_page(kind: str, width: int = 1400, **options: Any) -> Any:
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **options))
        page = contexts[-1].new_page()
        page.said, page.asked = [], []
        page.on("console", lambda message: page.said.append(message.text))
        page.on("pageerror", lambda error: page.said.append(str(error)))
        page.on("request", lambda request: page.asked.append(request.url))
        page.goto(pages[kind].as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.mark.parametrize("width", [400, 1400])
def test_no_error_no_request_and_no_sideways_scrolling(opened: Callable[..., Any], width: int) -> None:
    for kind in KINDS:
        page = opened(kind, width)
        assert page.said == []
        assert all(one.startswith(("file:", "data:")) for one in page.asked)
        assert sum(one.startswith("file:") for one in page.asked) == 1
        wide, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert wide <= window, f"{kind} is {wide} pixels wide in a window of {window}"


def test_a_large_page_opens_in_less_than_a_second(
    browser: Any, made: dict[str, Callable[[str], Any]], gathered: Callable[..., Details], tmp_path: Path
) -> None:
    details = gathered("int8", 60)
    details.quantizers |= {f"int8_{n}": details.quantizers["int8"] for n in range(4)}
    file = html(made["reproduce"]("int8"), tmp_path / "a.html", details)
    page = browser.new_page()
    tools = page.context.new_cdp_session(page)
    # Of the time of the processor, which other processes may have too.
    tools.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.goto(file.as_uri())
    measured = {one["name"]: one["value"] for one in tools.send("Performance.getMetrics")["metrics"]}
    assert 0 < measured["TaskDuration"] < 1.0
    page.close()


def cells(page: Any, column: int) -> list[str]:
    found = page.evaluate(
        "n => [...document.querySelectorAll('table')[0].tBodies[0].rows].map(row => row.cells[n].textContent)",
        column,
    )
    return [str(one) for one in found]


def heading(page: Any, words: str) -> Any:
    return page.locator("table").first.locator("th", has_text=words)


def test_tables_sort_by_click_and_by_key(opened: Callable[..., Any]) -> None:
    page = opened("reproduce")
    assert cells(page, 3) == ["75.00", "74.50", "70.00"]
    assert heading(page, "top-1").get_attribute("aria-sort") is None
    heading(page, "top-1").locator("button").click()
    assert cells(page, 3) == ["70.00", "74.50", "75.00"]
    assert heading(page, "top-1").get_attribute("aria-sort") == "ascending"
    heading(page, "top-1").locator("button").press("Enter")
    assert cells(page, 3) == ["75.00", "74.50", "70.00"]
    assert heading(page, "top-1").get_attribute("aria-sort") == "descending"
    heading(page, "variant").locator("button").press("Space")
    assert cells(page, 0) == ["float", "layer1.0.conv1", "w4a4"]
    assert heading(page, "top-1").get_attribute("aria-sort") is None


def test_what_is_missing_goes_last_both_ways(opened: Callable[..., Any]) -> None:
    page = opened("reproduce")
    for _ in range(2):
        heading(page, "flips").locator("button").click()
        assert cells(page, [*page.locator("table").first.locator("thead th").all_text_contents()].index("flips")) == [
            "-7 +2", "", "",
        ]  # fmt: skip


def test_a_long_table_filters_by_words(opened: Callable[..., Any]) -> None:
    page = opened("reproduce")
    field = page.get_by_role("searchbox", name="Filter rows of: Every quantizer")
    assert page.get_by_role("searchbox").count() == 1  # a short table has none
    table = page.locator("table", has_text="Every quantizer")
    assert table.locator("tbody tr:visible").count() == 16
    field.fill("conv1.2 W4A4")
    assert table.locator("tbody tr:visible").count() == 2
    assert page.locator("output").inner_text() == "2 of 16"
    field.fill("")
    assert table.locator("tbody tr:visible").count() == 16


def test_the_first_key_leads_past_the_navigation(opened: Callable[..., Any]) -> None:
    page = opened("reproduce")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"


def test_dark_windows_have_dark_pages_and_charts(opened: Callable[..., Any]) -> None:
    seen = []
    for scheme in ("light", "dark"):
        page = opened("reproduce", color_scheme=scheme)
        seen.append(
            page.evaluate(
                "[getComputedStyle(document.body).backgroundColor, "
                "getComputedStyle(document.querySelector('svg text')).fill]"
            )
        )
    assert seen[0][0] == "rgb(255, 255, 255)"
    assert [sum(map(int, one[4:-1].split(","))) > 380 for one in (*seen[0], *seen[1])] == [True, False, False, True]


def test_names_run_nothing(
    browser: Any, made: dict[str, Callable[[str], Any]], gathered: Callable[..., Details], tmp_path: Path
) -> None:
    name = "<img src=x onerror=\"document.title='ran'\"><script>document.title='ran'</script>"
    page = browser.new_page()
    page.goto(html(made["reproduce"](name), tmp_path / "a.html", gathered(name)).as_uri())
    assert page.title() == "net@3: qzoo reproduce"
    assert page.locator("img").count() == 1
    page.close()


def test_it_prints_and_unfolds_for_that(opened: Callable[..., Any]) -> None:
    page = opened("reproduce")
    page.evaluate("document.body.insertAdjacentHTML('beforeend', '<details><summary>a</summary>b</details>')")
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details[open]").count() == 1
