"""The zoo as a page: all there is to know, links that lead somewhere, nothing from elsewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from qzoo.commands.zoo import write_zoo
from qzoo.errors import UnknownNameError
from qzoo.report.html.charts.zoo import LATENCY, SIZE, accuracy_against
from qzoo.report.html.page import rendered
from qzoo.report.html.sections.zoo import COLUMNS, content
from qzoo.results.details import Details
from qzoo.results.zoo import ZooRow
from qzoo.zoo.table import zoo_table


class Page(HTMLParser):
    """What a page holds: ids, addresses, and what its elements say of themselves."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.elements.append((tag, given))
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" and "href" in given else []
        self.loaded += [given[name] for name in ("src", "srcset", "data") if name in given]
        self.loaded += [given["href"]] if tag == "link" else []


@pytest.fixture(scope="module")
def rows() -> list[ZooRow]:
    return zoo_table()


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("page") / "zoo.html"
    write_zoo(file, command="qzoo zoo --html zoo.html")
    return file.read_text()


def test_every_model_has_a_row_and_a_place_with_recipe_and_command(text: str, rows: list[ZooRow]) -> None:
    page = Page(text)
    assert {row.name for row in rows} <= set(page.ids)
    assert {row.name for row in rows} <= {unquote(link[1:]) for link in page.links}
    assert "qzoo reproduce resnet20_cifar10 --only w4a8_gptq --data PATH" in text
    assert "resnet20_cifar10_w4a8_gptq.receipt.safetensors" in text
    assert "description: A small ResNet on scikit-learn" in text
    assert "qzoo zoo --html zoo.html" in text


def test_every_link_leads_to_one_place_of_the_page_and_nothing_is_loaded(text: str) -> None:
    page = Page(text)
    assert len(set(page.ids)) == len(page.ids)
    assert [link for link in page.links if unquote(link.removeprefix("#")) not in page.ids] == []
    assert page.loaded == []
    assert len(text.encode()) < 3_000_000


def test_each_point_leads_to_its_model_and_stops_no_keyboard(text: str, rows: list[ZooRow]) -> None:
    figures = re.findall(r"<svg.*?</svg>", text, flags=re.S)
    for figure, value in zip(figures, ("megabytes", "macs"), strict=True):
        drawn = [row for row in rows if row.comparable_top1 is not None and getattr(row, value) is not None]
        page = Page(figure)
        assert sorted(unquote(link[1:]) for link in page.links) == sorted(row.name for row in drawn)
        assert all(given["tabindex"] == "-1" for tag, given in page.elements if tag == "a")
        assert "tf_efficientnet_lite0_int8<" not in figure, "measured on a part of the split"


def test_without_latencies_there_is_no_chart_of_them_and_with_one_there_is(rows: list[ZooRow]) -> None:
    assert accuracy_against(rows, LATENCY) is None
    first = next(row for row in rows if row.name == "resnet8_digits_int8")
    timed = {
        "runtime": "openvino", "cpu": "a processor", "threads": 2, "batch": 1, "float_ms": 2.0, "ms": 0.25,
        "date": "2026-12-01",
    }  # fmt: skip
    fast = ZooRow.model_validate({**{name: getattr(first, name) for name in ZooRow.model_fields}, "latency": [timed]})
    chart = accuracy_against([fast], LATENCY)
    assert chart is not None
    assert "resnet8_digits_int8: 99.33 %, 0.25 ms" in chart.text
    page = rendered("zoo", [content([fast], {})], Details())
    assert "0.25 ms for 1, float 2 ms: openvino, 2 threads, a processor, 2026-12-01" in page
    assert '<label for="choice-3">latency</label>' in page


def test_the_text_of_a_chart_names_the_best_of_each_dataset(rows: list[ZooRow]) -> None:
    chart = accuracy_against([row for row in rows if row.base == "resnet8_digits"], SIZE)
    assert chart is not None
    assert chart.text.endswith(
        "scikit-learn digits, 11 models: resnet8_digits_w2a2_qat: 99.00 %, 0.0241 MB; "
        "resnet8_digits_w4a8: 99.50 %, 0.0421 MB."
    )


def test_what_is_not_known_is_empty(rows: list[ZooRow]) -> None:
    unknown = next(row for row in rows if row.name == "mobilenet_v2_int8_max")
    page = rendered("zoo", [content([unknown], {})], Details())
    (cells,) = re.findall(r"<tr><th scope=\"row\".*?mobilenet_v2_int8_max</a></th>(.*?)</tr>", page, flags=re.S)
    shown = dict(zip([one.heading for one in COLUMNS[1:]], re.findall(r"<td[^>]*>(.*?)</td>", cells), strict=True))
    assert {name for name, cell in shown.items() if not cell} == {"top-1", "figure", "drop", "ms", "ranges"}
    assert (shown["bits"], shown["MB"], shown["on integers"]) == ("8", "3.82", "100 %")


def test_names_from_anywhere_are_text(rows: list[ZooRow]) -> None:
    odd = "<b>x</b>&"
    one = next(row for row in rows if row.name == "resnet8_digits_int8")
    fields = {name: getattr(one, name) for name in ZooRow.model_fields}
    named = ZooRow.model_validate({**fields, "name": odd, "dataset": odd, "base": odd})
    page = rendered("zoo", [content([named], {odd: odd})], Details())
    assert odd not in page
    assert "&lt;b&gt;x&lt;/b&gt;&amp;" in page
    assert unquote(next(link for link in Page(page).links if "%3C" in link)[1:]) in Page(page).ids


def test_what_nothing_matches_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"Nothing matches 'yolo\*'. `qzoo list` shows everything."):
        write_zoo(tmp_path / "zoo.html", "yolo*")
    assert not (tmp_path / "zoo.html").exists()
