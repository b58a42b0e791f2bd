"""The direction of imports: what stands left in LAYERS never imports what stands right of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "qzoo"
LAYERS = [
    {"redaction"},
    {"errors"},
    {"environment", "files"},
    {"schema"},
    {"results", "quant", "distributed", "data"},
    {"weights", "runtimes"},
    {"hub"},
    {"models", "report", "training"},
    {"tasks"},
    {"zoo"},
    {"receipts"},
    {"commands"},
    {"compat"},
    {"cli"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
KNOWS_MODEL_LIBRARIES = {"models/from_timm.py", "models/from_torchvision.py"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_every_part_has_a_layer() -> None:
    parts = {part_of(path) for path in FILES} - {"__init__", "__main__"}
    assert parts == set(LEVEL), "name the new part in LAYERS, and in CONTRIBUTING.md"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_one_way(path: Path) -> None:
    part = part_of(path)
    if part in ("__init__", "__main__"):
        return
    for line, name in imports(path):
        package, _, rest = name.partition(".")
        if package != "qzoo" or rest in ("", "__version__"):
            continue
        imported = rest.split(".")[0]
        allowed = imported == part or LEVEL[imported] < LEVEL[part]
        assert allowed, f"{path}:{line} imports {name}: {part} may import only what stands left of it in LAYERS"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_two_files_know_the_model_libraries(path: Path) -> None:
    names = {name for _, name in imports(path)}
    knows = {name for name in names if name == "timm" or name.startswith(("timm.", "torchvision.models"))}
    if str(path.relative_to(PACKAGE)) not in KNOWS_MODEL_LIBRARIES:
        # The 1,000 WordNet ids come from timm; they are data, not a model.
        assert knows <= {"timm.data.ImageNetInfo"}, path


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_that_is_being_removed_and_no_pickle(path: Path) -> None:
    for line, name in imports(path):
        assert not name.startswith(("torch.ao", "torch.quantization", "torchvision.models.quantization")), (path, line)
    assert "weights_only=False" not in path.read_text()
