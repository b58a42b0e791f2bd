from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import qzoo


def test_all_is_sorted_and_complete() -> None:
    assert sorted(qzoo.__all__) == qzoo.__all__
    assert set(qzoo.__all__) == set(qzoo._HOMES)
    assert set(qzoo.__all__) <= set(dir(qzoo))


@pytest.mark.parametrize("name", qzoo.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    assert getattr(qzoo, name).__doc__
    assert getattr(qzoo, name).__module__ == qzoo._HOMES[name]


def test_no_public_name_hides_a_subpackage() -> None:
    folder = Path(qzoo.__file__).parent
    parts = {path.stem for path in folder.glob("*.py")} | {path.name for path in folder.iterdir() if path.is_dir()}
    assert not set(qzoo.__all__) & parts


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'qzoo' has no attribute 'craete'"):
        qzoo.craete  # noqa: B018


@pytest.mark.parametrize("command", ["import qzoo", "import qzoo.cli", "from qzoo.schema.catalog import Catalog"])
def test_importing_it_imports_no_torch(command: str) -> None:
    code = f"{command}; import sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
