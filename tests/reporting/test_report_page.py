"""The page of an evaluation in a real browser. Needs Debian's chromium and playwright; skipped where they are not."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import a_picture, a_random_scene, a_scene

from sightline.evaluation.analysis import Evaluation, examine
from sightline.evaluation.asked import Measuring
from sightline.evaluation.comparing import compare
from sightline.evaluation.matching import MATCHLESS
from sightline.evaluation.mistakes import KINDS
from sightline.evaluation.results import check_results, check_truth
from sightline.records import ImageSize
from sightline.reporting.write import write_comparison, write_report

HOSTILE = "</script><b onclick=alert(1)>cat</b>", 'dog"><img src=x onerror=alert(1)>', "bee & 'co' {{ 7 }} $1"
READ = ("h1", "p", ".soft", "td", "th button", ".slide label", ".counts dt", ".counts dd", ".matrix .right", "button",
        ".matrix .wrong button", ".tile dt", "figcaption li", ".controls label", ".list.warning li", ".chart text")  # fmt: skip
CONTRASTS = """(selectors) => {
    const shares = [0.2126, 0.7152, 0.0722];
    const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
    const rgb = (colour) => {
        canvas.fillStyle = colour;
        canvas.fillRect(0, 0, 1, 1);
        return canvas.getImageData(0, 0, 1, 1).data;
    };
    const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = (colour) => [...rgb(colour)].slice(0, 3).reduce((sum, v, i) => sum + shares[i] * linear(v / 255), 0);
    const contrast = (node) => {
        let ground = node;
        while (getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") ground = ground.parentElement;
        const style = getComputedStyle(node), ink = node.closest("svg") ? style.fill : style.color;
        const [a, b] = [ink, getComputedStyle(ground).backgroundColor].map(light).sort((x, y) => y - x);
        return (a + 0.05) / (b + 0.05);
    };
    const some = (selector) => [...document.querySelectorAll(selector)].slice(0, 12);
    return selectors.map((selector) => [selector, Math.min(...some(selector).map(contrast))]);
}"""
"""The least contrast of text on its ground, as WCAG counts it; colours by a canvas, which knows all of CSS's forms."""


def examined(truth: dict[str, Any], results: list[dict[str, Any]], name: str = "a/model.tar.gz") -> Evaluation:
    checked = check_truth(truth, "truth.json")
    return examine(checked, check_results(results, checked, name), Measuring(resamples=30))


def hostile_scene(seed: int = 1) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Six pictures, classes and files with names that are markup."""
    truth, results = a_random_scene(seed, skill=0.3)
    for category, name in zip(truth["categories"], HOSTILE, strict=True):
        category["name"] = name
    for image in truth["images"]:
        image["file_name"] = f"<b>{image['file_name']}"
    return truth, results


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return examined(*hostile_scene())


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report with pictures, the last one damaged, and the curves of a training."""
    folder = tmp_path_factory.mktemp("report")
    names = evaluation.analyses["bbox"].matches.truth.file_names
    for name in names[:-1]:
        a_picture(folder / "pictures" / name, ImageSize(100, 200))
    (folder / "pictures" / names[-1]).write_bytes(b"no picture")
    (folder / "run").mkdir()
    rows = [{"iteration": 20 * n, "total_loss": 2 / (n + 1), "lr": 0.01, "bbox/AP": n / 20} for n in range(10)]
    (folder / "run/metrics.json").write_text("\n".join(map(json.dumps, rows)))
    return write_report(evaluation, folder / "report", pictures=folder / "pictures", run=folder / "run")


@pytest.fixture(scope="module")
def browser(chromium: Any) -> Any:
    return chromium.new_context(viewport={"width": 1200, "height": 800})


@pytest.fixture(scope="module")
def tab(browser: Any) -> Any:
    """A tab with all that went wrong in it."""
    tab = browser.new_page()
    tab.set_default_timeout(20_000)
    tab.wrong = wrong = []
    tab.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append(request.url))
    return tab


