"""A sheet of pictures with labels or detections."""

import numpy as np
import pytest

from sightline.errors import ShapeError
from sightline.records import Detections, ImageRecord, ImageSize, Instance
from sightline.view.batches import GAP_PX, GROUND, PAPER
from sightline.view.draw import COLOURS
from sightline.view.sheet import LONGEST_SIDE_PX, sheet

NAMES = ("cat", "dog")
PICTURE = np.full((120, 160, 3), 90, np.uint8)


def record(*instances: Instance, height: int = 120, width: int = 160) -> ImageRecord:
    return ImageRecord(1, "a.jpg", ImageSize(height, width), instances)


def found(*scores: float) -> Detections:
    boxes = np.array([(20 + 40 * place, 60, 50 + 40 * place, 100) for place in range(len(scores))], np.float32)
    return Detections(ImageSize(120, 160), boxes.reshape(-1, 4), np.array(scores, np.float32), np.ones(len(scores), np.int64))


def has(image: np.ndarray, colour: tuple[int, int, int]) -> bool:
    return bool((image == colour).all(axis=-1).any())


def test_labels_and_detections_beside_each_other() -> None:
    made = sheet([PICTURE, PICTURE], [record(Instance((20, 60, 50, 100), 0)), found(0.9)], NAMES)
    assert made.shape == (120 + 2 * GAP_PX, 2 * 160 + 3 * GAP_PX, 3)
    left, right = made[:, : 160 + GAP_PX], made[:, 160 + GAP_PX :]
    assert has(left, COLOURS[0])
    assert not has(left, COLOURS[1])
    assert has(right, COLOURS[1])
    assert tuple(made[0, 0]) == GROUND


def test_detections_below_the_threshold_are_left_out() -> None:
    assert not has(sheet([PICTURE], [found(0.4)], NAMES), COLOURS[1])
    assert has(sheet([PICTURE], [found(0.4)], NAMES, threshold=0.3), COLOURS[1])


def test_a_large_picture_is_made_smaller_with_its_boxes() -> None:
    large = np.full((960, 480, 3), 90, np.uint8)
    made = sheet([large], [record(Instance((0, 480, 480, 960), 1), height=960, width=480)], NAMES)
    assert made.shape == (LONGEST_SIDE_PX + 2 * GAP_PX, LONGEST_SIDE_PX // 2 + 2 * GAP_PX, 3)
    assert not has(made[: GAP_PX + 200], COLOURS[1])
    assert has(made[GAP_PX + 240 :], COLOURS[1])


def test_masks_are_painted_and_captions_written() -> None:
    outlined = Instance((20, 20, 100, 100), 0, segmentation=((20.0, 20.0, 100.0, 20.0, 100.0, 100.0, 20.0, 100.0),))
    plain, masked = (
        sheet([PICTURE], [record(one)], NAMES, captions=["a.jpg"]) for one in (Instance(outlined.box, 0), outlined)
    )
    inside = (slice(GAP_PX + 50, GAP_PX + 70), slice(GAP_PX + 50, GAP_PX + 70))
    assert (plain[inside] == 90).all()
    assert (masked[inside] != 90).all()
    assert (plain[120 + GAP_PX :] > PAPER[0] - 60).any()


@pytest.mark.parametrize(("images", "captions"), [(0, ()), (2, ()), (1, ("a", "b"))])
def test_one_of_everything_for_each_picture(images: int, captions: tuple[str, ...]) -> None:
    with pytest.raises(ShapeError, match=r"sheet: its parts have \[.*\] entries"):
        sheet([PICTURE] * images, [found()][: images or 0], NAMES, captions=captions)
