"""Every test is run: pytest leaves out folders of some names without a word."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent


def test_pytest_goes_into_every_folder_of_tests(request: pytest.FixtureRequest) -> None:
    left_out = request.config.getini("norecursedirs")
    folders = {part for path in TESTS.rglob("test_*.py") for part in path.relative_to(TESTS).parts[:-1]}
    assert "models" in folders
    assert {name for name in folders if any(fnmatch(name, pattern) for pattern in left_out)} == set()
