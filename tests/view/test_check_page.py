"""The page of a check in a real browser. Needs Debian's chromium and playwright; skipped where they are not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.records import ImageSize
from sightline.view.check_page import Numbers, Row, Shown, check_page
from sightline.view.pages import Outline, picture_uri

READ = ("h1", ".soft", "td", "th button", ".badge.grave", ".badge.warning", ".badge.note", "a", ".chart text", ".tile dt")
CONTRAST = """(node) => {
    const shares = [0.2126, 0.7152, 0.0722];
    const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = (rgb) => rgb.match(/[0-9.]+/g).slice(0, 3).reduce((sum, v, i) => sum + shares[i] * linear(v / 255), 0);
    let ground = node;
    while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
    const style = getComputedStyle(node), ink = node.closest("svg") ? style.fill : style.color;
    const [a, b] = [ink, getComputedStyle(ground).backgroundColor].map(light).sort((x, y) => y - x);
    return (a + 0.05) / (b + 0.05);
}"""
"""The contrast of a node's text on its ground, as WCAG counts it."""

NUMBERS = Numbers(
    classes={"cat": {"train": 3, "val": 1}, "dog": {"train": 1, "val": 0}},
    box_sizes=np.array([[10.0, 20.0], [30.0, 40.0], [5.0, 5.0]]),
    box_labels=np.array([0, 0, 1]),
    positions=np.full((6, 6), 0.1),
    per_picture=(0, 1, 2),
)


def rows() -> list[Row]:
    uri = picture_uri(np.full((200, 300, 3), 90, dtype=np.uint8))
    shown = (
        Shown(uri, ImageSize(400, 600), "a.jpg", (Outline((150, 100, 300, 300), "cat"), Outline((5, 5, 9, 9), "dog", True))),
    )
    return [
        Row("grave", "boxes outside their picture", "a.jpg, box 2", "too far", "Correct it.", shown),
        Row("warning", "tiny boxes", "b.jpg, box 1", "3 px", "Remove it.", shown),
        Row("warning", "tiny boxes", "c.jpg, box 10", "2 px", "Remove it."),
        Row("note", "<b>grey</b> pictures", "d.jpg", "one channel", "Nothing."),
    ]


def made(some: list[Row] | None = None) -> str:
    some = rows() if some is None else some
    counts = {gravity: sum(row.gravity == gravity for row in some) for gravity in ("grave", "warning", "note")}
    return check_page(some, NUMBERS, title="Check of set", subtitle="4 pictures", counts=counts)


@pytest.fixture(scope="module")
def browser(chromium: Any) -> Any:
    return chromium.new_context(viewport={"width": 1200, "height": 800})


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """The page, open; the test fails if it wrote an error to the console or asked anybody for anything."""
    path = tmp_path / "index.html"
    path.write_text(made(), encoding="utf-8")
    tab = browser.new_page()
    tab.set_default_timeout(10_000)
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url))
    tab.goto(path.as_uri())
    yield tab
    tab.close()
    assert wrong == []


def places(page: Any) -> list[str]:
    """The column Where of the rows that are shown."""
    return page.eval_on_selector_all(
        "#findings tbody tr:not([hidden]) td:nth-child(3)", "cells => cells.map(c => c.textContent)"
    )  # type: ignore[no-any-return]


def test_filters_hide_rows_and_pictures(page: Any) -> None:
    assert len(places(page)) == 4
    page.select_option("[data-title=Gravity]", "warning")
    assert places(page) == ["b.jpg, box 1", "c.jpg, box 10"]
    assert page.locator("figure:visible").count() == 1
    assert page.inner_text("[data-count]") == "2 of 4 shown"
    page.fill("[data-search]", "C.JPG 2")
    assert places(page) == ["c.jpg, box 10"]
    page.fill("[data-search]", "")
    page.select_option("[data-title=Gravity]", "")
    page.select_option("[data-title=Kind]", "<b>grey</b> pictures")
    assert places(page) == ["d.jpg"]


def test_by_keyboard_alone(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.dataset.title") == "Gravity"
    page.keyboard.press("ArrowDown")
    assert places(page) == ["a.jpg, box 2"]
    page.keyboard.press("Home")
    page.focus("[data-sort='2']")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    assert places(page) == ["d.jpg", "c.jpg, box 10", "b.jpg, box 1", "a.jpg, box 2"]
    assert page.get_attribute("th:has([data-sort='2'])", "aria-sort") == "descending"
    page.focus("summary >> nth=0")
    page.keyboard.press("Enter")
    assert "cat" in page.inner_text("details[open] table")


def test_boxes_lie_on_their_picture(page: Any) -> None:
    picture, box = page.locator("figure img").first.bounding_box(), page.locator("figure rect.own").first.bounding_box()
    scale = picture["width"] / 600
    assert picture["height"] == pytest.approx(400 * scale, abs=1)
    assert box["x"] - picture["x"] == pytest.approx(150 * scale, abs=2)
    assert box["width"] == pytest.approx(150 * scale, abs=4)
    assert box["height"] == pytest.approx(200 * scale, abs=4)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(scheme: str, page: Any) -> None:
    """Contrast of text on its ground as WCAG counts it, 4.5 at the least."""
    page.emulate_media(color_scheme=scheme)
    for selector in READ:
        assert page.locator(selector).first.evaluate(CONTRAST) >= 4.5, selector


def test_charts_tell_what_they_show(page: Any) -> None:
    charts = page.locator(".chart svg[role=img]")
    assert charts.count() == 4
    for index in range(4):
        title, description = charts.nth(index).get_attribute("aria-labelledby").split()
        assert page.text_content(f"#{title}")
        assert page.text_content(f"#{description}")


def test_a_link_leads_to_its_picture(page: Any) -> None:
    page.click("#findings a >> nth=1")
    assert page.evaluate("document.querySelector(':target').textContent").count("b.jpg, box 1") == 1


@pytest.mark.parametrize("width", [320, 800])
def test_it_fits_a_phone(width: int, page: Any) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_in_print_nothing_is_cut_off(page: Any) -> None:
    page.emulate_media(media="print")
    assert page.is_hidden(".controls")
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).maxHeight") == "none"


def test_of_findings_that_are_left_out_the_page_says_so() -> None:
    html = check_page(rows(), NUMBERS, title="x", subtitle="", counts={"grave": 1, "warning": 2, "note": 7_000})
    assert "4 of 7,003 findings are shown, the worst of each kind" in html
    assert "findings are shown" not in made()


def test_nothing_found() -> None:
    assert "Nothing was found." in made([])