@pytest.fixture
def opened(tab: Any) -> Iterator[Callable[[Path], Any]]:
    """Opens a page; the test fails if it wrote an error to the console or asked anybody for anything."""

    def open_page(path: Path) -> Any:
        tab.set_viewport_size({"width": 1200, "height": 800})
        tab.emulate_media(media="screen", color_scheme="light")
        tab.goto(path.as_uri())
        settle(tab)
        return tab

    tab.wrong.clear()
    yield open_page
    assert tab.wrong == []


@pytest.fixture
def page(opened: Callable[[Path], Any], report: Path) -> Any:
    return opened(report)


def settle(page: Any) -> None:
    """The gallery is drawn with the next frame."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def slide(page: Any, value: float) -> None:
    page.eval_on_selector("[data-slider]", f"(s) => {{ s.value = {value}; s.dispatchEvent(new Event('input')); }}")
    settle(page)


def told(page: Any, key: str) -> str:
    return str(page.text_content(f"[data-live='{key}']"))


def mistakes_told(page: Any) -> int:
    """How many the gallery speaks of."""
    found = re.match(r"([\d,]+) mistakes", page.inner_text("[data-mistakes] [data-count]"))
    assert found is not None
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("threshold", [0.0, 0.437, 1.0])
def test_the_slider_counts_as_numpy_does(threshold: float, page: Any, evaluation: Evaluation) -> None:
    matches, mistakes = evaluation.analyses["bbox"].matches, evaluation.analyses["bbox"].mistakes
    slide(page, threshold)
    kept = matches.scores >= threshold
    for label in (None, 0, 1, 2):
        mine = kept if label is None else kept & (matches.label == label)
        objects = int(matches.objects_per_class.sum() if label is None else matches.objects_per_class[label])
        true, false = int((mine & matches.true).sum()), int((mine & matches.false).sum())
        prefix = "all" if label is None else f"class/{label}"
        assert [told(page, f"{prefix}/{name}") for name in ("true", "false", "missed")] == [
            str(number) for number in (true, false, objects - true)
        ]
        assert told(page, f"{prefix}/recall") == f"{true / objects:.3f}"
        assert told(page, f"{prefix}/precision") == (f"{true / (true + false):.3f}" if true + false else "-")
    for number, kind in enumerate(KINDS[:-1]):
        assert told(page, f"kind/{kind}") == str(int((kept & (mistakes.kind == number)).sum()))
    assert page.input_value("[data-number]") == f"{threshold:.3f}"


def test_it_begins_at_the_best_f1_and_returns_to_it(page: Any, evaluation: Evaluation) -> None:
    best = evaluation.analyses["bbox"].best.reached
    assert told(page, "all/f1") == f"{best['f1']:.3f}"
    slide(page, 0.9)
    assert told(page, "all/f1") != f"{best['f1']:.3f}"
    page.click("[data-best]")
    assert told(page, "all/f1") == f"{best['f1']:.3f}"
    assert told(page, "all/missed") == str(best["missed"])


def test_the_gallery_shows_every_mistake_once(page: Any, evaluation: Evaluation) -> None:
    """A confusion is a false detection and a miss, and one mistake."""
    one = evaluation.analyses["bbox"]
    confused = int((one.confusion.confused != MATCHLESS).sum())
    assert mistakes_told(page) == one.best.reached["false"] + one.best.reached["missed"] - confused
    assert page.locator("[data-gallery] figure").count() <= 6
    slide(page, 0.999)
    assert mistakes_told(page) == int(told(page, "all/missed")) + int(told(page, "all/false"))


def test_filters_of_the_gallery(page: Any, evaluation: Evaluation) -> None:
    page.select_option("[data-filter=kind]", "missed")
    assert "missed" in page.inner_text("[data-gallery]")
    assert page.locator("[data-gallery] rect.own").count() == 0
    page.select_option("[data-filter=predicted]", "0")
    assert mistakes_told(page) == 0
    page.click("[data-reset]")
    page.select_option("[data-filter=predicted]", "1")
    one = evaluation.analyses["bbox"]
    kept = (one.matches.scores >= one.threshold) & one.matches.false & (one.matches.label == 1)
    assert mistakes_told(page) == int(kept.sum())
    page.click("[data-reset]")
    page.fill("[data-filter=words]", "3.JPG")
    assert page.locator("[data-gallery] figure strong").all_text_contents() == ["<b>3.jpg"]


def test_a_cell_of_the_matrix_leads_to_its_mistakes(page: Any, evaluation: Evaluation) -> None:
    cells = page.locator(".matrix button[data-labelled]")
    assert cells.count() > 3
    slide(page, 0.9)
    for index in range(cells.count()):
        cells.nth(index).press("Enter")
        settle(page)
        assert mistakes_told(page) == int(cells.nth(index).get_attribute("data-count"))
    counts = evaluation.analyses["bbox"].confusion.counts
    page.check("input[value=share]")
    share = counts[0, 0] / counts[0].sum()
    assert page.text_content(".matrix td >> nth=0") == f"{100 * share:.0f}%"


def test_a_kind_leads_to_its_mistakes(page: Any) -> None:
    page.click("[data-kind=localisation]")
    assert mistakes_told(page) == int(told(page, "kind/localisation"))
    assert page.evaluate("document.activeElement.dataset.filter") == "kind"


def test_the_class_table_sorts_by_what_the_slider_says(page: Any) -> None:
    slide(page, 0.5)
    column = page.locator("#bbox-classes th").all_text_contents().index("Wrong")
    page.click(f"#bbox-classes [data-sort='{column}']")
    shown = [int(text) for text in page.locator(f"#bbox-classes tbody td:nth-child({column + 1})").all_text_contents()]
    assert shown == sorted(shown)
    assert len(set(shown)) > 1


def test_by_keyboard_alone(page: Any, evaluation: Evaluation) -> None:
    page.focus("[data-slider]")
    before = float(page.input_value("[data-number]"))
    page.keyboard.press("ArrowRight")
    assert float(page.input_value("[data-number]")) == pytest.approx(before + 0.001, abs=1.1e-3)
    page.keyboard.press("End")
    assert told(page, "all/true") == "0"
    settle(page)
    page.focus("[data-gallery] button >> nth=0")
    page.keyboard.press("Enter")
    assert page.is_visible("dialog[open] .stage")
    name = page.inner_text("dialog [data-name]")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("dialog [data-name]") != name
    assert page.locator("dialog li").count() > 0
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0
    assert page.evaluate("document.activeElement.className") == "stage"


def test_boxes_lie_on_their_picture(page: Any) -> None:
    stage = page.locator("[data-gallery] .stage:has(img)").first
    picture, drawing = stage.locator("img").bounding_box(), stage.locator("svg").bounding_box()
    assert picture == drawing
    assert picture["width"] / picture["height"] == pytest.approx(2, abs=0.02)


def test_names_are_never_markup(page: Any, report: Path) -> None:
    assert page.locator("main b, main img[src=x], header b").count() == 0
    assert HOSTILE[0] in page.inner_text("#bbox-classes")
    assert "<b>" in page.inner_text("[data-gallery]")
    assert HOSTILE[1] in page.locator("[data-filter=labelled] option").all_text_contents()
    assert "default-src 'none'" in page.get_attribute("meta[http-equiv=Content-Security-Policy]", "content")
    assert report.read_text(encoding="utf-8").count("</script>") == 3  # two of data, one of code


def test_a_picture_is_embedded_once(report: Path, evaluation: Evaluation) -> None:
    text = report.read_text(encoding="utf-8")
    pictures = len(evaluation.analyses["bbox"].matches.truth.image_ids)
    assert text.count("data:image/jpeg") == pictures - 1  # one is damaged
    assert "http" not in re.sub(r"http-equiv|http://www.w3.org/2000/svg", "", text)


def test_charts_tell_what_they_show(page: Any) -> None:
    titles = page.locator(".chart h3").all_text_contents()
    assert titles[:4] == [
        "Precision and recall",
        "F1 by least score",
        "Can scores be believed?",
        "Found, not found and wrong, by class",
    ]
    assert "Loss" in titles
    before = page.get_attribute("#bbox-f1-title >> xpath=.. >> .marker", "x1")
    slide(page, 0.999)
    assert page.get_attribute("#bbox-f1-title >> xpath=.. >> .marker", "x1") != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_light_and_dark_can_be_read(scheme: str, page: Any) -> None:
    """Contrast of text on its ground as WCAG counts it, 4.5 at the least."""
    page.emulate_media(color_scheme=scheme)
    measured = dict(page.evaluate(CONTRASTS, READ))
    assert {selector: value for selector, value in measured.items() if not 4.5 <= value < 22} == {}


@pytest.mark.parametrize("width", [320, 800])
def test_it_fits_a_phone(width: int, page: Any) -> None:
    page.set_viewport_size({"width": width, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_in_print_controls_go_and_tables_are_whole(page: Any) -> None:
    page.emulate_media(media="print")
    assert page.is_hidden("[data-slider]")
    assert page.is_hidden("[data-mistakes] .controls")
    assert page.is_visible("[data-gallery] figure >> nth=0")
    assert page.evaluate("getComputedStyle(document.querySelector('.sticky')).position") == "static"


def with_masks(truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
    """Each box as a polygon."""
    for entry in [*truth["annotations"], *results]:
        x, y, width, height = entry["bbox"]
        entry["segmentation"] = [[x, y, x + width, y, x + width, y + height, x, y + height]]


def test_boxes_and_masks_are_shown_in_turn(opened: Callable[[Path], Any], tmp_path: Path) -> None:
    truth, results = a_random_scene(2, skill=0.3)
    with_masks(truth, results)
    page = opened(write_report(examined(truth, results), tmp_path))
    assert page.is_visible("#bbox-classes")
    assert page.is_hidden("#segm-classes")
    page.check("[name=group][value=segm]")
    settle(page)
    assert page.is_hidden("#bbox-classes")
    assert page.locator("#segm-mistakes path.other").count() > 0
    assert page.locator("#segm-mistakes rect.other").count() == 0


BOX = (10.0, 10.0, 40.0, 40.0)


@pytest.mark.parametrize(
    ("truth", "results"),
    [
        a_scene([(0, 0, BOX)], []),
        a_scene([], [(0, 0, BOX, 0.5)]),
        a_scene([], []),
        a_scene([(0, 0, BOX)], [(0, 0, BOX, 7.5), (0, 1, BOX, -3.0)]),
        a_scene([(0, 0, BOX)], [(0, 0, BOX, 1.0)], images=3),
    ],
    ids=["nothing found", "nothing labelled", "nothing at all", "scores that are none", "all right"],
)
def test_extremes(truth: Any, results: Any, opened: Callable[[Path], Any], tmp_path: Path) -> None:
    for image in truth["images"]:
        del image["height"], image["file_name"]
    page = opened(write_report(examined(truth, results), tmp_path))
    slide(page, 0.25)
    assert page.is_visible("[data-mistakes]")
    assert "NaN" not in page.inner_text("main")
    assert "nan" not in page.inner_text("main").split()


def test_models_side_by_side(opened: Callable[[Path], Any], tmp_path: Path) -> None:
    truth, results = hostile_scene()
    checked = check_truth(truth, "truth.json")
    rng = np.random.default_rng(0)
    worse = [entry | {"score": float(rng.random())} for entry in results if rng.random() < 0.6]
    measured = [
        examine(checked, check_results(some, checked, name), Measuring(resamples=30))
        for some, name in ((results, "first"), (worse, "<i>second"))
    ]
    for name in checked.file_names:
        a_picture(tmp_path / "pictures" / name, ImageSize(100, 200))
    compared = compare(*measured)
    page = opened(write_comparison(measured, [compared], tmp_path, tmp_path / "pictures"))
    assert "B: <i>second" in page.inner_text("main")
    assert "6 pictures are few: the intervals are rough" in page.inner_text(".list.warning")
    difference = compared["bbox"].metrics["AP"].difference.value
    assert f"{difference:+.3f}" in page.inner_text("#bbox-0-metrics")
    worst = compared["bbox"].pictures[0]
    first = page.locator("figure").first
    assert worst.file_name in first.inner_text()
    assert first.locator("rect.own").count() == worst.only_first
    assert first.locator("rect.other-solid").count() == worst.only_second
    assert first.locator("rect.own-dashed").count() == worst.false_first
    assert first.locator("rect.other").count() == worst.false_second
