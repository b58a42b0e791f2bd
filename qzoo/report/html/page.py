"""The page itself: one HTML file without anything from elsewhere, of the templates beside this file.

Names of recipes, layers and classes may be anybody's. So whatever a template is given is escaped (autoescape), shows
what is none to look at as escapes, and has no secrets; the page says that it runs no script but its own, and loads
nothing.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from qzoo.errors import escaped
from qzoo.redaction import redactor
from qzoo.report.html.blocks import Block, Code, Content, Facts
from qzoo.results.details import Details

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
WHITE = "\n\t"


def environment() -> Environment:
    """Returns what renders the templates, with the secrets of this moment."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    clean = _cleaner()
    made = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, finalize=clean, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    made.filters |= {"data_uri": _data_uri, "prose": _prose(clean)}
    return made


def _cleaner() -> Callable[[Any], Any]:
    """Returns what takes secrets out of a text, and puts escapes in place of what is none to look at."""
    without_secrets = redactor()

    def clean(value: Any) -> Any:
        if isinstance(value, Markup) or not isinstance(value, str):
            return value
        return escaped(without_secrets(value), WHITE)

    return clean


def _prose(clean: Callable[[Any], Any]) -> Callable[[str], Markup]:
    """Returns what makes HTML of a text, with what stands between backticks as code."""

    def marked_up(text: str) -> Markup:
        parts = re.split(r"`([^`\n]+)`", clean(text))
        return Markup().join(Markup("<code>{}</code>").format(one) if n % 2 else one for n, one in enumerate(parts))

    return marked_up


def _data_uri(picture: bytes) -> str:
    return f"data:image/webp;base64,{base64.b64encode(picture).decode()}"


def rendered(kind: str, contents: Sequence[Content], details: Details) -> str:
    """Returns a page as HTML.

    Args:
        kind: what was done: `reproduce`.
        contents: what to say, of one result or several.
        details: command, recipe and environment.
    """
    from qzoo import __version__

    style, script = ((TEMPLATES / name).read_text(encoding="utf-8") for name in ("style.css", "script.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment().get_template("page.html").render(
        kind=kind, contents=contents, rerun=_rerun(contents, details), version=__version__,
        title=", ".join(dict.fromkeys(one.title for one in contents)), date=datetime.date.today().isoformat(),
        style=Markup(style), script=Markup(script), script_digest=digest,
    )  # fmt: skip


def _rerun(contents: Sequence[Content], details: Details) -> list[Block]:
    measured_in = details.environment | next((one.environment for one in contents if one.environment), {})
    blocks: list[Block] = []
    if details.command:
        blocks.append(Code("Command", details.command))
    if details.recipe:
        blocks.append(Code("Recipe", details.recipe.rstrip()))
    if measured_in:
        blocks.append(Facts([(name, str(value)) for name, value in measured_in.items()]))
    return blocks
