"""Labelled pictures as training batches, whoever reads them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import a_data_folder, a_record, an_instance
from PIL import Image as Pillow
from torch.testing import assert_close

from sightline.dataset.loader import Example, TrainingSet, default_workers, load_batches, training_images
from sightline.dataset.sampling import Draw
from sightline.dataset.transforms import Augmentation
from sightline.errors import DatasetError, ImageError
from sightline.records import ImageRecord, ImageSize

VARIED = Augmentation(min_sizes=(40, 48, 56), max_size=96, sampling="choice", flip="horizontal")
PLAIN = Augmentation(min_sizes=(48,), max_size=96, sampling="choice", flip="none")


def a_training_set(folder: Path, how: Augmentation = VARIED, *, seed: int = 0, order: str = "BGR") -> TrainingSet:
    return TrainingSet(a_data_folder(folder).images, folder, how, color_order=order, seed=seed)


def some_batches(examples: TrainingSet, count: int, *, start: int = 0, workers: int = 0) -> list[list[Example]]:
    return list(islice(load_batches(examples, batch_size=2, by_shape=True, start=start, workers=workers), count))


def assert_same(one: Sequence[Sequence[Example]], other: Sequence[Sequence[Example]]) -> None:
    def flat(batches: Sequence[Sequence[Example]]) -> list[Example]:
        return [example for batch in batches for example in batch]

    assert [len(batch) for batch in one] == [len(batch) for batch in other]
    for a, b in zip(flat(one), flat(other), strict=True):
        assert a.file_name == b.file_name
        assert_close((a.image, a.boxes, a.labels), (b.image, b.boxes, b.labels), rtol=0, atol=0)


def test_an_example_is_the_labelled_picture(tmp_path: Path) -> None:
    """The painted box is bright where the example's box says."""
    examples = a_training_set(tmp_path, PLAIN)
    example = examples.example(Draw(0, 0))
    assert (example.image.dtype, example.boxes.dtype, example.labels.dtype) == (torch.uint8, torch.float32, torch.int64)
    assert (example.image.shape, example.file_name) == ((3, 48, 64), "001.png")
    assert_close(example.boxes, torch.tensor([[9.0, 10, 31, 34]]))
    assert example.labels.tolist() == [1]
    assert (example.image[:, 10:34, 9:31] == 220).all()
    assert (example.image[:, :, 40:] < 100).all()


@pytest.mark.parametrize(("order", "plane"), [("BGR", 2), ("RGB", 0)])
def test_colours(tmp_path: Path, order: str, plane: int) -> None:
    Pillow.new("RGB", (64, 48), (255, 0, 0)).save(tmp_path / "red.png")
    record = a_record(file_name="red.png", size=ImageSize(48, 64))
    image = TrainingSet([record], tmp_path, PLAIN, color_order=order, seed=0).example(Draw(0, 0)).image
    assert [int(channel.float().mean()) for channel in image] == [255 if index == plane else 0 for index in range(3)]


def test_a_position_decides_how_a_picture_varies(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path)
    assert_same([[examples.example(Draw(0, 5))]], [[examples.example(Draw(0, 5))]])
    seen = {(tuple(e.image.shape), tuple(e.boxes[0].tolist())) for e in (examples.example(Draw(0, i)) for i in range(12))}
    assert len(seen) > 3
    other = a_training_set(tmp_path, seed=1)
    assert [examples.example(Draw(0, i)).image.shape for i in range(8)] != [
        other.example(Draw(0, i)).image.shape for i in range(8)
    ]


def test_crowds_and_boxes_clipped_to_nothing_are_left_out(tmp_path: Path) -> None:
    (record, *_) = a_data_folder(tmp_path).images
    instances = (
        an_instance(0, (1, 1, 9, 9), crowd=True),
        an_instance(1, (2, 2, 20, 20)),
        an_instance(0, (64, 0, 64.5, 9)),
    )
    examples = TrainingSet([replace(record, instances=instances)], tmp_path, PLAIN, color_order="BGR", seed=0)
    example = examples.example(Draw(0, 0))
    assert_close(example.boxes, torch.tensor([[2.0, 2, 20, 20]]))
    assert example.labels.tolist() == [1]


def test_a_background_picture_has_no_boxes(tmp_path: Path) -> None:
    dataset = a_data_folder(tmp_path, count=1, empty=1)
    example = TrainingSet(dataset.images, tmp_path, VARIED, color_order="BGR", seed=0).example(Draw(0, 0))
    assert (example.boxes.shape, example.labels.shape) == ((0, 4), (0,))


def test_a_picture_of_another_size_than_its_label_says(tmp_path: Path) -> None:
    (record, *_) = a_data_folder(tmp_path).images
    examples = TrainingSet([replace(record, size=ImageSize(64, 48))], tmp_path, PLAIN, color_order="BGR", seed=0)
    message = (
        r"001\.png: is 64 x 48 px \(width x height\), its label says 48 x 64 px \(width x height\)\. Import the data set again"
    )
    with pytest.raises(DatasetError, match=message):
        examples.example(Draw(0, 0))


def test_a_picture_that_is_gone(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path)
    (tmp_path / "001.png").unlink()
    with pytest.raises(ImageError, match=r"001\.png: cannot be read"):
        examples.example(Draw(0, 0))
    error = examples[Draw(0, 0)]
    assert isinstance(error, ImageError)


@pytest.mark.parametrize("workers", [0, 1])
def test_everything_that_is_wrong_with_a_batch_is_told_at_once(tmp_path: Path, workers: int) -> None:
    examples = a_training_set(tmp_path)
    for record in examples.images:
        (tmp_path / record.file_name).write_bytes(b"")
    with pytest.raises(DatasetError, match=r"00\d\.png: is empty \(0 bytes\)\. .*\n.*00\d\.png: is empty") as caught:
        some_batches(examples, 1, workers=workers)
    assert len(caught.value.problems) == 2


def test_workers_read_the_same_batches_in_the_same_order(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path)
    assert_same(some_batches(examples, 7, workers=2), some_batches(examples, 7))


def test_batches_from_a_step_are_the_rest_of_all_batches(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path)
    assert_same(some_batches(examples, 4, start=3), some_batches(examples, 7)[3:])


def test_pictures_of_a_batch_have_the_same_orientation(tmp_path: Path) -> None:
    for batch in some_batches(a_training_set(tmp_path), 9):
        assert len({example.image.shape[2] > example.image.shape[1] for example in batch}) == 1


@pytest.mark.parametrize("workers", [0, 1])
def test_reading_leaves_torchs_generator_alone(tmp_path: Path, workers: int) -> None:
    """A resumed run restores it; were reading to draw from it, the run would go on differently."""
    examples = a_training_set(tmp_path)
    before = torch.get_rng_state()
    some_batches(examples, 2, workers=workers)
    assert_close(torch.get_rng_state(), before)


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


@pytest.mark.parametrize(("cpus", "expected"), [(1, 0), (2, 0), (3, 1), (4, 2), (6, 4), (64, 4)])
def test_workers_leave_cores_to_the_model(cpus: int, expected: int) -> None:
    assert default_workers(cpus) == expected


def test_arrays_are_not_shared_between_examples(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path, PLAIN)
    one, again = examples.example(Draw(0, 0)), examples.example(Draw(0, 0))
    one.image.fill_(0)
    assert np.asarray(again.image).max() == 220
