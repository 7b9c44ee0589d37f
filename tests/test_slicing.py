"""Sliced prediction, with a detector that sees exactly what lies in the pixels it is given."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from painted import painted, perfect

from sightline.errors import ConfigError
from sightline.geometry.masks import decode
from sightline.records import Box, Detections, Image, ImageSize, Model, Predict
from sightline.slicing import Slices, Tile, in_slices, put_together, seen_in_tiles, sliced, starts


def boxes_of(found: Detections) -> set[Box]:
    return {tuple(map(float, box)) for box in found.boxes}


@st.composite
def layouts(draw: st.DrawFn) -> tuple[ImageSize, list[Box], Slices]:
    """A picture with objects that keep 4 px apart, some larger than the tiles; tiles of any size and overlap."""
    size = ImageSize(draw(st.integers(20, 240)), draw(st.integers(20, 240)))
    boxes: list[Box] = []
    for _ in range(draw(st.integers(0, 8))):
        x1, y1 = draw(st.integers(0, size.width - 8)), draw(st.integers(0, size.height - 8))
        width, height = draw(st.integers(6, 120)), draw(st.integers(6, 120))
        x2, y2 = min(x1 + width, size.width), min(y1 + height, size.height)
        if all(x2 + 4 <= a or c + 4 <= x1 or y2 + 4 <= b or d + 4 <= y1 for a, b, c, d in boxes):
            boxes.append((float(x1), float(y1), float(x2), float(y2)))
    slices = Slices(
        height=draw(st.integers(32, 100)),
        width=draw(st.integers(32, 100)),
        overlap=draw(st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.5])),
        whole=draw(st.booleans()),
    )
    return size, boxes, slices


@given(layouts())
def test_each_object_once_and_whole(layout: tuple[ImageSize, list[Box], Slices]) -> None:
    size, boxes, slices = layout
    image = painted(size, boxes)
    (found,) = sliced(perfect, slices)([image])
    assert sorted(boxes_of(found)) == sorted(boxes)
    assert len(found) == len(boxes)
    assert found.masks is not None
    for box, label, mask in zip(found.boxes.tolist(), found.labels.tolist(), found.masks, strict=True):
        number = boxes.index(tuple(box)) + 1
        assert label == number % 2
        assert mask.size == size
        np.testing.assert_array_equal(decode(mask), image[..., 0] == number)
    assert (np.diff(found.scores) <= 0).all()


@settings(max_examples=25)
@given(layouts(), st.integers(0, 10**6))
def test_neither_order_nor_batch_size_matters(layout: tuple[ImageSize, list[Box], Slices], seed: int) -> None:
    size, boxes, slices = layout
    image = painted(size, boxes)
    seen = seen_in_tiles(perfect, image, slices, 1)
    shuffled = random.Random(seed).sample(seen, len(seen))
    for merge in ("seams", "nms", "nmm"):
        asked = replace(slices, merge=merge)
        one, other = put_together(seen, size, asked), put_together(shuffled, size, asked)
        (batched,) = sliced(perfect, asked, batch_size=5)([image])
        for again in (other, *(() if slices.fit(size) else (batched,))):
            np.testing.assert_array_equal(again.boxes, one.boxes)
            np.testing.assert_array_equal(again.scores, one.scores)
            assert again.masks == one.masks


@given(st.integers(1, 400), st.integers(32, 200), st.floats(0, 0.95))
def test_tiles_cover_a_side(length: int, side: int, overlap: float) -> None:
    begins = starts(length, side, overlap)
    seen = np.zeros(length, dtype=bool)
    for begin in begins:
        assert begin >= 0
        assert begin + min(side, length) <= length
        seen[begin : begin + side] = True
    assert seen.all()
    assert begins == sorted(set(begins))
    assert all(after - before <= side - round(side * overlap) or after - before == 1 for before, after in pairwise(begins))


def test_tiles_of_a_picture() -> None:
    slices = Slices(height=40, width=50, overlap=0.2)
    full = ImageSize(40, 50)
    shifted = [Tile(top, left, full) for top in (0, 20) for left in (0, 40, 50)]  # at 80 it would reach out of the picture
    assert slices.tiles(ImageSize(60, 100)) == shifted
    assert slices.tiles(ImageSize(30, 100)) == [Tile(0, left, ImageSize(30, 50)) for left in (0, 40, 50)]


def test_a_picture_that_fits_gets_the_plain_answer() -> None:
    asked: list[int] = []

    def counting(images: Sequence[Image]) -> list[Detections]:
        asked.append(len(images))
        return perfect(images)

    small, large = painted(ImageSize(64, 64), [(3, 5, 20, 30)]), painted(ImageSize(64, 65), [(3, 5, 20, 30)])
    first, second, third = sliced(counting, Slices.square(64))([small, large, small])
    assert asked == [2, 1, 1, 1]  # both small ones together, two tiles, the whole
    (plain,) = perfect([small])
    for found in (first, third):
        np.testing.assert_array_equal(found.boxes, plain.boxes)
        assert found.masks == plain.masks
        assert found.size == plain.size
    assert second.size == (64, 65)
    assert sliced(counting, Slices.square(64))([]) == []


def shrinking(images: Sequence[Image]) -> list[Detections]:
    """As a detector that resizes to 64 px: what gets smaller than 4 px there is not seen."""
    return [perfect([image], masks=False, least_px=-(-4 * max(image.shape) // 64))[0] for image in images]


def test_small_objects_of_a_large_picture_are_found() -> None:
    boxes: list[Box] = [(30.0 + 97 * k, 40.0 + 61 * k, 38.0 + 97 * k, 50.0 + 61 * k) for k in range(8)] + [(400, 20, 700, 200)]
    image = painted(ImageSize(600, 800), boxes)
    (plain,) = shrinking([image])
    (found,) = sliced(shrinking, Slices.square(128))([image])
    (without,) = sliced(shrinking, Slices.square(128, whole=False))([image])
    assert boxes_of(plain) == {boxes[-1]}
    assert boxes_of(found) == set(boxes)
    assert boxes_of(without) == set(boxes)  # the large one from its pieces
    assert found.masks is None


def of(*seen: tuple[Tile, Box, float]) -> list[tuple[Tile, Detections]]:
    """Sightings of class 0, boxes in pixels of their tiles."""
    return [
        (
            tile,
            Detections(
                tile.size, np.array([box], dtype=np.float32), np.array([score], dtype=np.float32), np.zeros(1, dtype=np.int64)
            ),
        )
        for tile, box, score in seen
    ]


LEFT, RIGHT = Tile(0, 0, ImageSize(100, 100)), Tile(0, 80, ImageSize(100, 100))
PICTURE = ImageSize(100, 180)


@pytest.mark.parametrize(
    ("merge", "measure", "expected"),
    [
        pytest.param("seams", "iou", [(60, 10, 120, 40)], id="pieces that continue each other"),
        pytest.param("nms", "iou", [(60, 10, 100, 40), (80, 10, 120, 40)], id="below half of the union"),
        pytest.param("nms", "ios", [(60, 10, 100, 40)], id="half of the smaller one, and what lies beyond is lost"),
        pytest.param("nmm", "ios", [(60, 10, 120, 40)], id="joined"),
    ],
)
def test_an_object_in_two_pieces(merge: str, measure: str, expected: list[Box]) -> None:
    """It is 60 px wide, and tiles share 20 px."""
    slices = Slices.square(100, merge=merge, measure=measure)
    found = put_together(of((LEFT, (60, 10, 100, 40), 0.9), (RIGHT, (0, 10, 40, 40), 0.8)), PICTURE, slices)
    assert sorted(boxes_of(found)) == expected
    assert found.scores[0] == np.float32(0.9)


def test_the_whole_one_stays_though_its_piece_scores_more() -> None:
    """Suppression would keep the piece; that is why sides on borders count."""
    seen = of((LEFT, (85, 10, 100, 40), 0.95), (RIGHT, (5, 10, 45, 40), 0.6))
    assert boxes_of(put_together(seen, PICTURE, Slices.square(100))) == {(85, 10, 125, 40)}
    assert boxes_of(put_together(seen, PICTURE, Slices.square(100, merge="nms", measure="ios"))) == {(85, 10, 100, 40)}


def test_two_that_one_tile_shows_are_two() -> None:
    """The model has seen both and its own suppression has let them pass."""
    seen = of((LEFT, (10, 10, 50, 40), 0.9), (LEFT, (14, 10, 54, 40), 0.8))
    for merge in ("seams", "nms", "nmm"):
        assert len(put_together(seen, PICTURE, Slices.square(100, merge=merge))) == 2


def test_neighbours_at_a_border_stay_two() -> None:
    """A small one in front of the border, seen whole by both, beside a large one that is cut."""
    seen = of(
        (LEFT, (84, 50, 94, 60), 0.9),
        (RIGHT, (4, 50, 14, 60), 0.85),
        (LEFT, (50, 10, 100, 45), 0.8),
        (RIGHT, (0, 11, 30, 45), 0.7),
    )
    assert boxes_of(put_together(seen, PICTURE, Slices.square(100))) == {(84, 50, 94, 60), (50, 10, 110, 45)}


def test_classes_apart_or_together() -> None:
    (one,) = of((LEFT, (82, 10, 96, 40), 0.9))
    (tile, other) = of((RIGHT, (2, 10, 16, 40), 0.8))[0]
    seen = [one, (tile, replace(other, labels=np.ones(1, dtype=np.int64)))]
    assert len(put_together(seen, PICTURE, Slices.square(100))) == 2
    together = put_together(seen, PICTURE, Slices.square(100, per_class=False))
    assert together.labels.tolist() == [0]


def test_a_limit_keeps_the_best() -> None:
    boxes: list[Box] = [(10.0 * k, 10, 10.0 * k + 8, 10 + 2 * k) for k in range(1, 9)]
    image = painted(ImageSize(64, 128), boxes)
    (found,) = sliced(perfect, Slices.square(64, max_detections=3))([image])
    (all_found,) = sliced(perfect, Slices.square(64))([image])
    np.testing.assert_array_equal(found.scores, all_found.scores[:3])
    (small,) = sliced(perfect, Slices.square(128, max_detections=3))([image])
    assert len(small) == 3


def test_nothing_anywhere() -> None:
    (found,) = sliced(perfect, Slices.square(64))([np.zeros((100, 100, 3), dtype=np.uint8)])
    assert len(found) == 0 and found.masks == () and found.size == (100, 100)


def test_many_sightings_are_not_compared_with_all_others() -> None:
    """8,000 small ones in a large picture: all pairs would be 64 million, and those of two tiles are few."""
    rng = np.random.default_rng(0)
    corners = rng.integers(0, 4900, (8_000, 2)).astype(np.float32)
    boxes = np.concatenate((corners, corners + 12), axis=1)
    size = ImageSize(5000, 5000)
    slices = Slices.square(1000)
    seen = []
    for tile in slices.tiles(size):
        inside = ((boxes[:, :2] >= (tile.left, tile.top)) & (boxes[:, 2:] <= (tile.left + 1000, tile.top + 1000))).all(axis=1)
        own = boxes[inside] - np.array([tile.left, tile.top] * 2, dtype=np.float32)
        scores = np.full(len(own), 0.5, dtype=np.float32)
        seen.append((tile, Detections(tile.size, own, scores, np.zeros(len(own), dtype=np.int64))))
    found = put_together(seen, size, slices)
    assert boxes_of(found) <= {tuple(map(float, box)) for box in boxes}
    assert len(found) > 7_000


def test_a_model_that_tells_of_its_slices() -> None:
    model = Model(perfect, ("a", "b"), "m", {"scores": 1})
    told = in_slices(model, Slices(height=480, width=640, overlap=0.25, whole=False, merge="nms", max_detections=9))
    assert told.facts == {
        "scores": 1,
        "slices": "in slices of 640 x 480 px (width x height), overlapping by 0.25, merged by nms from iou 0.5 on, at most 9",
    }
    assert model.facts == {"scores": 1}


@pytest.mark.parametrize(("text", "sides"), [("640", (640, 640)), ("480x640", (480, 640)), (" 64 ", (64, 64))])
def test_sizes_in_words(text: str, sides: tuple[int, int]) -> None:
    slices = Slices.asked(text)
    assert (slices.height, slices.width) == sides


def test_all_that_is_wrong_at_once() -> None:
    with pytest.raises(ConfigError) as raised:
        Slices(height=8, width=640, overlap=1.0, merge="sum", measure="l2", threshold=0, max_detections=0)  # type: ignore[arg-type]
    assert [problem.what for problem in raised.value.problems] == [
        "have a height of 8 px",
        "overlap by 1",
        "are merged from an overlap of 0 on",
        "are merged by 'sum'",
        "are measured by 'l2'",
        "keep at most 0 detections",
    ]
    with pytest.raises(ConfigError, match=r"slices: are of 'large' px\. Give a side as 640"):
        Slices.asked("large")


def test_it_is_a_predict() -> None:
    predict: Predict = sliced(perfect, Slices.square(64))
    assert len(predict([painted(ImageSize(70, 70), [(60, 60, 68, 68)])])[0]) == 1
