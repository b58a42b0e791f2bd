from __future__ import annotations

import time

from qzoo.errors import (
    LONGEST_LINE,
    MOST_LINES,
    QzooError,
    RecipeError,
    UnknownNameError,
    did_you_mean,
    escaped,
    nearest,
    readable,
    shown,
    some,
)
from tests.each import for_each

HOSTILE = {
    "\x1b[31m": r"\x1b[31m",
    "\x00": r"\x00",
    "\r": r"\r",
    "\x07": r"\x07",
    "\x08": r"\x08",
    "\x9b2J": r"\x9b2J",
    "\u202e": r"\u202e",
    "\u2066": r"\u2066",
    "\u2028": r"\u2028",
    "\x85": r"\x85",
    "\ufeff": r"\ufeff",
    "\ud800": r"\ud800",
    "\U000e0001": r"\U000e0001",
}


@for_each(("raw", "text"), HOSTILE.items(), ids=map(ascii, HOSTILE))
def test_errors_hold_nothing_that_a_terminal_obeys(raw: str, text: str) -> None:
    for kind in (QzooError, RecipeError, UnknownNameError):
        assert str(kind(f"no model 'a{raw}b'")) == f"no model 'a{text}b'"
    assert shown(f"a{raw}\nb") == rf"a{text}\nb"
    assert did_you_mean("x", [f"y{raw}"]) == f"Known: y{text}."


def test_what_is_to_look_at_stays() -> None:
    text = "± ≥ × – é 画像 \U0001f600 a\\b 'c'"
    assert escaped(text) == readable(text) == shown(text) == text
    assert readable("one\n  two") == "one\n  two"
    assert escaped("a\tb\n", kept="\n\t") == "a\tb\n"


def test_messages_are_of_bounded_length() -> None:
    word = "x" * 100_000
    assert len(str(QzooError(f"no model '{word}' here"))) < 600
    assert str(QzooError(f"no model '{word}' here")).endswith("x' here")
    assert len(str(QzooError("a b " * 100_000))) <= LONGEST_LINE
    lines = str(QzooError("\n".join(map(str, range(5000))))).split("\n")
    assert lines[-1] == f"... and {5000 - MOST_LINES:,} lines more."
    assert len(lines) == MOST_LINES + 1
    assert len(did_you_mean(word, [word, f"{word}y", "z"])) < 400


def test_reading_twice_is_reading_once() -> None:
    for text in ("x" * 5000, "a b " * 5000, "\x1b" * 3000, "\n" * 300, "a\\x1b"):
        once = readable(text)
        assert readable(once).split("\n")[:MOST_LINES] == once.split("\n")[:MOST_LINES]


def test_nothing_silly_is_near() -> None:
    assert nearest("nope", ["perc", "resnet18"]) == []
    assert nearest("trian", ["train", "test"]) == ["train"]
    assert nearest("ym", ["my", "your"]) == ["my"]
    assert nearest("onnx", ["onnxruntime", "openvino"]) == ["onnxruntime"]
    assert nearest("on", ["onnxruntime", "openvino"]) == []
    assert some(["a"] * 12) == "a, a, a, a, a, a, a, a, a, a, a, a"
    assert some([str(n) for n in range(1015)], most=3) == "0, 1, 2 and 1,012 more"


def test_looking_for_near_names_is_bounded() -> None:
    began = time.perf_counter()
    known = [f"{'x' * 190}{n}" for n in range(300)] + ["y" * 1_000_000]
    nearest("x" * 99, known)
    nearest("y" * 10_000_000, known)
    assert time.perf_counter() - began < 20
