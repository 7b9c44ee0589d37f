"""The sheet of a batch: true colours, boxes and masks where the model has them, names below."""

import numpy as np
import pytest
from PIL import ImageFont

from sightline.errors import ShapeError
from sightline.geometry.masks import Mask
from sightline.view.batches import GAP_PX, GROUND, LETTERS_PX, LONGEST_SIDE_PX, MOST_PICTURES, draw_batch, fitting, in_rgb
from sightline.view.draw import COLOURS

NO_BOXES, NO_LABELS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def planes(height: int = 320, width: int = 640, colour: tuple[int, int, int] = (10, 20, 30)) -> np.ndarray:
    """(3, H, W) of one colour, in the order of the planes."""
    return np.broadcast_to(np.array(colour, np.uint8)[:, None, None], (3, height, width)).copy()


def sheet(
    *pictures: np.ndarray,
    boxes: tuple[tuple[float, ...], ...] = (),
    masks: tuple[Mask, ...] | None = None,
    order: str = "RGB",
    captions: tuple[str, ...] = (),
) -> np.ndarray:
    """The same boxes, all of label 0, in every picture."""
    count = len(pictures)
    found = np.array(boxes, np.float32).reshape(-1, 4)
    return draw_batch(
        pictures, [found] * count, [np.zeros(len(found), np.int64)] * count, [masks] * count, ["bee"], order, captions
    )


@pytest.mark.parametrize(("order", "expected"), [("RGB", (10, 20, 30)), ("BGR", (30, 20, 10))])
def test_colours_are_shown_as_they_were_in_the_file(order: str, expected: tuple[int, int, int]) -> None:
    assert tuple(sheet(planes(), order=order)[100, 100]) == expected
    assert in_rgb(planes(4, 6), order).shape == (4, 6, 3)


def test_pictures_are_scaled_alike_and_lie_at_the_top_left_of_their_cells() -> None:
    drawn = sheet(planes(640, 1280), planes(320, 640, (90, 90, 90)))
    assert drawn.shape == (320 + 2 * GAP_PX, 2 * LONGEST_SIDE_PX + 3 * GAP_PX, 3)
    second = drawn[:, GAP_PX + LONGEST_SIDE_PX + GAP_PX :]
    np.testing.assert_array_equal(second[GAP_PX : GAP_PX + 160, :320], 90)
    np.testing.assert_array_equal(second[GAP_PX + 160 :], np.broadcast_to(GROUND, second[GAP_PX + 160 :].shape))


def test_boxes_lie_on_the_scaled_picture() -> None:
    drawn = sheet(planes(640, 1280), boxes=((200, 200, 600, 400),))
    assert tuple(drawn[GAP_PX + 150, GAP_PX + 100]) == COLOURS[0]
    assert tuple(drawn[GAP_PX + 150, GAP_PX + 300]) == COLOURS[0]
    assert tuple(drawn[GAP_PX + 150, GAP_PX + 200]) == (10, 20, 30)


@pytest.mark.parametrize("kind", ["outlines", "bitmap"])
def test_masks_are_painted_from_outlines_and_from_bitmaps(kind: str) -> None:
    bitmap = np.zeros((320, 640), dtype=bool)
    bitmap[100:200, 100:300] = True
    outlines = (np.array([100.0, 100, 300, 100, 300, 200, 100, 200]),)
    drawn = sheet(planes(), boxes=((50, 50, 400, 300),), masks=(outlines if kind == "outlines" else bitmap,))
    red = drawn[GAP_PX + 150, GAP_PX + 200, 0]
    assert 100 < red < 140  # half of the colour's 230, half of the picture's 10
    assert tuple(drawn[GAP_PX + 250, GAP_PX + 200]) == (10, 20, 30)


@pytest.mark.parametrize("empty", [(), np.zeros((320, 640), dtype=bool)])
def test_a_mask_of_nothing_paints_nothing(empty: Mask) -> None:
    box = ((50.0, 50.0, 400.0, 300.0),)
    np.testing.assert_array_equal(sheet(planes(), boxes=box, masks=(empty,)), sheet(planes(), boxes=box))


def test_captions_stand_below() -> None:
    drawn = sheet(planes(), captions=("a.jpg",))
    assert drawn.shape[0] == 320 + 3 * GAP_PX + LETTERS_PX
    assert drawn[GAP_PX + 321 :, :100].max() > 150


def test_a_long_caption_keeps_its_end() -> None:
    font = ImageFont.load_default(size=LETTERS_PX)
    short = fitting("a/very/long/" * 20 + "name.jpg", font, 200)
    assert short.startswith("... ")
    assert short.endswith("name.jpg")
    assert font.getbbox(short)[2] <= 200
    assert fitting("name.jpg", font, 200) == "name.jpg"


def test_a_large_batch_shows_its_first() -> None:
    many = [planes(8, 8, (index, 0, 0)) for index in range(MOST_PICTURES + 3)]
    drawn = sheet(*many)
    assert drawn[..., 0][drawn[..., 1] == 0].max() == MOST_PICTURES - 1


@pytest.mark.parametrize("shape", [(1, 1), (1, 2000), (3, 2)])
def test_any_size_can_be_drawn(shape: tuple[int, int]) -> None:
    assert sheet(planes(*shape), boxes=((0, 0, 1, 1),)).ndim == 3


def test_the_arguments_are_not_painted_on() -> None:
    image = planes()
    sheet(image, boxes=((50, 50, 400, 300),))
    np.testing.assert_array_equal(image, planes())


@pytest.mark.parametrize("pictures", [[], [planes(), planes()]])
def test_one_of_everything_for_each_picture(pictures: list[np.ndarray]) -> None:
    with pytest.raises(ShapeError, match=r"batch: its parts have .* entries\. Give one of each"):
        draw_batch(pictures, [NO_BOXES] if pictures else [], [NO_LABELS] if pictures else [], [None] * len(pictures), [], "RGB")
