"""docs/benchmarks.md and other pages: each benchmark fills in the part between its own marks, when it is asked to."""

from __future__ import annotations

import argparse
import re
from datetime import date
from pathlib import Path

import torch

from qzoo.tasks.export import versions
from qzoo.tasks.measuring.machine import cpu_name

DOCUMENTS = Path(__file__).resolve().parent.parent / "docs"


def publish(part: str, text: str, write: bool, page: str = "benchmarks.md") -> None:
    """Prints what was measured; puts it between `<!-- part -->` and `<!-- /part -->`, if asked to."""
    print(text)
    if write:
        file = DOCUMENTS / page
        marks = re.compile(rf"(<!-- {part} -->\n).*?(<!-- /{part} -->)", flags=re.S)
        file.write_text(marks.sub(lambda found: f"{found[1]}{text}\n{found[2]}", file.read_text()))


def asked_to_write(program: str) -> bool:
    """Reads the command line of a benchmark; ends it on `--help` or a mistake, so ask before measuring."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}")
    parser.add_argument("--write", action="store_true", help="put the result into docs/benchmarks.md")
    return bool(parser.parse_args().write)


def runtimes() -> str:
    """Returns which runtimes a measurement was made in."""
    found = versions()
    return ", ".join(f"{package} {found[package]}" for package in ("onnxruntime", "openvino"))


def where(threads: int) -> str:
    """Returns what a measurement was made on, and when."""
    return f"{date.today()}, {cpu_name()}, {threads} threads, torch {torch.__version__}"
