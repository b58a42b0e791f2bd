"""Every test is run, and collecting them costs no more than importing them."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.conftest import YAML_READ

TESTS = Path(__file__).resolve().parent


def test_pytest_goes_into_every_folder_of_tests(request: pytest.FixtureRequest) -> None:
    """It leaves out folders of some names without a word."""
    left_out = request.config.getini("norecursedirs")
    folders = {part for path in TESTS.rglob("test_*.py") for part in path.relative_to(TESTS).parts[:-1]}
    assert "models" in folders
    assert {name for name in folders if any(fnmatch(name, pattern) for pattern in left_out)} == set()


def test_no_recipe_is_read_to_collect_tests(request: pytest.FixtureRequest) -> None:
    read = request.config.stash[YAML_READ]
    assert read == [], "a list of parameters reads recipes: use tests.each.for_each with a function"
