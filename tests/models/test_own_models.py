"""Whose code stands behind a base of `source: python`: what is registered, given on the command line, or installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest
from torch import nn

import qzoo
from qzoo.errors import ArgumentError, UnknownNameError
from qzoo.models import own_models
from qzoo.models.own_models import code_given, own_model, register_model
from tests.each import for_each

FILE = """\
from torch import nn

import beside_own_net


class OwnNet(nn.Linear):
    def __init__(self):
        super().__init__(beside_own_net.SIZE, 2)


number = 3
"""


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_models, "_registered", {})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a module of a network, and one that it imports."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "own_net.py").write_text(FILE)
    (tmp_path / "beside_own_net.py").write_text("SIZE = 4")
    (tmp_path / "own_faulty.py").write_text("x = 1\nraise KeyError('gone')")
    (tmp_path / "own_unreadable.py").write_text("def f(:")
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("own_", "beside_own_"))]:
        del sys.modules[name]


@pytest.mark.parametrize("code", ["own_net.py:OwnNet", "own_net:OwnNet", "own_net.py:nn.Flatten"])
def test_a_file_and_a_module_are_named(code: str, folder: Path) -> None:
    with code_given(code):
        assert isinstance(own_model("any").factory(), nn.Module)
    with pytest.raises(UnknownNameError):
        own_model("any")


@for_each(("code", "message"), [
    ("own_net.py", r"--model 'own_net\.py' names no factory\. Give FILE\.py:FACTORY or MODULE:FACTORY"),
    ("own_net.py:OwnNt", r"own_net\.py has no 'OwnNt'\. Did you mean 'OwnNet'\?"),
    ("own_net.py:number", r"own_net\.py:number is of type int; expected a function or class"),
    ("own_none.py:x", r"--model: there is no file .*own_none\.py\. Give FILE"),
    ("own_none:x", r"own_none can't be imported: ModuleNotFoundError: No module named 'own_none'\. Give FILE"),
    ("own_faulty.py:x", r"own_faulty\.py can't be run: KeyError: 'gone' \(.*own_faulty\.py:2\)\."),
    ("own_faulty:x", r"own_faulty can't be imported: KeyError: 'gone' \(.*own_faulty\.py:2\)\."),
    ("own_unreadable.py:x", r"can't be run: SyntaxError: .*own_unreadable\.py:1\)\."),
])  # fmt: skip
def test_code_that_is_none_or_fails_is_told_of(code: str, message: str, folder: Path) -> None:
    with pytest.raises(ArgumentError, match=message), code_given(code):
        pass


def test_another_module_of_that_name(folder: Path) -> None:
    (folder / "json.py").write_text(FILE)
    with pytest.raises(ArgumentError, match=r"a module 'json' is loaded already, from elsewhere\. Rename json\.py\."):
        code_given("json.py:OwnNet").__enter__()


def entries(monkeypatch: pytest.MonkeyPatch, *codes: str) -> None:
    found = EntryPoints(EntryPoint("net", code, own_models.GROUP) for code in codes)
    monkeypatch.setattr(own_models, "entry_points", found.select)


def test_registered_before_the_option_before_an_entry_point(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, "own_net:nn.Identity")
    sys.path.insert(0, str(folder))
    assert own_model("net").factory is nn.Identity
    with code_given("own_net.py:OwnNet"):
        assert own_model("net").where == "own_net.py:OwnNet"
        register_model("net", nn.Flatten)
        assert own_model("net").factory is nn.Flatten


def test_entry_points_are_not_read_where_they_are_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_models, "entry_points", lambda **_: pytest.fail("entry points were read"))
    register_model("net", lambda: nn.Linear(2, 2))
    assert isinstance(qzoo.create("python/net"), nn.Linear)
    qzoo.create("resnet8_digits_int8")


def test_two_packages_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, "one:Net", "two:Net")
    with pytest.raises(ArgumentError, match=r"Two packages give the model 'net' .*one:Net and two:Net\. Uninstall"):
        own_model("net")


def test_names_are_taken_once() -> None:
    register_model("net", nn.Identity)
    message = r"'net' is registered already, by torch\.nn\.modules\.linear\.Identity\. .* or say replace=True\."
    with pytest.raises(ArgumentError, match=message):
        register_model("net", nn.Flatten)
    register_model("net", nn.Flatten, replace=True)
    assert own_model("net").factory is nn.Flatten


@for_each("name", ["", "a/b", "../net", "a b", "a:b", "n" * 101, "-net"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ArgumentError, match=r"expected letters, digits and _\.- .*such as 'tiny_net'"):
        register_model(name, nn.Identity)


def test_a_name_that_nobody_gave_code_for() -> None:
    register_model("tiny_net", nn.Identity)
    message = (
        r"a class of one's own, 'tiny_nt', and nobody gave its code here\. Did you mean 'tiny_net'\?.* --model "
        r"FILE\.py:FACTORY .*qzoo\.register_model\('tiny_nt', FACTORY\).* group qzoo\.models\. A recipe never brings"
    )
    with pytest.raises(UnknownNameError, match=message):
        qzoo.create("python/tiny_nt:int8")


@for_each("name", ["os:system", "antigravity", "antigravity:fly", "this.py:s", "../own_net.py:OwnNet"])
def test_a_recipe_imports_nothing(name: str, folder: Path) -> None:
    recipe = qzoo.Recipe.model_validate(
        {"base": {"source": "python", "architecture": name}, "dataset": "digits", "variants": {"int8": {}}}
    )
    before = set(sys.modules)
    for call in (lambda: qzoo.create(recipe, variant="int8"), lambda: qzoo.transform(recipe)):
        with pytest.raises(UnknownNameError, match="A recipe never brings code"):
            call()
    assert not {"antigravity", "this", "own_net"} & (set(sys.modules) - before)
