"""The direction of imports: what stands left in LAYERS never imports what stands right of it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "qzoo"
LAYERS = [
    {"redaction"},
    {"errors"},
    {"arguments", "environment", "files", "progress"},
    {"schema"},
    {"results", "quant", "distributed", "data"},
    {"weights", "runtimes"},
    {"hub"},
    {"models", "report", "training"},
    {"data_free"},
    {"optimization"},
    {"tasks"},
    {"zoo"},
    {"receipts"},
    {"commands"},
    {"compat"},
    {"cli"},
]
ROOMS = {"schema": ["", "reading", "resolution"]}
"""Of folders whose rooms stand in a line too: the folder itself, then each room."""
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


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def test_every_part_has_a_layer() -> None:
    parts = {part_of(path) for path in FILES} - {"__init__", "__main__"}
    assert parts == set(LEVEL), "name the new part in LAYERS, and in CONTRIBUTING.md"


def test_imports_run_one_way() -> None:
    wrong = []
    for path in FILES:
        part = part_of(path)
        for line, name in imports(path):
            imported = name.split(".")[1] if name.startswith("qzoo.") else ""
            if part in LEVEL and imported in LEVEL and imported != part and LEVEL[imported] >= LEVEL[part]:
                wrong.append(f"{relative(path)}:{line} imports {name}")
    assert not wrong, "may import only what stands left of them in LAYERS"


def test_rooms_are_imported_one_way() -> None:
    wrong = []
    for folder, rooms in ROOMS.items():
        assert {path.parent.name for path in (PACKAGE / folder).glob("*/__init__.py")} == set(rooms[1:])
        for path in (PACKAGE / folder).rglob("*.py"):
            room = path.parent.name if path.parent.name in rooms else ""
            later = tuple(f"qzoo.{folder}.{one}." for one in rooms[rooms.index(room) + 1 :])
            wrong += [
                f"{relative(path)}:{line} imports {name}" for line, name in imports(path) if name.startswith(later)
            ]
    assert not wrong, "a room imports only what stands left of it in ROOMS"


def test_no_files_import_each_other_in_a_circle() -> None:
    modules = {f"qzoo.{relative(path)[:-3].replace('/', '.')}".removesuffix(".__init__"): path for path in FILES}
    needs = {module: set(at_once(path, set(modules))) for module, path in modules.items()}
    try:
        TopologicalSorter(needs).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_only_two_files_know_the_model_libraries() -> None:
    for path in FILES:
        names = {name for _, name in imports(path)}
        knows = {name for name in names if name == "timm" or name.startswith(("timm.", "torchvision.models"))}
        if relative(path) not in KNOWS_MODEL_LIBRARIES:
            # The 1,000 WordNet ids come from timm; they are data, not a model.
            assert knows <= {"timm.data.ImageNetInfo"}, path


def test_nothing_that_is_being_removed_and_no_pickle() -> None:
    removed = ("torch.ao", "torch.quantization", "torchvision.models.quantization")
    assert [(path, name) for path in FILES for _, name in imports(path) if name.startswith(removed)] == []
    assert [path for path in FILES if "weights_only=False" in path.read_text()] == []


def at_once(path: Path, modules: set[str]) -> Iterator[str]:
    """Which modules a file imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from (names & modules) or ({node.module} & modules)
        elif isinstance(node, ast.Import):
            yield from {alias.name for alias in node.names} & modules
