import re

import numpy as np
import pytest

from sightline.records import ImageSize
from sightline.serving.page import page as serving_page
from sightline.view import charts
from sightline.view.pages import (
    Badge,
    Charts,
    Column,
    Figure,
    Gallery,
    Link,
    Outline,
    Page,
    Section,
    Table,
    Text,
    Tile,
    Tiles,
    picture_uri,
    render,
)

HOSTILE = "</script><img src=x onerror=alert(1)>\"'&"


def everything(text: str) -> Page:
    """A page of every block, with `text` wherever text goes."""
    table = Table(
        "rows", (Column(text, filter=True), Column("n", numeric=True)), ((Badge(text), 1.5), (Link(text, "f"), 2)), True, text
    )
    figure = Figure(
        "f", "data:,", ImageSize(8, 9), text, text, Badge(text), text, (Outline((1, 1, 2, 2), text),), ((text, text),)
    )
    made = charts.stacked_bars("bars", text, {text: {text: 3, "other": 1}})
    blocks = (Text(text), Tiles((Tile(text, text),)), table, Gallery((figure,), "rows"), Charts((made,)))
    return Page(text, (Section(text, blocks),), text, text)


def test_no_text_is_markup() -> None:
    assert HOSTILE not in render(everything(HOSTILE))
    plain, hostile = render(everything("plain")), render(everything(HOSTILE))
    assert [len(re.findall(rf"<{tag}\b", hostile)) for tag in ("img", "script")] == [
        len(re.findall(rf"<{tag}\b", plain)) for tag in ("img", "script")
    ]


def test_it_asks_nobody_else() -> None:
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(""", render(everything("plain")))


def test_it_looks_as_the_serving_page_does() -> None:
    """The colours that both have are the same, light and dark."""

    def colours(html: str) -> list[dict[str, str]]:
        return [
            dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]+)", block)) for block in re.findall(r":root \{(.*?)\}", html, re.DOTALL)
        ]

    for ours, theirs in zip(colours(render(everything("x")))[:2], colours(serving_page()), strict=True):
        shared = ours.keys() & theirs.keys()
        assert len(shared) >= 9
        assert {name: ours[name] for name in shared} == {name: theirs[name] for name in shared}


def test_pictures_become_small_jpegs() -> None:
    uri = picture_uri(np.zeros((900, 1200, 3), dtype=np.uint8))
    assert uri.startswith("data:image/jpeg;base64,")
    assert len(uri) < 20_000


def test_bars_add_up_and_the_rest_is_joined() -> None:
    counts = {f"class {number}": {"train": number, "val": 1} for number in range(60)}
    chart = charts.stacked_bars("bars", "Boxes", counts)
    assert "(30 others)" in [mark.text for mark in chart.marks if isinstance(mark, charts.Words)]
    assert len(chart.rows) == 60
    bars = [mark for mark in chart.marks if isinstance(mark, charts.Rectangle)]
    assert bars[1].x == pytest.approx(bars[0].x + bars[0].width)


def test_points_lie_inside_the_axes_in_order() -> None:
    points = np.array([[1.0, 1.0], [10.0, 200.0], [5000.0, 20.0]])
    chart = charts.scatter("s", "Sizes", points, np.array([0, 1, 1]), ["cat", "dog", "cow"], across="x", upwards="y")
    dots = [point for mark in chart.marks if isinstance(mark, charts.Dots) for point in mark.points]
    assert [x for x, _ in sorted(dots)] == [charts.LEFT, *(x for x, _ in dots[:2])]
    assert all(charts.LEFT <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT - charts.BOTTOM for x, y in dots)
    assert [row[:2] for row in chart.rows] == [("dog", "2"), ("cat", "1")]


@pytest.mark.parametrize("counts", [(), (5,), (1, 0, 3), tuple(range(500))])
def test_columns_hold_every_picture(counts: tuple[int, ...]) -> None:
    chart = charts.columns("c", "Boxes in a picture", counts or (0,), across="boxes", upwards="pictures")
    assert sum(int(row[1].replace(",", "")) for row in chart.rows) == sum(counts)
    assert len([mark for mark in chart.marks if isinstance(mark, charts.Rectangle)]) <= charts.MAX_BARS


def test_a_heat_map_tells_its_peak() -> None:
    values = np.zeros((6, 6))
    values[0, 5] = 0.5
    chart = charts.heat_map("h", "Where", values, unit="of all")
    assert chart.description == "highest: 50.0% of all, 92% from the left, 8% from the top"
    assert charts.heat_map("h", "Where", np.zeros((6, 6)), unit="of all").rows[0] == ("top", "0.0%", "0.0%", "0.0%")
