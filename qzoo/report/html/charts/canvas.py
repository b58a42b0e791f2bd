"""From a matplotlib figure to SVG inside a page.

Charts are drawn in the colours below, which no figure has by chance; each stands for a property of the page's style
sheet, so that a chart is as light or dark as the page. Text stays text, in the font of the page. Nothing is told by
colour alone: markers, hatches and labels tell the same.
"""

from __future__ import annotations

import io
import itertools
import re
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from markupsafe import Markup

from qzoo.errors import escaped, shortened
from qzoo.redaction import redact
from qzoo.report.html.blocks import Chart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, LINE, PAPER = "#010101", "#010102", "#010103", "#fefefe"
FIRST, SECOND, FILL = "#010104", "#010105", "#010106"
PROPERTIES = {
    INK: "--ink", QUIET: "--quiet", LINE: "--line", PAPER: "--paper", FIRST: "--first", SECOND: "--second",
    FILL: "--fill",
}  # fmt: skip
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<", ">")
"""Tell series apart."""
LONGEST_NAME = 40
SETTINGS: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "qzoo",
    "text.parse_math": False,  # names may hold a dollar sign
    "font.size": 9,
    "axes.edgecolor": LINE,
    "axes.labelcolor": QUIET,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": QUIET,
    "ytick.labelcolor": INK,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "hatch.color": PAPER,
    "hatch.linewidth": 1.0,
    "lines.markersize": 5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
Margins = tuple[float, float, float, float]
"""Left, below, right, above, in inches."""
_counter = itertools.count(1)


@contextmanager
def drawing(width: float, height: float, *, margins: Margins | None = None) -> Iterator[Figure]:
    """Yields a figure, so many inches wide and high, that is to be drawn on inside the context.

    Args:
        width: inches; a page shows them as 96 pixels each.
        height: inches.
        margins: around what is drawn; default: as much as labels need, which takes as long as drawing.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(SETTINGS), warnings.catch_warnings():
        # Only widths are measured in matplotlib's font; the page has its own, with signs of all languages.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        figure = Figure(figsize=(width, height), layout=None if margins else "constrained")
        if margins is not None:
            left, bottom, right, top = margins
            figure.subplots_adjust(left / width, bottom / height, 1 - right / width, 1 - top / height)
        yield figure


def finished(
    figure: Figure, title: str, text: str, note: str = "", links: Mapping[str, str] = MappingProxyType({})
) -> Chart:
    """Returns a figure as a chart; called inside the `drawing` that gave it.

    Args:
        figure: drawn.
        title: what it shows.
        text: what it says, for those who do not see it.
        note: how to read it.
        links: what the pointer is told over what leads to a place, by the URL that was set: `{"#resnet50": "76.1 %"}`.
    """
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    inside = _inline(file.getvalue(), f"c{next(_counter)}-", title, text, links)
    return Chart(title, text, inside, round(96 * figure.get_figwidth()), note)


def label(name: str, longest: int = LONGEST_NAME) -> str:
    r"""Returns a name from anywhere, fit to be drawn: of bounded length, without secrets and control characters.

    Example:
        >>> label("layer\x1b.conv")
        'layer\\x1b.conv'
    """
    return shortened(escaped(redact(name)), longest)


def quiet(axes: Axes, *sides: str) -> None:
    """Takes away the lines at some sides of a chart, and the ticks of its rows."""
    for side in sides:
        axes.spines[side].set_visible(False)
    axes.tick_params(left=False, bottom=False)


def _inline(svg: str, prefix: str, title: str, text: str, links: Mapping[str, str]) -> Markup:
    """Returns an SVG document as an element of a page: its ids its own, its colours the page's."""
    root = ElementTree.fromstring(svg)
    for element in root.iter():
        element.tag = _plain(element.tag)
        element.attrib = {_plain(name): value for name, value in element.attrib.items()}
    _prune(root)
    _flatten(root)
    used = {name for element in root.iter() for name in _references(element)}
    for element in root.iter():
        if element.tag == "a":
            _link(element, links)
        else:
            _adapt(element, prefix, used)
    size = root.get("viewBox", "")
    root.attrib = {"viewBox": size, "role": "img", "aria-labelledby": f"{prefix}t {prefix}d", "focusable": "false"}
    for place, (tag, words) in enumerate((("title", title), ("desc", text))):
        said = ElementTree.Element(tag, {"id": f"{prefix}{tag[0]}"})
        said.text = label(words, 2_000)
        root.insert(place, said)
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _plain(name: str) -> str:
    return name.rpartition("}")[2]


def _prune(element: ElementTree.Element) -> None:
    """Takes away what is not seen: metadata, styles, patches without a fill, and the space between elements."""
    for child in list(element):
        if child.tag in ("metadata", "style") or child.get("style") == "fill: none":
            element.remove(child)
            continue
        _prune(child)
        if child.tag in ("g", "defs") and not len(child):
            element.remove(child)
        child.tail = None
    if element.tag != "text":
        element.text = None


def _flatten(element: ElementTree.Element) -> None:
    """Puts what is in groups that say nothing in their place: a page with a hundred charts opens sooner."""
    for child in list(element):
        _flatten(child)
        if child.tag == "g" and child.attrib.keys() <= {"id"}:
            place = list(element).index(child)
            element.remove(child)
            for offset, one in enumerate(child):
                element.insert(place + offset, one)


_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_DIGITS = re.compile(r"(\.\d\d)\d+")
_FAMILY = re.compile(r"font-family:[^;]*;? ?")


def _references(element: ElementTree.Element) -> Iterator[str]:
    for name, value in element.attrib.items():
        yield from [value[1:]] if name == "href" else _REFERENCE.findall(value)


def _adapt(element: ElementTree.Element, prefix: str, used: set[str]) -> None:
    if (name := element.attrib.pop("id", None)) in used:
        element.set("id", f"{prefix}{name}")
    for key, value in element.attrib.items():
        if key == "href":
            element.set(key, f"#{prefix}{value[1:]}")
        elif key == "style":
            element.set(key, _coloured(_REFERENCE.sub(rf"url(#{prefix}\1)", _FAMILY.sub("", value))))
        elif key == "clip-path":
            element.set(key, _REFERENCE.sub(rf"url(#{prefix}\1)", value))
        elif key != "id":
            element.set(key, _coloured(_DIGITS.sub(r"\1", value).replace("\n", "")))
    if element.get("transform", "").startswith("rotate(-0 "):
        del element.attrib["transform"]


def _link(element: ElementTree.Element, links: Mapping[str, str]) -> None:
    """Makes a link fit: the keyboard does not stop at each point, as what it leads to is in the page too."""
    address = element.get("href", "")
    element.attrib = {"href": address, "tabindex": "-1"}
    said = ElementTree.Element("title")
    said.text = label(links.get(address, ""), 200)
    element.insert(0, said)


def _coloured(value: str) -> str:
    for colour, name in PROPERTIES.items():
        value = value.replace(colour, f"var({name})")
    return value
