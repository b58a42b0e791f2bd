"""The zoo's page in a real browser: no error, nothing beyond the window's edge, sorting, filtering, folds, charts.

A copy of the page gets a script of the test's own, which does what a person would, and notes what came of it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from qzoo.commands.zoo import write_zoo

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine")
Ask = Callable[..., Any]
ROWS = "const rows = () => [...document.querySelectorAll('table')[0].tBodies[0].rows].filter((row) => !row.hidden);"
CLICK = (
    "const sort = (n) => document.querySelectorAll('table')[0].tHead.rows[0].cells[n].querySelector('button').click();"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("page") / "zoo.html"
    write_zoo(file, "resnet[28]*")
    return file


def visit(file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    profile = f"--user-data-dir={file.parent / 'profile'}"
    common = ["--headless", "--no-sandbox", "--disable-gpu", profile, "--window-size=1500,900", "--dump-dom"]
    command = [str(BROWSER), *common, "--virtual-time-budget=4000", *options, file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)


@pytest.fixture
def ask(page: Path) -> Ask:
    def asked(script: str, width: int = 1400, place: str = "") -> Any:
        """Returns what a script finds that runs in the page, which stands in a frame: no window is 400 pixels wide."""
        text = re.sub(r"<meta http-equiv[^>]*>", "", page.read_text())
        telling = f"parent.postMessage(JSON.stringify((() => {{ {script} }})()), '*')"
        own = f"<script>addEventListener('load', () => setTimeout(() => {telling}, 200));</script></body>"
        page.with_name("asked.html").write_text(text.replace("</body>", own))
        noting = "addEventListener('message', (told) => { document.documentElement.dataset.found = told.data; });"
        frame = page.with_name("frame.html")
        frame.write_text(f"<script>{noting}</script><iframe width={width} height=900 src='asked.html{place}'></iframe>")
        found = re.search(r'data-found="([^"]*)"', visit(frame).stdout)
        assert found, "the script failed"
        return json.loads(unescape(found[1]))

    return asked


def test_the_console_stays_empty(page: Path) -> None:
    said = visit(page, "--enable-logging=stderr", "--v=0").stderr
    assert [line for line in said.splitlines() if "CONSOLE" in line] == []


@pytest.mark.parametrize("width", [400, 1400])
def test_nothing_lies_beyond_the_windows_edge(width: int, ask: Ask) -> None:
    opened = "document.querySelectorAll('details').forEach((one) => { one.open = true; });"
    widths = "innerWidth, document.documentElement.clientWidth, document.documentElement.scrollWidth"
    window, room, content = ask(f"{opened} return [{widths}]", width)
    assert window == width
    assert content == room


def test_a_heading_sorts_up_and_down_and_what_is_unknown_stays_last(ask: Ask) -> None:
    tops = "rows().map((row) => row.cells[2].textContent)"
    up, down = ask(f"{ROWS} {CLICK} sort(2); const up = {tops}; sort(2); return [up, {tops}]")
    known = sorted(float(one) for one in up if one)
    assert [float(one) for one in up if one] == known
    assert [float(one) for one in down if one] == known[::-1]
    assert up[len(known) :] == down[len(known) :] == [""] * (len(up) - len(known))


def test_the_field_leaves_rows_with_all_its_words(ask: Ask) -> None:
    typed = "const field = document.querySelector('input[type=search]'); field.value = 'DIGITS w4';"
    names = "rows().map((row) => row.cells[0].textContent)"
    found = ask(f"{ROWS} {typed} field.dispatchEvent(new Event('input')); return {names}")
    assert found == ["resnet8_digits_w4a8", "resnet8_digits_w4a4", "resnet8_digits_w4a4_qat"]


def test_one_chart_is_seen_at_a_time_the_one_that_was_chosen(ask: Ask) -> None:
    seen = "[...document.querySelectorAll('.choice figure')].map((one) => one.checkVisibility())"
    before, after = ask(
        f"const before = {seen}; document.querySelectorAll('.choice input')[1].click(); return [before, {seen}]"
    )
    assert (before, after) == ([True, False], [False, True])


def test_a_link_opens_the_fold_that_it_leads_into(ask: Ask) -> None:
    names = "[...document.querySelectorAll('details[open] > summary')].map((one) => one.textContent)"
    assert ask(f"return {names}", place="#resnet8_digits_w4a8") == ["resnet8_digits"]
