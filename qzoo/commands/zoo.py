"""The zoo as one HTML file."""

from __future__ import annotations

from pathlib import Path

from qzoo.errors import UnknownNameError
from qzoo.files import write_text
from qzoo.report.html.page import rendered
from qzoo.report.html.sections.zoo import content
from qzoo.results.details import Details
from qzoo.results.zoo import ZooRow
from qzoo.zoo.facts import recipe_files
from qzoo.zoo.table import zoo_table


def write_zoo(file: Path, pattern: str = "*", *, pretrained: bool = False, command: str | None = None) -> list[ZooRow]:
    """Writes a page with all that is known of the zoo's models; it opens from disk, and loads nothing.

    Args:
        file: the path of the page; replaced in one step.
        pattern: a glob over full names.
        pretrained: only variants that have ranges.
        command: what to type for the same page.

    Returns:
        The models of the page.

    Raises:
        UnknownNameError: nothing matches.
        OSError: the file can't be written.
    """
    rows = zoo_table(pattern, pretrained=pretrained)
    if not rows:
        raise UnknownNameError(f"Nothing matches '{pattern}'. `qzoo list` shows everything.")
    bases = {row.base for row in rows}
    recipes = {
        name: state.paths[0].read_text(encoding="utf-8", errors="replace")
        for name, state in recipe_files().items()
        if name in bases
    }
    write_text(file, rendered("zoo", [content(rows, recipes)], Details(command=command)))
    return rows
