"""What is learned from is decided, and what cannot be learned is told, before the first step."""

import logging

import pytest
from builders import a_mask, a_record, an_instance

from sightline.dataset.learned import require_masks, training_images
from sightline.errors import DatasetError
from sightline.records import ImageRecord, ImageSize

EMPTY = a_record(2, labels=())
CROWD = a_record(3, instances=(an_instance(crowd=True),))


@pytest.mark.parametrize(
    ("keep_empty", "expected"), [pytest.param(False, [1], id="filtered"), pytest.param(True, [1, 2, 3], id="kept")]
)
def test_pictures_to_learn_from(keep_empty: bool, expected: list[int]) -> None:
    assert [image.id for image in training_images([a_record(1), EMPTY, CROWD], keep_empty)] == expected


@pytest.mark.parametrize("images", [[], [EMPTY], [EMPTY, CROWD]], ids=["none", "empty", "empty and crowds"])
@pytest.mark.parametrize("keep_empty", [True, False])
def test_nothing_to_learn_from(images: list[ImageRecord], keep_empty: bool) -> None:
    with pytest.raises(DatasetError, match=rf"training data: {len(images)} pictures hold no box to learn from\. Add labelled"):
        training_images(images, keep_empty)


@pytest.mark.parametrize("keep_empty", [True, False])
def test_classes_that_nothing_shows_are_warned_of(caplog: pytest.LogCaptureFixture, keep_empty: bool) -> None:
    """A crowd teaches nothing, so the class of one alone is unseen, too."""
    images = [a_record(1, labels=(1, 1)), EMPTY, a_record(3, instances=(an_instance(3, crowd=True),))]
    training_images(images, keep_empty, ("cat", "dog", "cow", "elk"))
    ((_, level, message),) = caplog.record_tuples
    assert level == logging.WARNING
    assert message == "warning: 3 of 4 classes have no box to learn from and will not be found: cat, cow, elk"


def test_nothing_is_said_when_every_class_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    training_images([a_record(1, labels=(1,)), a_record(2, labels=(0,))], True, ("cat", "dog"))
    assert caplog.messages == []


def test_everything_that_is_wrong_with_masks_is_told_at_once() -> None:
    masked = an_instance(segmentation=a_mask(size=ImageSize(64, 64)))
    images = [a_record(1), a_record(2, size=ImageSize(20, 30), instances=(masked,)), a_record(3, instances=(masked,))]
    with pytest.raises(DatasetError, match=r"002\.jpg: has a mask of 64 x 64 px .*, the picture is 30 x 20 px") as caught:
        require_masks(images)
    assert [problem.where for problem in caught.value.problems] == ["training data", "002.jpg", "003.jpg"]
