from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import qzoo
from qzoo.runtimes.registry import RUNTIMES
from tests.each import for_each

FOLDER = Path(qzoo.__file__).parent
ONLY_IN_COMPAT = {"ScaleOverflowWarning"}
STUB = ast.parse(Path(qzoo.__file__).with_suffix(".pyi").read_text())
HOMES = {
    name.name: f"qzoo.{line.module}" if line.module else f"qzoo.{name.name}"
    for line in STUB.body
    if isinstance(line, ast.ImportFrom)
    for name in line.names
}


def test_the_table_names_everything_once_and_in_order() -> None:
    (listed,) = [line.value for line in STUB.body if isinstance(line, ast.Assign)]
    assert qzoo.__all__ == ast.literal_eval(listed) == sorted(HOMES)
    assert set(qzoo.__all__) <= set(dir(qzoo))


@for_each("name", qzoo.__all__)
def test_every_name_is_there_and_documented(name: str) -> None:
    found = getattr(qzoo, name)
    assert found.__doc__
    assert HOMES[name] == (found.__name__ if isinstance(found, ModuleType) else found.__module__)


def test_every_error_and_warning_is_public() -> None:
    errors = {
        name for name, kind in vars(qzoo.errors).items() if isinstance(kind, type) and issubclass(kind, Exception)
    }
    found = [re.findall(r"^class (\w+Warning)\(", path.read_text(), re.M) for path in FOLDER.rglob("*.py")]
    warnings = {name for names in found for name in names}
    assert (errors | warnings) - set(qzoo.__all__) - ONLY_IN_COMPAT == set()


def test_what_public_functions_return_is_public() -> None:
    functions = [found for name in qzoo.__all__ if isinstance(found := getattr(qzoo, name), FunctionType)]
    own = {name for function in functions for name in re.findall(r"[A-Z]\w+", str(function.__annotations__["return"]))}
    assert own - set(qzoo.__all__) == {"Any", "Module", "None", "Path"}


def test_no_public_name_hides_a_subpackage() -> None:
    parts = {path.stem for path in FOLDER.glob("*.py")} | {path.name for path in FOLDER.iterdir() if path.is_dir()}
    assert {name for name in set(qzoo.__all__) & parts if not isinstance(getattr(qzoo, name), ModuleType)} == set()


def test_an_unknown_name_says_so() -> None:
    with pytest.raises(AttributeError, match="No qzoo attribute craete"):
        qzoo.craete  # noqa: B018


def test_importing_it_imports_no_torch() -> None:
    code = "import qzoo, qzoo.cli, qzoo.schema.reading.catalog, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_creating_a_model_imports_nothing_that_only_data_reports_and_runtimes_need() -> None:
    heavy = {"sklearn", "scipy", "matplotlib", "pyarrow", "datasets", "onnx", "onnx_ir", *RUNTIMES}
    made = "qzoo.create('resnet8_digits_int8', pretrained=True); qzoo.create('torchvision/resnet18')"
    code = f"import qzoo, sys; {made}; qzoo.create('timm/resnet18'); print({heavy} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert result.stdout == "set()\n"
