"""A detector over a data set: everything it found, in the data set's classes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import a_data_folder, a_mask

from sightline.errors import DatasetError
from sightline.evaluation.predicting import detect_all, label_map, order_notes
from sightline.records import Category, Detections, Image, ImageSize, Model


def predict(images: Sequence[Image]) -> list[Detections]:
    """A detection of the second class with a mask of its own size in every picture."""
    found = []
    for image in images:
        size = ImageSize(*image.shape[:2])
        box = np.float32([[1, 2, size.width / 2, size.height / 2]])
        found.append(Detections(size, box, np.float32([0.5]), np.int64([1]), (a_mask(tuple(box[0]), size),)))
    return found


def test_labels_become_the_data_sets_and_masks_stay(tmp_path: Path) -> None:
    dataset = a_data_folder(tmp_path, 3)
    found = detect_all(Model(predict, ("dog", "cat"), "fake"), dataset, tmp_path, batch_size=2)
    assert list(found) == [1, 2, 3]
    for image in dataset.images:
        assert found[image.id].labels.tolist() == [0]
        assert found[image.id].masks[0].size == image.size


def test_unknown_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="detects 'object', the data set has 'cat', 'dog'"):
        detect_all(Model(predict, ("cat", "object"), "fake"), a_data_folder(tmp_path, 1), tmp_path)


def test_proposals_need_no_class_of_the_data_set(tmp_path: Path) -> None:
    model = Model(predict, ("object", "other object"), "fake", proposes=True)
    found = detect_all(model, a_data_folder(tmp_path, 1), tmp_path)
    assert found[1].labels.tolist() == [0]


@pytest.mark.parametrize(
    ("names", "labels", "said"),
    [
        pytest.param(("dog", "cat"), [1, 0], False, id="another order"),
        pytest.param(("dog",), [1], False, id="some of them"),
        pytest.param(("class 0", "class 1"), [0, 1], True, id="no names"),
    ],
)
def test_classes_are_matched_by_name_or_it_is_said(
    names: tuple[str, ...], labels: list[int], said: bool, tmp_path: Path
) -> None:
    dataset = a_data_folder(tmp_path, 1)  # cat, dog
    assert label_map(names, dataset, "a model").tolist() == labels
    notes = order_notes(Model(predict, names, "a model"), dataset)
    assert bool(notes) == said
    assert all("its classes are taken for the data set's, in that order ('cat', 'dog')" in note for note in notes)


def test_numbers_can_be_names(tmp_path: Path) -> None:
    dataset = replace(a_data_folder(tmp_path, 1), categories=(Category(1, "class 1"), Category(2, "class 0")))
    names = ("class 0", "class 1")
    assert label_map(names, dataset, "a model").tolist() == [1, 0]
    assert order_notes(Model(predict, names, "a model"), dataset) == ()
