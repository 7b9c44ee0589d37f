"""Pictures in, `Detections` out, in pixels of the pictures given."""

import numpy as np
import pytest
import torch
from builders import a_detector, a_painting

from sightline.model.predictor import Predictor
from sightline.records import Detections, Image, ImageSize


def a_predictor(**changes: object) -> Predictor:
    defaults = {"min_size": 64, "max_size": 96, "color_order": "BGR"}
    return Predictor(a_detector(), **(defaults | changes))  # type: ignore[arg-type]


def a_photo(height: int, width: int, seed: int = 0) -> Image:
    return a_painting(ImageSize(height, width), [(width * 0.2, height * 0.2, width * 0.6, height * 0.7)], seed)


def assert_same(one: Detections, other: Detections) -> None:
    assert one.size == other.size
    for name in ("boxes", "scores", "labels"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("size", [(64, 64), (200, 150), (30, 20), (1, 1), (1, 400), (500, 3)], ids=str)
def test_detections_refer_to_the_picture_given(size: tuple[int, int]) -> None:
    (found,) = a_predictor()([a_photo(*size)])
    assert found.size == ImageSize(*size)
    assert (found.boxes.dtype, found.scores.dtype, found.labels.dtype) == (np.float32, np.float32, np.int64)
    assert (found.boxes >= 0).all()
    assert (found.boxes[:, [0, 2]] <= size[1]).all() and (found.boxes[:, [1, 3]] <= size[0]).all()
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_no_pictures_no_detections() -> None:
    assert a_predictor()([]) == []


def test_the_same_picture_gives_the_same_bits() -> None:
    predict = a_predictor()
    (one,), (again,) = predict([a_photo(90, 120)]), predict([a_photo(90, 120)])
    assert len(one) > 0
    assert_same(one, again)


def test_pictures_of_a_batch_keep_their_order_and_sizes() -> None:
    pictures = [a_photo(90, 120, seed=1), a_photo(40, 40, seed=2), a_photo(120, 90, seed=3)]
    assert [found.size for found in a_predictor()(pictures)] == [ImageSize(90, 120), ImageSize(40, 40), ImageSize(120, 90)]


@pytest.mark.parametrize(("order", "first"), [("BGR", 30), ("RGB", 10)])
def test_colours_come_as_the_detector_was_trained(order: str, first: int) -> None:
    picture = np.full((64, 64, 3), (10, 20, 30), dtype=np.uint8)
    assert a_predictor(color_order=order).resized(picture)[0].unique().tolist() == [first]


@pytest.mark.parametrize(
    ("size", "expected"), [((128, 128), (64, 64)), ((100, 200), (48, 96)), ((10, 12), (64, 77)), ((96, 64), (96, 64))], ids=str
)
def test_resizing(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert tuple(a_predictor().resized(a_photo(*size)).shape) == (3, *expected)


def test_a_detector_in_training_mode_is_set_to_evaluation() -> None:
    detector = a_detector().train()
    Predictor(detector, min_size=64, max_size=96, color_order="BGR")
    assert not any(module.training for module in detector.modules())


def test_prediction_changes_nothing_in_the_detector() -> None:
    predict = a_predictor()
    before = {name: value.clone() for name, value in predict.detector.state_dict().items()}
    predict([a_photo(64, 64)])
    assert all(torch.equal(value, before[name]) for name, value in predict.detector.state_dict().items())
