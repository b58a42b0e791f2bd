"""How large the house is, and what a name costs in it: `python -m benchmarks.house` measures, `--write` keeps it."""

from __future__ import annotations

import ast
import graphlib
import os
import resource
import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

import qzoo
from benchmarks.document import asked_to_write, publish

PACKAGE = Path(qzoo.__file__).parent
RECIPES = PACKAGE.parent / "recipes"
NAME = "resnet8_digits_int8"
BARE = "import typer, rich, pydantic, yaml"
"""What every command line of these libraries imports."""
TYPER = "import typer; from pydantic import TypeAdapter; import typer._adapters"
"""What typer itself loads as soon as a command has an option."""
RUNS = 15
SMALL = 40
"""Lines."""
COUNTED = f"""
import sys, qzoo
from qzoo.schema.reading import yaml_source
qzoo.create("resnet8_digits"), qzoo.quantize, qzoo.load
import qzoo.zoo.pretrained, qzoo.cli.show
from qzoo.schema.reading.catalog import _kept
_kept.cache_clear()
read, parse = [], yaml_source.parse_yaml
yaml_source.parse_yaml = lambda text, where: [read.append(where), parse(text, where)][1]
calls = [0]
def count(frame, event, _):
    calls[0] += event == "call" and frame.f_code.co_filename.startswith({str(PACKAGE)!r})
"""
CREATE = f"qzoo.create({NAME!r}, pretrained=True)"


def counts() -> Iterator[tuple[str, str]]:
    """Yields what creating and showing a name costs in a fresh process, in which all is imported."""
    profiled = f"sys.setprofile(count); {CREATE}; sys.setprofile(None); print(calls[0], len(read))"
    first, read = _run(f"{COUNTED}{profiled}").split()
    again, _ = _run(f"{COUNTED}{CREATE}\n{profiled}").split()
    yield f"calls of qzoo's own functions in `{CREATE}`: the first time, and again", f"{first}, {again}"
    yield "YAML files read by it", read
    show = f"import io, contextlib\nwith contextlib.redirect_stdout(io.StringIO()): qzoo.cli.show.run({NAME!r})\n"
    yield f"YAML files read by `qzoo show {NAME}`", _run(f"{COUNTED}{show}print(len(read))").split()[-1]


def ratios() -> Iterator[tuple[str, str]]:
    """Yields how long commands take beside bare imports of their libraries, in CPU time; the runs take turns."""
    commands = {
        "bare": [sys.executable, "-c", BARE],
        "typer's adapters": [sys.executable, "-c", TYPER],
        "`qzoo list`": [sys.executable, "-m", "qzoo", "list"],
        "`qzoo --help`": [sys.executable, "-m", "qzoo", "--help"],
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(RUNS):
        for name, command in commands.items():
            seconds[name].append(_cpu_seconds(command))
    bare = statistics.median(seconds.pop("bare"))
    for name, runs in seconds.items():
        yield (
            f'{name}, as a ratio to `python -c "{BARE}"` ({bare:.2f} s of CPU)',
            f"{statistics.median(runs) / bare:.2f}",
        )


def sizes() -> Iterator[tuple[str, str]]:
    """Yields how many files and lines there are, and circles among imports."""
    lines = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py*") if path.suffix != ".pyc"}
    outside = {path: count for path, count in lines.items() if "compat" not in path.parts}
    small = [path for path, count in outside.items() if count < SMALL and path.stem != "__init__"]
    folder, most = Counter(path.parent for path in outside).most_common(1)[0]
    yield "files in `qzoo/`", f"{len(lines)}"
    yield "files in the largest folder (not counting compat)", f"{most} (`{folder.relative_to(PACKAGE.parent)}/`)"
    yield f"files under {SMALL} lines, without `__init__` and compat", f"{len(small)}"
    yield "import circles", f"{_circles(path for path in lines if path.suffix == '.py')}"
    yield "lines in `qzoo/`", f"{sum(lines.values()):,}"
    yaml = [path.read_text().splitlines() for path in RECIPES.rglob("*.yaml")]
    yield "recipe YAML lines (schemes and sets included)", f"{sum(map(len, yaml))}"


def _circles(paths: Iterable[Path]) -> int:
    modules = {_module(path): path for path in paths}
    imports = {name: set(_imported(path, modules)) - {name} for name, path in modules.items()}
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError:
        return 1
    return 0


def _module(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def _imported(path: Path, known: Collection[str]) -> Iterator[str]:
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("qzoo."):
            for name in node.names:
                inside = f"{node.module}.{name.name}"
                yield inside if inside in known else node.module


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, capture_output=True, text=True)
    return done.stdout


def _cpu_seconds(command: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONWARNINGS": "ignore"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def table() -> str:
    """Returns all figures as a Markdown table."""
    rows = [*counts(), *ratios(), *sizes()]
    return "\n".join(["| | |", "|---|---:|", *(f"| {what} | {figure} |" for what, figure in rows)])


if __name__ == "__main__":
    write = asked_to_write("benchmarks.house")
    publish("house", table(), write)
