"""`--html`: the result of a command as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qzoo.cli.terminal.command_line import typed
from qzoo.cli.terminal.console import check_target, muted, stderr

if TYPE_CHECKING:
    from qzoo.results.details import Details
    from qzoo.zoo.zoo_model import ZooModel


def details_for(html: Path | None, zoo_model: ZooModel, device: str = "cpu") -> Details | None:
    """Returns what a page is to show beside the figures, to be filled in; None where nobody asked for a page.

    It has the command, the recipe and the machine already.

    Args:
        html: the value of `--html`.
        zoo_model: what the command is about.
        device: that it runs on.

    Raises:
        OSError: the page can't be written.
    """
    # Of several processes each has one: they have to collect the same.
    if html is None:
        return None
    check_target(str(html), "--html")
    from qzoo.results.details import Details
    from qzoo.schema.reading.loading import dump_yaml
    from qzoo.tasks.measuring.machine import environment

    entry, variant = zoo_model.entry, zoo_model.variant
    recipe = entry.recipe if variant is None else entry.self_contained(variant)
    return Details(name=zoo_model.name, command=typed(), recipe=dump_yaml(recipe), environment=environment(device))


def write_page(result: Any, html: Path | None, details: Details | None, *, no_images: bool = False) -> None:
    """Writes the page that was asked for, and says where it is; without a demand nothing is done."""
    if html is None or details is None or muted():
        return
    from qzoo.report.html.write import html as write

    write(result, html, details, images=not no_images)
    # Standard output may be JSON.
    stderr.print(f"report: {html}", soft_wrap=True)
