"""What a user installs: the wheel, built through the sdist, holds the recipes and works outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from qzoo.schema.reading.catalog import Catalog

ROOT = Path(__file__).resolve().parent.parent
DATA = {str(p.relative_to(ROOT)) for s in ("yaml", "safetensors", "json") for p in (ROOT / "recipes").rglob(f"*.{s}")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "uv", "build", "--quiet", "--out-dir", str(folder), str(ROOT)]
    subprocess.run(command, check=True)
    (made,) = folder.glob("*.whl")
    return made


@pytest.mark.slow
def test_the_wheel_holds_every_recipe_and_its_ranges(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"qzoo/{name}" for name in DATA} <= names
    assert not [name for name in names if name.startswith(("recipes/", "tests/", "benchmarks/"))]


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import json, pathlib, sys, qzoo; assert pathlib.Path(qzoo.__file__).is_relative_to(sys.argv[1]);"
        "qzoo.create('resnet8_digits_int8', pretrained=True); print(json.dumps(qzoo.list_models()))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=tmp_path, env=environment, check=True, capture_output=True
    )
    assert json.loads(done.stdout) == Catalog.load().names()
