"""Self-contained HTML pages: one file, no network, light and dark, for keyboard, screen reader and print.

A page is a title and sections, a section is a title and blocks, and blocks are plain data:

    Text, Tiles, Table (sortable; filterable by columns and words), Gallery (pictures with boxes), charts.Chart

`render(Page(...))` is the file's text. Escaping is jinja2's alone: no text that is given here is ever markup.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
from PIL import Image as Pillow

from sightline.records import Box, Image, ImageSize
from sightline.view.charts import Chart

THUMBNAIL_SIDE_PX = 420
"""Longer side of a picture on a page; some 20 KB as JPEG."""

JPEG_QUALITY = 72

Tone = str
"""How a badge looks: grave, warning, note, good or plain."""


@dataclass(frozen=True, slots=True)
class Badge:
    """A word in a colour; the word itself tells, too."""

    text: str
    tone: Tone = "plain"

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Link:
    """Text that leads to a figure of the same page."""

    text: str
    target: str

    def __str__(self) -> str:
        return self.text


Cell = str | int | float | Badge | Link


@dataclass(frozen=True, slots=True)
class Column:
    """numeric: right-aligned, sorted by value; filter: gets a choice of its values above the table; format: of numbers."""

    title: str
    numeric: bool = False
    filter: bool = False
    format: str = ","


@dataclass(frozen=True, slots=True)
class Table:
    """id: unique on the page, of letters and dashes; searchable: gets a field that filters by words."""

    id: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    searchable: bool = False
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Outline:
    """A box on a figure, in pixels of the picture it was made from. other: drawn dashed, in the second colour."""

    box: Box
    label: str = ""
    other: bool = False


@dataclass(frozen=True, slots=True)
class Figure:
    """A picture with a caption. values: what the filters of the gallery's table compare, {column title: value}.

    uri:  from `picture_uri`; size: of the picture that the outlines refer to
    """

    id: str
    uri: str
    size: ImageSize
    alt: str
    caption: str
    badge: Badge | None = None
    detail: str = ""
    outlines: tuple[Outline, ...] = ()
    values: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Gallery:
    """Figures side by side. follows: id of a table whose filters hide figures, too."""

    figures: tuple[Figure, ...]
    follows: str = ""


@dataclass(frozen=True, slots=True)
class Tile:
    """One number, large."""

    label: str
    value: str
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Tiles:
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True, slots=True)
class Charts:
    """Charts side by side where there is room."""

    charts: tuple[Chart, ...]


Block = Text | Tiles | Table | Gallery | Charts


@dataclass(frozen=True, slots=True)
class Section:
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Page:
    """subtitle: one line beside the title; footer: how the page was made."""

    title: str
    sections: tuple[Section, ...]
    subtitle: str = ""
    footer: str = ""


def render(page: Page) -> str:
    """The page as HTML, complete in itself."""
    return environment().get_template("page.html").render(page=page)


def environment() -> jinja2.Environment:
    """Templates beside this module, everything escaped."""
    made = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: files(__package__).joinpath("templates", name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.tests["number"] = lambda value: isinstance(value, int | float)
    made.globals["kind_of"] = lambda block: type(block).__name__
    made.globals["choices"] = choices
    made.filters["told"] = told
    return made


def choices(table: Table, index: int) -> Sequence[str]:
    """The values of a column, each once, in the order of the rows."""
    return list(dict.fromkeys(str(row[index]) for row in table.rows))


def told(value: Cell, column: Column) -> str:
    """A cell's text."""
    return format(value, column.format) if isinstance(value, int | float) else str(value)


def picture_uri(image: Image, side: int = THUMBNAIL_SIDE_PX) -> str:
    """A (H, W, 3) picture as a JPEG in a data: address, its longer side at most `side` px."""
    picture = Pillow.fromarray(image)
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
