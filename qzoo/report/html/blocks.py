"""What a page is made of. Plain data: `templates/blocks.html` says how each kind looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from markupsafe import Markup

from qzoo.results.details import FlippedImage

Mark = Literal["good", "bad", "open"]
"""How something ended: as it should, not so, or without a verdict."""


class Cell(NamedTuple):
    """A cell of a table.

    Attributes:
        text: as it is read.
        key: what rows are sorted by, where that is not the text: a number; None for what is missing, which goes last.
        mark: how it ended, for a verdict.
        href: a place of the page that says more: `#resnet50`.
        anchor: what links to this cell, without `#`.
    """

    text: str
    key: float | None = None
    mark: Mark | None = None
    href: str | None = None
    anchor: str | None = None


def number(value: float | None, form: str = ".2f", unit: str = "") -> Cell:
    """Returns the cell of a number; an empty one where there is none.

    Example:
        >>> number(0.125, "+.2f", " dB")
        Cell(text='+0.12 dB', key=0.125, mark=None, href=None, anchor=None)
    """
    # Adding zero turns -0.0 into 0.0.
    return Cell("") if value is None else Cell(f"{value + 0.0:{form}}{unit}", value)


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: what stands above it.
        numeric: its cells are numbers, and stand to the right.
        code: its cells are names out of a model or a recipe.
        whole: its cells are not broken into lines, where there is room.
    """

    heading: str
    numeric: bool = False
    code: bool = False
    whole: bool = False


@dataclass(frozen=True)
class Table:
    """Rows, which people sort by any column, and filter where there are many."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str | Cell]]

    def filled(self) -> Table:
        """Returns the same without columns in which nothing stands."""
        kept = [place for place in range(len(self.columns)) if any(_text(row[place]) for row in self.rows)]
        return Table(
            self.caption, [self.columns[place] for place in kept], [[row[place] for place in kept] for row in self.rows]
        )


def _text(cell: str | Cell) -> str:
    return cell if isinstance(cell, str) else cell.text


@dataclass(frozen=True)
class Chart:
    """A picture of figures.

    Attributes:
        title: what it shows.
        text: what it says to those who do not see it.
        svg: safe to be put into a page.
        width: its width at full size, in CSS pixels.
        note: how to read it.
    """

    kind: ClassVar[str] = "chart"
    title: str
    text: str
    svg: Markup
    width: int
    note: str = ""


@dataclass(frozen=True)
class Charts:
    """Small pictures of one kind, side by side."""

    kind: ClassVar[str] = "charts"
    title: str
    charts: Sequence[Chart]
    note: str = ""


@dataclass(frozen=True)
class Choice:
    """Pictures of the same things, of which one is seen at a time; on paper all.

    Attributes:
        title: what there is to choose.
        charts: by a word for each, at most three.
    """

    kind: ClassVar[str] = "choice"
    title: str
    charts: Mapping[str, Chart]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    mark: Mark | None = None


@dataclass(frozen=True)
class Code:
    """A command or a file, to be copied as it is."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


@dataclass(frozen=True)
class Facts:
    """Names and values."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Gallery:
    """Images that flipped."""

    kind: ClassVar[str] = "gallery"
    title: str
    images: Sequence[FlippedImage]
    note: str = ""


@dataclass(frozen=True)
class Folded:
    """What is opened by a click, or by a link to it.

    Attributes:
        title: what stands there while it is closed.
        anchor: what links to it, without `#`.
        blocks: what is inside.
    """

    kind: ClassVar[str] = "folded"
    title: str
    anchor: str
    blocks: Sequence[Table | Text | Code | Facts]


Block = Table | Chart | Charts | Choice | Text | Code | Facts | Gallery | Folded


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Content:
    """What a page says of one result.

    Attributes:
        title: what was looked at: `resnet50_int8@1`.
        about: on what, and how: a line under the title.
        verdict: the result in one sentence.
        mark: how it ended.
        sections: in their order; those without blocks are left out.
        environment: versions, processor, threads.
        wide: its tables need all the width that there is.
    """

    title: str
    about: str
    verdict: str
    mark: Mark
    sections: Sequence[Section]
    environment: dict[str, str | int] = field(default_factory=dict)
    wide: bool = False
