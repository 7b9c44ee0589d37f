"""metrics.json as curves: every line that can be read, the resumed run's word over the killed one's, and a readable PNG."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from sightline.errors import MissingDependencyError, SightlineError
from sightline.view.curves import Panel, curves, draw_curves, legend, panels, read_metrics, smoothed, top_of


def a_file(path: Path, *rows: Mapping[str, object], end: str = "") -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + end, encoding="utf-8")
    return path


def row(iteration: int, loss: float = 1.0, **more: float) -> dict[str, float]:
    return {"iteration": iteration, "total_loss": loss, "loss_cls": loss / 2, "lr": 0.01, **more}


def test_rows_as_they_were_written(tmp_path: Path) -> None:
    rows = [row(19), row(39, 0.5)]
    assert read_metrics(a_file(tmp_path / "metrics.json", *rows)) == rows


@pytest.mark.parametrize("end", ['{"iteration": 39, "total_lo', "\x00\x00\n", "[1]\n", '{"epoch": 1}\n', "39\n", "\n"])
def test_a_line_that_is_none_is_passed_over(tmp_path: Path, end: str) -> None:
    assert read_metrics(a_file(tmp_path / "metrics.json", row(19), end=end)) == [row(19)]


def test_an_evaluation_joins_the_row_of_its_iteration(tmp_path: Path) -> None:
    path = a_file(tmp_path / "metrics.json", row(19), {"iteration": 19, "bbox/AP": 0.3}, {"iteration": 24, "bbox/AP": 0.4})
    assert read_metrics(path) == [row(19) | {"bbox/AP": 0.3}, {"iteration": 24, "bbox/AP": 0.4}]


def test_a_resumed_run_replaces_what_the_killed_one_wrote(tmp_path: Path) -> None:
    path = a_file(tmp_path / "metrics.json", row(19), row(39, 2.0), row(59, 3.0), row(39, 0.5), row(79))
    assert read_metrics(path) == [row(19), row(39, 0.5), row(79)]


def test_what_is_no_number_is_left_out(tmp_path: Path) -> None:
    assert read_metrics(a_file(tmp_path / "metrics.json", {**row(19), "note": "x", "bbox/AP": None})) == [row(19)]


def test_no_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"cannot be read .* Name the metrics.json of a run"):
        read_metrics(tmp_path / "metrics.json")


def test_panels_hold_what_there_is() -> None:
    evaluated = {"bbox/AP": 0.3, "bbox/AP50": 0.5, "bbox/APs": 0.1, "bbox/AP-bee": 0.3, "val_loss": 0.9, "val_loss_cls": 0.4}
    found = {panel.title: [curve.name for curve in panel.curves] for panel in panels([row(19), row(39, **evaluated)])}
    assert found == {
        "Loss": ["total_loss", "val_loss"],
        "Parts of the loss (dashed: in validation)": ["loss_cls", "val_loss_cls"],
        "Scores": ["bbox/AP", "bbox/AP50"],
        "Learning rate": ["lr"],
    }
    assert [panel.title for panel in panels([{"iteration": 19, "lr": 0.1}])] == ["Learning rate"]


def test_proposals_have_recalls_only() -> None:
    (panel,) = panels([{"iteration": 19, "box_proposals/AR@100": 0.4, "box_proposals/AR@1000": 0.6}])
    assert [curve.name for curve in panel.curves] == ["box_proposals/AR@100", "box_proposals/AR@1000"]


def test_nan_and_infinity_are_no_points() -> None:
    (curve,) = curves([row(19, float("nan")), row(39, float("inf")), row(59, 0.5)], ["total_loss", "absent"])
    assert (curve.steps.tolist(), curve.values.tolist()) == ([59], [0.5])


def test_smoothing_keeps_lines_straight_and_ends_where_they_are() -> None:
    line = np.arange(200.0)
    np.testing.assert_allclose(smoothed(line), line)
    noisy = np.tile([0.0, 1.0], 100)
    assert np.ptp(smoothed(noisy)[10:-10]) < 0.2
    np.testing.assert_array_equal(smoothed(np.array([3.0])), [3.0])


@pytest.mark.parametrize(
    ("name", "expected"), [("val_loss", "val_loss, best 0.5 at 39"), ("bbox/AP", "bbox/AP, best 0.9 at 19"), ("lr", "lr")]
)
def test_the_legend_tells_the_best(name: str, expected: str) -> None:
    (curve,) = curves([{"iteration": 19, name: 0.9}, {"iteration": 39, name: 0.5}], [name])
    assert legend(curve) == expected


def test_the_first_losses_may_leave_the_panel() -> None:
    rows = [row(0, 100.0), *[row(20 * number, 1.0) for number in range(1, 40)]]
    assert top_of(Panel("Loss", curves(rows, ["total_loss"]), smooth=True)) == pytest.approx(1.1)
    assert top_of(Panel("Scores", curves(rows, ["total_loss"]))) == pytest.approx(110)
    assert top_of(Panel("Scores", curves([{"iteration": 0, "bbox/AP": 0.0}], ["bbox/AP"]))) == 1


@pytest.mark.parametrize(
    "rows", [[row(19)], [row(19), row(39, **{"bbox/AP": 0.3, "val_loss": 0.9})], [{"iteration": 0, "lr": 0}]]
)
def test_a_picture(tmp_path: Path, rows: list[dict[str, float]]) -> None:
    pytest.importorskip("matplotlib")
    draw_curves(rows, tmp_path / "curves.png", title="$1 $unfinished")
    with Pillow.open(tmp_path / "curves.png") as picture:
        assert (picture.format, picture.size) == ("PNG", (1300, 850))
        assert np.asarray(picture.convert("L")).std() > 5
    assert [path.name for path in tmp_path.iterdir()] == ["curves.png"]


def test_nothing_to_draw_is_told(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"curves.png: there are no figures to draw"):
        draw_curves([{"iteration": 19}], tmp_path / "curves.png")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name, name="matplotlib")

    monkeypatch.setattr("sightline.optional.importlib.import_module", missing)
    with pytest.raises(MissingDependencyError, match=r"needs 'matplotlib.*pip install 'sightline\[report\]'"):
        draw_curves([row(19)], tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())
