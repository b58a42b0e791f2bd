"""The examples in docstrings run, and give what they say; every public function has one."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
import torch

import qzoo
from qzoo.data import loader, open_split
from tests.loopback_hub.server import LoopbackHub
from tests.loopback_hub.state import WRITE_TOKEN, Token

ROOMS = sorted(module.name for module in pkgutil.iter_modules(qzoo.__path__, "qzoo.") if "__" not in module.name)
NEED_ONNX = {f"qzoo.tasks.{name}.{name}" for name in ("benchmark", "export", "lint")}


def modules(room: str) -> Iterator[Any]:
    yield importlib.import_module(room)
    for module in pkgutil.walk_packages(getattr(importlib.import_module(room), "__path__", ()), f"{room}."):
        if not module.name.endswith("__main__"):
            yield importlib.import_module(module.name)


def examples(room: str) -> dict[str, doctest.DocTest]:
    """Returns the docstrings of a room that have examples, each once, by where they are written."""
    finder, known = doctest.DocTestFinder(), vars(qzoo) | {"qzoo": qzoo}
    found = [test for module in modules(room) for test in finder.find(module, extraglobs=known | vars(module))]
    # Tasks that take a name too have the docstrings of those that take a model.
    tasks = ("benchmark", "calibrate", "evaluate", "export", "save", "sensitivity")
    twice = {f"qzoo.zoo.tasks_by_name.{name}" for name in tasks}
    return {test.name: test for test in found if test.examples and test.name not in twice}


def batches(split: str, images: int, size: int) -> list[Any]:
    return list(loader(open_split("digits", split), qzoo.transform("resnet8_digits"), size, range(images)))


def run(tests: list[doctest.DocTest]) -> None:
    """Runs examples, and fails with all that give something else than they say."""
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        # What an example takes for granted: batches of digits, to measure and to train on.
        test.globs |= {"images": batches("test", 597, 250), "training_images": batches("train", 512, 64)}
        torch.manual_seed(0)
        runner.run(test, out=said.append)
    if said:
        pytest.fail("".join(said), pytrace=False)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An example may write files, and its user's name on the hub is `me`."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("room", ROOMS)
def test_examples(room: str, home: None, request: pytest.FixtureRequest) -> None:
    if room == "qzoo.commands":
        hub: LoopbackHub = request.getfixturevalue("hub")
        hub.tokens[WRITE_TOKEN] = Token("me", "write")
        request.getfixturevalue("hub_client")
    run([test for name, test in examples(room).items() if name not in NEED_ONNX])


@pytest.mark.runtimes
def test_examples_that_need_onnx(home: None) -> None:
    found = examples("qzoo.tasks")
    run([found[name] for name in NEED_ONNX])


def test_every_public_function_has_an_example_and_none_is_skipped() -> None:
    written = {test.docstring: test for room in ROOMS for test in examples(room).values()}
    functions = {name: found for name in qzoo.__all__ if isinstance(found := getattr(qzoo, name), FunctionType)}
    assert {name for name, function in functions.items() if function.__doc__ not in written} == set()
    skipped = [name for name, test in written.items() if any(doctest.SKIP in each.options for each in test.examples)]
    assert skipped == []
