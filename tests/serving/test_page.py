"""The page in a real browser, against the real server. Needs Debian's chromium and playwright; skipped where they are not."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sightline.geometry.masks import decode, encode
from sightline.records import Model
from sightline.serving.page import page as page_html
from sightline.serving.server import running
from sightline.serving.settings import Settings
from sightline.wire import run_lengths

ALPHA = """() => {
    const canvas = document.getElementById("masks");
    const paint = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return Array.from({length: canvas.height}, (_, y) =>
        Array.from({length: canvas.width}, (_, x) => paint.data[4 * (y * canvas.width + x) + 3]));
}"""
"""The alpha of the painted masks, row by row."""


@pytest.fixture(scope="module")
def browser(chromium: Any) -> Any:
    return chromium


@pytest.fixture
def page(browser: Any, url: str) -> Iterator[Any]:
    """The page, open; the test fails if it wrote an error to the console or asked another host."""
    tab = browser.new_page(viewport={"width": 1200, "height": 800})
    tab.set_default_timeout(10_000)
    wrong: list[str] = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith((url, "blob:", "data:")) else wrong.append(request.url))
    tab.goto(url)
    yield tab
    tab.close()
    assert [text for text in wrong if "400 (Bad Request)" not in text] == []


@pytest.fixture
def photo(tmp_path: Path, make_picture, as_bytes) -> Path:
    path = tmp_path / "it's a photo.png"
    path.write_bytes(as_bytes(make_picture(200, 300, 400)))
    return path


def choose(page: Any, path: Path) -> None:
    page.set_input_files("#file", path)
    page.wait_for_selector("#summary:has-text('answered')")


def test_the_model_is_introduced(page: Any) -> None:
    page.wait_for_selector("#state:has-text('fake, 2 classes')")
    page.click("text=The model")
    assert "bee, wasp" in page.inner_text("#facts")
    assert '{"steps":20}' in page.inner_text("#facts")


def test_boxes_lie_where_the_answer_says(page: Any, photo: Path) -> None:
    choose(page, photo)
    assert page.inner_text(".box span") == "wasp 0.90"
    stage, box = page.locator("#stage").bounding_box(), page.locator(".box").first.bounding_box()
    scale = stage["width"] / 400
    assert box["width"] == pytest.approx((400 / 3 - 0.1) * scale, abs=1)
    assert box["height"] == pytest.approx((300 / 3 - 0.2) * scale, abs=1)
    assert stage["height"] == pytest.approx(300 * scale, abs=1)


def test_masks_are_painted_where_the_answer_has_them(browser: Any, masked: Model, photo: Path) -> None:
    with running(masked) as url:
        tab = browser.new_page(viewport={"width": 1200, "height": 800})
        tab.goto(url)
        choose(tab, photo)
        painted = tab.evaluate(ALPHA)
        assert (len(painted), len(painted[0])) == (300, 400)
        expected = decode(masked.predict([np.zeros((300, 400, 3), np.uint8)])[0].masks[0])
        np.testing.assert_array_equal(np.array(painted) > 0, expected)
        tab.fill("#threshold", "1")
        assert tab.is_hidden("#masks")
        tab.close()


@pytest.mark.parametrize(("height", "width"), [(2000, 1000), (900, 4000), (1, 2000)])
def test_masks_of_large_pictures_are_painted_smaller(height: int, width: int, page: Any) -> None:
    """As many pixels as on a screen, and no column of them left out."""
    bitmap = np.zeros((height, width), dtype=bool)
    bitmap[height // 4 : height // 2 + 1, width // 5 : width // 2] = True
    answer = {"image_size": [height, width], "pred_classes": [0], "pred_masks_rle": [{"counts": str(encode(bitmap).counts)}]}
    page.evaluate("sent => { answer = sent; paintMasks([0]); answer = null; }", answer)
    painted = np.array(page.evaluate(ALPHA)) > 0
    assert max(painted.shape) == 1600
    assert painted.mean() == pytest.approx(bitmap.mean(), abs=0.01)
    rows, columns = painted.any(axis=1), painted.any(axis=0)
    assert painted[np.ix_(rows, columns)].all()


@pytest.mark.parametrize("seed", range(3))
def test_run_lengths_are_decoded_as_cocos(seed: int, page: Any) -> None:
    rng = np.random.default_rng(seed)
    mask = encode(rng.random((70, 50)) < rng.random())
    assert page.evaluate("text => runLengths(text)", mask.counts) == run_lengths(mask).tolist()
    tall = encode(np.arange(200_000).reshape(-1, 2) % 77_777 > 40_000)
    assert page.evaluate("text => runLengths(text)", tall.counts) == run_lengths(tall).tolist()


def test_the_threshold_acts_at_once_and_by_keyboard(page: Any, photo: Path) -> None:
    choose(page, photo)
    assert page.locator(".box").count() == 1
    page.focus("#threshold")
    page.keyboard.press("Home")
    assert page.locator(".box").count() == 2
    assert page.inner_text("#shown-threshold") == "0.00"
    page.keyboard.press("End")
    assert page.locator(".box").count() == 0
    assert "0 of 2 detections" in page.inner_text("#summary")


def test_one_class_alone(page: Any, photo: Path, url: str) -> None:
    choose(page, photo)
    page.fill("#threshold", "0")
    assert page.locator(".box").count() == 2
    page.select_option("#class", label="bee")
    assert [span.inner_text().split()[0] for span in page.locator(".box span").all()] == ["bee"]
    assert page.inner_text("#curl").endswith(f"'{url}/invocations?threshold=0&classes=bee'")
    assert "1 of 2 detections" in page.inner_text("#summary")
    page.select_option("#class", label="all")
    assert page.locator(".box").count() == 2


def test_detections_below_the_models_own_thresholds_are_there_for_the_slider(browser: Any, model: Model, photo: Path) -> None:
    with running(replace(model, thresholds=(0.99, 0.95))) as url:
        tab = browser.new_page()
        tab.goto(url)
        choose(tab, photo)
        tab.fill("#threshold", "0")
        assert tab.locator(".box").count() == 2
        tab.close()


def test_a_phone_offers_its_camera(browser: Any, url: str, photo: Path) -> None:
    context = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 700})
    tab = context.new_page()
    tab.goto(url)
    assert tab.is_visible("text=take a photo")
    tab.set_input_files("#camera", photo)
    tab.wait_for_selector("#summary:has-text('answered')")
    context.close()


def test_json_and_curl_to_copy(page: Any, photo: Path, url: str) -> None:
    choose(page, photo)
    assert page.inner_text("#curl") == (
        f"curl -X POST -H 'Content-Type: image/png' --data-binary @'it'\\''s a photo.png' '{url}/invocations?threshold=0.5'"
    )
    page.click("summary:has-text('JSON')")
    assert json.loads(page.inner_text("#json"))["class_names"] == ["wasp", "bee"]
    page.click("#answer button")
    page.wait_for_selector("#answer button:text-matches('Copied|Press')")


def test_a_refusal_is_shown_and_the_next_picture_works(page: Any, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"hello")
    page.set_input_files("#file", tmp_path / "broken.jpg")
    page.wait_for_selector("#problem:not([hidden])")
    assert 'is no picture (begins with "hello")' in page.inner_text("#problem")
    assert "broken.jpg" not in page.inner_text("#curl")
    choose(page, photo)
    assert page.is_hidden("#problem")


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_drop_and_paste(way: str, page: Any, photo: Path) -> None:
    page.evaluate(
        """([way, bytes]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped.png", {type: "image/png"}));
            document.dispatchEvent(way === "drop"
                ? new DragEvent("drop", {dataTransfer: transfer, bubbles: true, cancelable: true})
                : new ClipboardEvent("paste", {clipboardData: transfer, bubbles: true}));
        }""",
        [way, list(photo.read_bytes())],
    )
    page.wait_for_selector(".box")
    assert "dropped.png" in page.inner_text("#curl")


def test_the_picture_can_be_chosen_by_keyboard(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "file"


def test_names_are_never_markup(browser: Any, model: Model, photo: Path) -> None:
    hostile = Model(model.predict, ("<img src=x onerror=alert(1)>", "</script><b>"), "<i>", {"<u>": "<u>"})
    with running(hostile, settings=Settings()) as url:
        tab = browser.new_page()
        tab.goto(url)
        choose(tab, photo)
        assert tab.inner_text(".box span") == "</script><b> 0.90"
        assert tab.locator("#facts u, #state i, .box b").count() == 0
        tab.close()


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone(width: int, page: Any, photo: Path) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    choose(page, photo)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_file_asks_nobody_else() -> None:
    assert not re.search(r"""(src|href)=["']?(https?:)?//|@import|url\(""", page_html())
