"""Pictures in, `Detections` out, in pixels of the pictures given."""

import numpy as np
import pytest
import torch
from builders import MASKS, a_detector, a_painting

from sightline.geometry.masks import decode
from sightline.model.predictor import Predictor
from sightline.records import Detections, Image, ImageSize, StagedPredict


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


def test_its_stages_one_by_one_give_the_same() -> None:
    predict = a_predictor()
    assert isinstance(predict, StagedPredict)
    pictures = [a_photo(90, 120, seed=1), a_photo(40, 40, seed=2)]
    sizes = [ImageSize(90, 120), ImageSize(40, 40)]
    found = predict.found([predict.resized(picture) for picture in pictures], sizes)
    for staged, whole in zip(map(predict.detections, found, sizes), predict(pictures), strict=True):
        assert_same(staged, whole)


def test_pictures_that_pad_to_one_size_give_in_a_batch_what_they_give_alone() -> None:
    """The promise that the server batches by: the same numbers up to float noise, also at the border."""
    predict = a_predictor(min_size=64, max_size=96)
    pictures = [a_photo(64, 96, seed=1), a_photo(120, 166, seed=2), a_photo(60, 81, seed=3)]
    resized = [ImageSize(*predict.resized(picture).shape[:2]) for picture in pictures]
    assert len(set(resized)) == 3
    assert {predict.input_size.padded(size) for size in resized} == {ImageSize(64, 96)}
    for together, picture in zip(predict(pictures), pictures, strict=True):
        (alone,) = predict([picture])
        assert len(alone) > 0
        np.testing.assert_array_equal(together.labels, alone.labels)
        np.testing.assert_allclose(together.scores, alone.scores, rtol=0, atol=1e-5)
        np.testing.assert_allclose(together.boxes, alone.boxes, rtol=0, atol=1e-3)


def test_pictures_of_a_batch_keep_their_order_and_sizes() -> None:
    pictures = [a_photo(90, 120, seed=1), a_photo(40, 40, seed=2), a_photo(120, 90, seed=3)]
    assert [found.size for found in a_predictor()(pictures)] == [ImageSize(90, 120), ImageSize(40, 40), ImageSize(120, 90)]


def test_colours_come_as_the_detector_was_trained() -> None:
    """The same picture in the other order, its channels swapped, is the same to the detector."""
    picture = a_photo(64, 64)
    picture[:, :, 0] //= 2
    (one,) = a_predictor(color_order="BGR")([picture])
    (same,) = a_predictor(color_order="RGB")([picture[:, :, ::-1].copy()])
    (other,) = a_predictor(color_order="RGB")([picture])
    assert len(one) > 0
    assert_same(one, same)
    assert not np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize(
    ("size", "expected"), [((128, 128), (64, 64)), ((100, 200), (48, 96)), ((10, 12), (64, 77)), ((96, 64), (96, 64))], ids=str
)
def test_resizing(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert a_predictor().resized(a_photo(*size)).shape == (*expected, 3)


def test_a_detector_in_training_mode_is_set_to_evaluation() -> None:
    detector = a_detector().train()
    Predictor(detector, min_size=64, max_size=96, color_order="BGR")
    assert not any(module.training for module in detector.modules())


def test_masks_are_of_the_picture_given_and_inside_their_boxes() -> None:
    predict = Predictor(a_detector(*MASKS), min_size=64, max_size=96, color_order="BGR")
    (found,) = predict([a_photo(90, 120)])
    assert found.masks is not None
    assert len(found.masks) == len(found) > 0
    for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes, strict=True):
        assert mask.size == (90, 120)
        rows, columns = decode(mask).nonzero()
        assert not len(rows) or (rows.min() >= np.floor(y1) - 1 and rows.max() <= np.ceil(y2))
        assert not len(rows) or (columns.min() >= np.floor(x1) - 1 and columns.max() <= np.ceil(x2))


def test_without_a_mask_head_there_are_no_masks() -> None:
    assert a_predictor()([a_photo(64, 64)])[0].masks is None


def test_prediction_changes_nothing_in_the_detector() -> None:
    predict = a_predictor()
    before = {name: value.clone() for name, value in predict.detector.state_dict().items()}
    predict([a_photo(64, 64)])
    assert all(torch.equal(value, before[name]) for name, value in predict.detector.state_dict().items())
