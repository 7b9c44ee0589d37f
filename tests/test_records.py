"""The nouns: what is validated once, and what is counted."""

import dataclasses
import gc
import re

import numpy as np
import pytest
from builders import a_dataset, a_record

from sightline.errors import ShapeError
from sightline.records import Detections, ImageSize, many_records


def detections(**changes: np.ndarray) -> Detections:
    defaults = {
        "boxes": np.array([[0, 0, 9, 9], [1, 1, 5, 5]], dtype=np.float32),
        "scores": np.array([0.9, 0.5], dtype=np.float32),
        "labels": np.array([1, 0], dtype=np.int64),
    }
    return Detections(size=ImageSize(10, 20), **(defaults | changes))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        pytest.param("boxes", np.zeros((3, 4)), "boxes has shape (3, 4). Pass (2, 4): there are 2 scores.", id="more boxes"),
        pytest.param("boxes", np.zeros((2, 5)), "boxes has shape (2, 5). Pass (2, 4)", id="five numbers"),
        pytest.param("boxes", np.zeros(4), "boxes has shape (4,). Pass (2, 4)", id="one box"),
        pytest.param("labels", np.zeros(3), "labels has shape (3,). Pass (2,)", id="more labels"),
        pytest.param("scores", np.zeros((2, 1)), "scores has shape (2, 1). Pass (2,)", id="scores in a column"),
        pytest.param("scores", np.zeros(0), "boxes has shape (2, 4). Pass (0, 4): there are 0 scores.", id="no scores"),
    ],
)
def test_shapes_that_contradict_each_other(name: str, value: np.ndarray, message: str) -> None:
    with pytest.raises(ShapeError, match=rf"^Detections: {re.escape(message)}"):
        detections(**{name: value})


def test_nothing_found() -> None:
    none = detections(boxes=np.zeros((0, 4)), scores=np.zeros(0), labels=np.zeros(0))
    assert (len(none), len(none.above(0.0))) == (0, 0)


@pytest.mark.parametrize(("threshold", "labels"), [(0.0, [1, 0]), (0.5, [1, 0]), (0.51, [1]), (0.95, [])])
def test_above(threshold: float, labels: list[int]) -> None:
    found = detections().above(threshold)
    assert found.labels.tolist() == labels
    assert found.size == ImageSize(10, 20)
    assert found.boxes.shape == (len(labels), 4)


def test_records_do_not_change() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        detections().size = ImageSize(1, 1)  # type: ignore[misc]
    with pytest.raises(dataclasses.FrozenInstanceError):
        a_record().file_name = "other.jpg"  # type: ignore[misc]


def test_height_comes_first_and_people_read_width_first() -> None:
    size = ImageSize(480, 640)
    assert (size.height, size.width, str(size)) == (480, 640, "640 x 480 px (width x height)")


def test_a_data_set_counts() -> None:
    dataset = a_dataset([a_record(1, labels=(0, 1)), a_record(2, labels=())])
    assert (dataset.instance_count, dataset.class_names) == (2, ("cat", "dog"))


def test_the_search_for_cycles_rests_while_records_are_made_and_goes_on_after_an_error() -> None:
    assert gc.isenabled()
    with pytest.raises(ShapeError), many_records():
        with many_records():
            assert not gc.isenabled()
        assert not gc.isenabled()
        raise ShapeError("a", "b", "c")
    assert gc.isenabled()
