"""Self-contained HTML pages: one file, no network, light and dark, for keyboard, screen reader and print.

A page is a title and sections, a section is a title and blocks, and blocks are plain data:

    Text, Tiles, Table (sortable; filterable by columns and words), Gallery (pictures with boxes), charts.Chart,
    and for reports Matrix (who is taken for whom), Threshold (a slider) and Mistakes (a gallery that follows it)

`render(Page(...))` is the file's text. Escaping is jinja2's alone: no text that is given here is ever markup.
"""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Choose:
    """A kind of mistake as a button: the gallery then shows no other."""

    kind: str

    def __str__(self) -> str:
        return self.kind


@dataclass(frozen=True, slots=True)
class Live:
    """A number that follows the page's threshold. key: what it is, in the data of the section's group: "class/2/true"."""

    value: float
    key: str
    format: str = ","

    def __str__(self) -> str:
        return "-" if math.isnan(self.value) else format(self.value, self.format)


Cell = str | int | float | Badge | Link | Live | Choose


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
    """A box on a figure, or a mask, in pixels of the picture it was made from.

    path:  the d of a <path>, the mask's outline, drawn instead of the box around it
    other: drawn dashed, in the second colour; look: one of LOOKS instead
    """

    box: Box
    label: str = ""
    other: bool = False
    look: str = ""
    path: str = ""

    @property
    def style(self) -> str:
        return self.look or ("other" if self.other else "own")


LOOKS = ("own", "other", "own-dashed", "other-solid", "right", "faint")
"""Of outlines: amber; cyan, dashed; amber, dashed; cyan; thin white; thin white, dotted."""


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
    """Figures side by side.

    follows: id of a table whose filters hide figures, too; legend: (look of outlines, what it means)
    """

    figures: tuple[Figure, ...]
    follows: str = ""
    legend: tuple[tuple[str, str], ...] = ()


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


@dataclass(frozen=True, slots=True)
class List:
    """Sentences one below the other. tone: how they look."""

    texts: tuple[str, ...]
    tone: Tone = "plain"


@dataclass(frozen=True, slots=True)
class Matrix:
    """A square of counts, rows against columns, as counts or as shares of their row. Cells off the diagonal filter `Mistakes`.

    names:  of rows and columns, the last one the background
    indices: of the classes among those of the group's data, -1 for the background
    """

    id: str
    names: tuple[str, ...]
    indices: tuple[int, ...]
    counts: tuple[tuple[int, ...], ...]
    caption: str = ""

    def share(self, row: int, column: int) -> float:
        """Of its row, 0 to 1."""
        return self.counts[row][column] / max(sum(self.counts[row]), 1)


@dataclass(frozen=True, slots=True)
class Threshold:
    """A slider for the least score, with counts that follow it.

    low, high, value: of the score; counts: what stands beside it
    """

    id: str
    low: float
    high: float
    value: float
    counts: tuple[tuple[str, Live], ...]


@dataclass(frozen=True, slots=True)
class Mistakes:
    """The gallery of mistakes at the threshold, made by the page's script from the group's data. kinds: to filter by."""

    id: str
    kinds: tuple[str, ...]
    names: tuple[str, ...]


Block = Text | List | Tiles | Table | Gallery | Charts | Matrix | Threshold | Mistakes


@dataclass(frozen=True, slots=True)
class Section:
    """group: sections of one group are shown together; sticky: stays in sight while the page is scrolled."""

    title: str
    blocks: tuple[Block, ...]
    group: str = ""
    sticky: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """subtitle: one line beside the title; footer: how the page was made.

    groups:  (key, label) of groups of sections, of which one is shown at a time
    data:    {name: plain data} that the page's scripts read
    scripts: templates that follow page.js
    """

    title: str
    sections: tuple[Section, ...]
    subtitle: str = ""
    footer: str = ""
    groups: tuple[tuple[str, str], ...] = ()
    data: Mapping[str, object] = field(default_factory=dict)
    scripts: tuple[str, ...] = ()


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
    if not isinstance(value, int | float):
        return str(value)
    return "-" if math.isnan(value) else format(value, column.format)


def picture_uri(image: Image, side: int = THUMBNAIL_SIDE_PX) -> str:
    """A (H, W, 3) picture as a JPEG in a data: address, its longer side at most `side` px."""
    picture = Pillow.fromarray(image)
    picture.thumbnail((side, side))
    file = io.BytesIO()
    picture.save(file, format="JPEG", quality=JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
