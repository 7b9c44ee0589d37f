import itertools

import numpy as np
import pytest
from builders import a_record, an_instance

from sightline.dataset.check.anchors import Anchors, best_overlaps, findings_of
from sightline.dataset.check.findings import Gravity
from sightline.dataset.check.subject import Picture
from sightline.geometry.boxes import Boxes, pairwise_iou
from sightline.records import Box, ImageSize


def some_anchors(**changes: object) -> Anchors:
    defaults = {
        "sizes": ((32,), (64,)),
        "ratios": ((0.5, 1.0, 2.0), (0.5, 1.0, 2.0)),
        "strides": (8, 16),
        "offset": 0.0,
        "foreground": 0.7,
        "background": 0.3,
        "min_sizes": (80,),
        "max_size": 1333,
    }
    return Anchors(**(defaults | changes))  # type: ignore[arg-type]


def whole_grid(anchors: Anchors, size: ImageSize) -> Boxes:
    """Every anchor, made one by one."""
    boxes = []
    for stride, width, height in anchors.shapes():
        for row, column in itertools.product(range(-(-size.height // stride)), range(-(-size.width // stride))):
            x, y = (column + anchors.offset) * stride, (row + anchors.offset) * stride
            boxes.append((x - width / 2, y - height / 2, x + width / 2, y + height / 2))
    return np.array(boxes)


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_the_nearest_cell_is_the_best_of_the_whole_grid(offset: float) -> None:
    rng = np.random.default_rng(3)
    size, anchors = ImageSize(75, 130), some_anchors(offset=offset)
    corners = rng.uniform(0, [130, 75], (200, 2, 2))
    boxes = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)
    expected = pairwise_iou(boxes, whole_grid(anchors, size)).max(axis=1)
    got = best_overlaps(boxes, np.tile([130.0, 75.0], (200, 1)), anchors)
    np.testing.assert_allclose(got, expected, rtol=1e-9)


def fitted(box: Box, **changes: object) -> tuple[float, float, list[str]]:
    """(share matched, share never, what is advised) of pictures of 100 x 80 px with that box."""
    pictures = [Picture(f"{number}.jpg", None, a_record(instances=(an_instance(box=box),))) for number in range(3)]
    (row,), found = findings_of(pictures, ("cat", "dog"), some_anchors(**changes))
    return row.matched, row.never, [f"{one.how_grave} {one.remedy}" for one in found]


def test_a_box_on_an_anchor_is_matched() -> None:
    assert fitted((24.0, 24.0, 56.0, 56.0)) == (1.0, 0.0, [])


def test_a_small_box_asks_for_a_larger_picture_and_gets_it() -> None:
    small = (30.0, 30.0, 38.0, 38.0)
    matched, never, (advice,) = fitted(small)
    assert (matched, never) == (0.0, 1.0)
    assert advice.startswith(f"{Gravity.GRAVE} Train larger (INPUT.MIN_SIZE_TRAIN some 320,")
    assert fitted(small, min_sizes=(320,))[0] == 1.0


@pytest.mark.parametrize(
    ("box", "changes", "words"),
    [
        ((0.0, 0.0, 100.0, 80.0), {"sizes": ((8,), (16,))}, "Add anchors of about 89 px"),
        ((0.0, 36.0, 100.0, 44.0), {}, "ASPECT_RATIOS"),
        ((10.0, 10.0, 26.0, 26.0), {"sizes": ((4,), (64,)), "ratios": ((1.0,), (1.0,))}, "Put more sizes on each level"),
    ],
)
def test_the_advice_names_what_is_missing(box: Box, changes: dict[str, object], words: str) -> None:
    assert words in fitted(box, **changes)[2][0]


def test_every_training_size_counts_and_crowds_do_not() -> None:
    crowd = an_instance(crowd=True)
    pictures = [Picture("a.jpg", None, a_record(instances=(an_instance(), crowd)))]
    (row,), _ = findings_of(pictures, ("cat",), some_anchors(min_sizes=(40, 80, 160)))
    assert row.boxes == 3
    assert findings_of([], ("cat",), some_anchors()) == ([], [])
