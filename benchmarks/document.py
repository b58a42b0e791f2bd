"""docs/benchmarks.md: each benchmark fills in the part between its own marks."""

from __future__ import annotations

import re
from pathlib import Path

DOCUMENTS = Path(__file__).resolve().parent.parent / "docs"


def write_part(name: str, text: str) -> None:
    """Puts a text between `<!-- name -->` and `<!-- /name -->`."""
    file = DOCUMENTS / "benchmarks.md"
    marks = re.compile(rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)", flags=re.S)
    file.write_text(marks.sub(lambda found: f"{found[1]}{text}\n{found[2]}", file.read_text()))
