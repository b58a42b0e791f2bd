from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qzoo.errors import RecipeError
from qzoo.schema.reading.yaml_source import parse_yaml, read_yaml, short_path, yaml_text
from tests.each import for_each


@for_each(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        (".5", 0.5),
        ("8", 8),
        ("-8", -8),
        ("010", 10),
        ("true", True),
        ("no", "no"),
        ("on", "on"),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("2026-11-24", "2026-11-24"),
        ("~", None),
        ("", None),
        ("'8'", "8"),
        ("!!str 8", "8"),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    parsed = parse_yaml(f"a: {text}", "x")[0]["a"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_each_field_has_its_line() -> None:
    _, lines = parse_yaml("a:\n  b: [1,\n      2]\nc: {d: 1,\n    e: 2}\n", "x")
    assert lines[("a",)] == 1
    assert lines[("a", "b")] == 2
    assert lines[("a", "b", 1)] == 3
    assert lines[("c", "e")] == 5


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=20), inner, max_size=3),
    max_leaves=10,
)


@given(plain)
def test_plain_data_come_back(data: Any) -> None:
    assert parse_yaml(yaml_text(data), "x")[0] == data


@for_each("text", ["1e5", "8", "true", "null", "no", "2026-11-24", "~", "", "a: b", "1e-4", "\x7f", "\U0001f600"])
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert parse_yaml(yaml_text({text: text}), "x")[0] == {text: text}


@for_each(
    ("text", "message"),
    [
        ("a: b: c", "x:1 is not YAML: mapping values are not allowed"),
        ("a: 1\nb: [1\n", "x:3 is not YAML: "),
        ("a: 1\n---\nb: 2", "x:2 is not YAML: but found another document"),
        ("a: *b", "x:1 is not YAML: found undefined alias"),
        ("a:\n\tb: 1", "x:2 is not YAML: found character"),
        ("\x00\x01", "x is not YAML: unacceptable character #x0000"),
        ("a: 1\nb: 2\na: 3", "x:3 has the key 'a' twice; the first is in line 1. Keep one."),
        ("a: {b: 1, b: 2}", "x:1 has the key 'b' twice"),
        ("? [a]\n: b", "x:1 has a key that is no plain word."),
        (
            "!!python/object:os.system {a: b}",
            "x:1 holds the tag !!python/object:os.system: a recipe holds plain values",
        ),
        ("a: 1\nb: !!python/object/apply:os.system [ls]", "x:2 holds the tag !!python/object/apply:os.system"),
        ("!!python/name:os.system a: b", "x:1 holds the tag !!python/name:os.system"),
        ("a: !mine b", "x:1 holds the tag !mine"),
        ("a: !!timestamp 2026-11-24", "x:1 holds the tag !!timestamp"),
        ("a: !!int b", "x:1 has the value 'b', which is no int."),
        ("a: !!bool b", "x:1 has the value 'b', which is no bool."),
        ("a: " + "9" * 5000, "which is no int."),
        ("a: &a [*a]", "unfolds to more than 100,000 nodes or without end. Write it without aliases."),
        ("- " * 31 + "a", "x:1 is nested deeper than 30 levels; a recipe needs fewer than ten."),
        ("{a: " * 100_000, "x:1 is nested deeper than 30 levels"),
        ("[" * 500_000, "nest"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    began = time.perf_counter()
    with pytest.raises(RecipeError) as caught:
        parse_yaml(text, "x")
    assert message in str(caught.value)
    assert time.perf_counter() - began < 5


def test_an_alias_bomb_is_refused_before_it_unfolds() -> None:
    levels = "\n".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    with pytest.raises(RecipeError, match="unfolds to more than 100,000 nodes"):
        parse_yaml(f"a: &a [1, 1, 1]\n{levels}", "x")


def test_aliases_in_moderation_are_fine() -> None:
    assert parse_yaml("a: &a {b: 1}\nc: *a", "x")[0] == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfea\x00", "my.yaml is no text file (byte 0 is not UTF-8), so no recipe."),
        (b"\x89PNG\r\n\x1a\n", "my.yaml is no text file (byte 0 is not UTF-8)"),
    ],
)
def test_a_binary_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("my.yaml").write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        read_yaml(Path("my.yaml"))
    assert message in str(caught.value)


def test_a_file_of_50_mb_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    with path.open("wb") as file:
        file.truncate(50_000_000)
    with pytest.raises(
        RecipeError, match=r"my.yaml has 50.0 MB; a recipe has at most 1 MB. Is it the file you meant\?"
    ):
        read_yaml(path)


def test_a_missing_file_names_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("resnet18.yaml").touch()
    with pytest.raises(RecipeError, match=r"no recipe file resnet81.yaml. Did you mean 'resnet18.yaml'\? `qzoo list`"):
        read_yaml(Path("resnet81.yaml"))
    with pytest.raises(RecipeError, match=r"There is no recipe file nowhere/a.yaml. `qzoo list` shows"):
        read_yaml(Path("nowhere/a.yaml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.touch(mode=0o000)
    with pytest.raises(RecipeError, match="can't be read: Permission denied"):
        read_yaml(path)


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "my.yaml"
    path.write_text("a: 1", encoding="utf-8-sig")
    assert read_yaml(path)[0] == {"a": 1}


def test_paths_are_short_below_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert short_path(tmp_path / "a" / "b.yaml") == os.path.join("a", "b.yaml")
    assert short_path(tmp_path.parent / "b.yaml") == str(tmp_path.parent / "b.yaml")
