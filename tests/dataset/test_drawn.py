"""The drawn data set: the same for a seed, boxes exact to the pixels, classes in balance."""

from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sightline.dataset.drawn import CATEGORIES, MIN_VISIBLE, PAINTERS, Placed, draw, visible_box, write
from sightline.dataset.drawn_scenery import NOTHING, SUPERSAMPLING, Canvas, Colour, Points
from sightline.images import read_image
from sightline.records import ImageRecord, ImageSize

SIZE = ImageSize(120, 160)


@pytest.fixture(scope="module")
def records() -> list[ImageRecord]:
    return [record for _, record in draw(120, seed=0)]


class BodyOnly(Canvas):
    """Paints the labelled shape and leaves out strings, tails and bows, which no box includes."""

    def line(self, points: Points, colour: Colour, width: float, owner: int | None = None) -> None:
        pass

    def fill(self, points: Points, colour: Colour, owner: int | None = None) -> None:
        if owner is not None:
            super().fill(points, colour, owner)


def blank(canvas_type: type[Canvas] = Canvas) -> Canvas:
    return canvas_type(SIZE, np.zeros((2, 2, 3)))


def test_a_seed_always_draws_the_same() -> None:
    for (first, record), (again, record_again) in zip(draw(3, seed=5), draw(3, seed=5), strict=True):
        np.testing.assert_array_equal(first, again)
        assert record == record_again


def test_a_picture_does_not_depend_on_how_many_are_drawn() -> None:
    np.testing.assert_array_equal(list(draw(2, seed=1))[1][0], list(draw(4, seed=1))[1][0])


def test_another_seed_draws_other_pictures() -> None:
    assert [record.instances for _, record in draw(3, seed=1)] != [record.instances for _, record in draw(3, seed=2)]


def test_pictures_are_rgb_of_the_recorded_size() -> None:
    for image, record in draw(5):
        assert image.dtype == np.uint8
        assert image.shape == (*record.size, 3)


def test_boxes_lie_inside_their_pictures(records: list[ImageRecord]) -> None:
    for record in records:
        for x1, y1, x2, y2 in (instance.box for instance in record.instances):
            assert 0 <= x1 < x2 <= record.size.width
            assert 0 <= y1 < y2 <= record.size.height


def test_ids_count_from_one_and_names_differ(records: list[ImageRecord]) -> None:
    assert [record.id for record in records] == list(range(1, 121))
    assert len({record.file_name for record in records}) == 120


def test_classes_are_balanced_and_some_pictures_are_empty(records: list[ImageRecord]) -> None:
    labels = Counter(instance.label for record in records for instance in record.instances)
    assert set(labels) == set(range(len(CATEGORIES)))
    assert min(labels.values()) > 0.4 * labels.total()
    counts = Counter(len(record.instances) for record in records)
    assert 0.02 < counts[0] / len(records) < 0.2
    assert max(counts) <= 5


def test_objects_and_pictures_vary_in_size(records: list[ImageRecord]) -> None:
    lengths = [max(x2 - x1, y2 - y1) for record in records for x1, y1, x2, y2 in (thing.box for thing in record.instances)]
    assert np.percentile(lengths, 5) < 40
    assert np.percentile(lengths, 95) > 80
    assert {record.size.width > record.size.height for record in records} == {True, False}
    assert all(min(record.size) >= 176 and max(record.size) <= 320 for record in records)


@pytest.mark.parametrize("label", PAINTERS)
@pytest.mark.parametrize("seed", range(5))
def test_a_box_is_as_tight_as_the_painted_pixels(label: int, seed: int) -> None:
    canvas = blank(BodyOnly)
    area = PAINTERS[label](canvas, np.random.default_rng(seed), np.array([80.0, 60.0]), 50, 1)
    painted = canvas.picture().max(axis=2) > 0
    rows, columns = np.flatnonzero(painted.any(axis=1)), np.flatnonzero(painted.any(axis=0))
    expected = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    box = visible_box(np.asarray(canvas.owners), Placed(1, label, area))
    assert box is not None
    np.testing.assert_allclose(box, expected, atol=1)


@pytest.mark.parametrize("label", PAINTERS)
@pytest.mark.parametrize("seed", range(12))
def test_decoration_stays_inside_the_body(label: int, seed: int) -> None:
    """Highlights, bands and patterns must not reach beyond what the box was measured from."""

    class NoLines(BodyOnly):
        def fill(self, points: Points, colour: Colour, owner: int | None = None) -> None:
            bow = owner is None and len(points) == 6 and label == 1
            if not bow:
                Canvas.fill(self, points, colour, owner)

    canvas = blank(NoLines)
    PAINTERS[label](canvas, np.random.default_rng(seed), np.array([80.0, 60.0]), 50, 1)
    outside = (np.asarray(canvas.owners) == NOTHING) & (np.asarray(canvas.pixels).max(axis=2) > 0)
    assert np.count_nonzero(outside) < 4 * SUPERSAMPLING**2


@pytest.mark.parametrize("label", PAINTERS)
def test_the_area_is_the_shapes(label: int) -> None:
    canvas = blank()
    area = PAINTERS[label](canvas, np.random.default_rng(3), np.array([80.0, 60.0]), 60, 1)
    owned = np.count_nonzero(np.asarray(canvas.owners)) / SUPERSAMPLING**2
    assert owned == pytest.approx(area, rel=0.05)


def test_what_is_hidden_has_no_box_and_what_is_half_hidden_a_smaller_one() -> None:
    owners = np.zeros((40 * SUPERSAMPLING, 40 * SUPERSAMPLING), np.uint8)
    owners[: 20 * SUPERSAMPLING, : 10 * SUPERSAMPLING] = 1
    assert visible_box(owners, Placed(1, 0, area=400)) == (0, 0, 10, 20)
    assert visible_box(owners, Placed(1, 0, area=200 / MIN_VISIBLE + 1)) is None
    assert visible_box(owners, Placed(2, 0, area=1)) is None


def test_written_pictures_are_the_drawn_ones(tmp_path: Path) -> None:
    dataset = write(tmp_path, 3, seed=4)
    assert dataset.class_names == ("balloon", "kite")
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == [record.file_name for record in dataset.images]
    for (drawn, record), written in zip(draw(3, seed=4), dataset.images, strict=True):
        assert record == written
        read = read_image(tmp_path / "images" / record.file_name)
        assert np.abs(read.astype(int) - drawn).mean() < 6  # JPEG


def test_writing_again_replaces_the_pictures(tmp_path: Path) -> None:
    write(tmp_path, 3)
    write(tmp_path, 2)
    assert len(list((tmp_path / "images").iterdir())) == 2


def test_sizes_do_not_follow_a_pattern(records: list[ImageRecord]) -> None:
    assert sum(before.size == after.size for before, after in pairwise(records)) < 5
