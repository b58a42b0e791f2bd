from __future__ import annotations

import pytest

from qzoo.report.markdown import cell, code, plain, table


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("top-1 of 75.4 %, arXiv 1902.08153 (int8_max)", "top-1 of 75.4 %, arXiv 1902.08153 (int8_max)"),
        ("a `b`", r"a \`b\`"),
        ("<script>x</script>", r"\<script>x\</script>"),
        ("![](http://x/y.png) [a](b)", r"!\[](http://x/y.png) \[a](b)"),
        ("# big\n\n- list", r"\# big - list"),
        ("---\nlicense: mit", r"\--- license: mit"),
        ("a|b", "a|b"),  # no table without a line of its own below
        ("a\x1b[31m\u202e", r"a\\x1b\[31m\\u202e".replace(r"\\", "\\")),
    ],
)
def test_what_others_wrote_is_text(given: str, text: str) -> None:
    assert plain(given).replace(r"\\", "\\") == text.replace(r"\\", "\\")


def test_names_are_code_that_nothing_ends() -> None:
    assert code("a`b|c") == "`a'b|c`"
    assert code("a\nb") == r"`a\nb`"


def test_cells_hold_no_lines_and_no_control_characters() -> None:
    assert cell("a\nb|c\x1b") == r"a b\|c\x1b"
    assert len(table(["x"], [["a\n|---|\nb"]]).splitlines()) == 3
