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

from sightline.dataset.crops import Crop
from sightline.dataset.loader import (
    Example,
    Reading,
    TrainingSet,
    default_workers,
    load_batches,
)
from sightline.dataset.sampling import Draw
from sightline.dataset.transforms import Augmentation
from sightline.errors import DatasetError, ImageError
from sightline.geometry.masks import bounds, encode, in_grid, rasterise
from sightline.records import Box, ImageSize, Instance, Polygons, Rle

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
        assert (a.masks is None) == (b.masks is None)
        for mine, theirs in zip(a.masks or (), b.masks or (), strict=True):
            np.testing.assert_equal(mine, theirs)


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
    assert isinstance(Reading(examples, skip=False)[Draw(0, 0)], ImageError)


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


@pytest.mark.parametrize(("cpus", "expected"), [(1, 0), (2, 0), (3, 1), (4, 2), (6, 4), (64, 4)])
def test_workers_leave_cores_to_the_model(cpus: int, expected: int) -> None:
    assert default_workers(cpus) == expected


def test_arrays_are_not_shared_between_examples(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path, PLAIN)
    one, again = examples.example(Draw(0, 0)), examples.example(Draw(0, 0))
    one.image.fill_(0)
    assert np.asarray(again.image).max() == 220


SQUARE_PICTURE = ImageSize(64, 64)


def corners(box: Box) -> tuple[float, ...]:
    """A rectangle as one part of a labelled outline."""
    x1, y1, x2, y2 = box
    return x1, y1, x2, y1, x2, y2, x1, y2


def run_lengths(segmentation: Polygons, size: ImageSize = SQUARE_PICTURE) -> Rle:
    return encode(rasterise(tuple(np.array(part) for part in segmentation), size))


def a_masked_set(
    folder: Path, *instances: Instance, how: Augmentation = PLAIN, seed: int = 0, mask_format: str = "polygon"
) -> TrainingSet:
    """One grey picture of 64 x 64 px with these instances; `PLAIN` makes 48 x 48 px of it."""
    Pillow.new("RGB", SQUARE_PICTURE, (90, 90, 90)).save(folder / "square.png")
    record = a_record(file_name="square.png", size=SQUARE_PICTURE, instances=instances)
    return TrainingSet([record], folder, how, color_order="BGR", seed=seed, with_masks=True, mask_format=mask_format)


BOX = (16.0, 8.0, 48.0, 40.0)
OUTLINED = an_instance(0, BOX, segmentation=(corners(BOX),))
FILLED = an_instance(1, BOX, segmentation=run_lengths((corners(BOX),)))


def test_masks_that_are_not_wanted(tmp_path: Path) -> None:
    assert a_training_set(tmp_path).example(Draw(0, 0)).masks is None


def test_outlines_stay_outlines_and_run_lengths_become_bitmaps(tmp_path: Path) -> None:
    example = a_masked_set(tmp_path, OUTLINED, FILLED).example(Draw(0, 0))
    assert example.masks is not None
    outlines, bitmap = example.masks
    assert isinstance(outlines, tuple)
    assert outlines[0].dtype == np.float64
    np.testing.assert_array_equal(outlines[0], corners((12, 6, 36, 30)))
    assert isinstance(bitmap, np.ndarray)
    assert (bitmap.shape, bitmap.dtype, bounds(bitmap)) == ((48, 48), np.bool_, (12, 6, 36, 30))
    assert example.labels.tolist() == [0, 1]


def test_all_masks_as_bitmaps(tmp_path: Path) -> None:
    """An outline is drawn at the size of the augmented picture, after it was moved there."""
    example = a_masked_set(tmp_path, OUTLINED, FILLED, mask_format="bitmask").example(Draw(0, 0))
    assert example.masks is not None
    drawn, decoded = example.masks
    np.testing.assert_array_equal(drawn, decoded)
    np.testing.assert_array_equal(drawn, rasterise((np.array(corners((12, 6, 36, 30))),), ImageSize(48, 48)))


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_a_box_whose_mask_vanished_goes_with_it(tmp_path: Path, mask_format: str) -> None:
    instances = (
        an_instance(0, BOX, segmentation=((1.0, 1.0, 2.0, 2.0),)),  # two points enclose nothing
        an_instance(1, BOX, segmentation=run_lengths(())),
        an_instance(0, (64.0, 0.0, 64.5, 9.0), segmentation=(corners(BOX),)),  # a mask, but no box
        an_instance(1, BOX, segmentation=((1.0, 1.0, 2.0, 2.0), corners(BOX))),
    )
    example = a_masked_set(tmp_path, *instances, mask_format=mask_format).example(Draw(0, 0))
    assert example.labels.tolist() == [1]
    assert_close(example.boxes, torch.tensor([[12.0, 6, 36, 30]]))
    assert example.masks is not None
    assert [bounds(mask) for mask in example.masks] == [(12, 6, 36, 30)]


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_a_picture_whose_masks_all_vanished_is_a_negative(tmp_path: Path, mask_format: str) -> None:
    gone = an_instance(0, BOX, segmentation=run_lengths(()))
    example = a_masked_set(tmp_path, gone, mask_format=mask_format).example(Draw(0, 0))
    assert (example.boxes.shape, example.labels.shape, example.masks) == ((0, 4), (0,), ())


def test_a_background_picture_has_no_masks(tmp_path: Path) -> None:
    crop = replace(VARIED, crop=Crop("relative", (0.5, 0.5)))
    assert a_masked_set(tmp_path, how=crop, mask_format="bitmask").example(Draw(0, 0)).masks == ()


L_SHAPE = ((0.0, 0, 64, 0, 64, 16, 8, 16, 8, 64, 0, 64),)
"""Along the picture's upper and left edges; its box is the whole picture."""


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
@pytest.mark.parametrize("kind", ["outline", "run lengths"])
def test_a_crop_tightens_boxes_around_what_is_left_of_masks(tmp_path: Path, mask_format: str, kind: str) -> None:
    """Windows that miss both the upper arm and the left one hold nothing of the object, whatever its box says."""
    how = Augmentation(min_sizes=(32,), max_size=32, sampling="choice", flip="none", crop=Crop("absolute", (32, 32)))
    mask: Polygons | Rle = L_SHAPE if kind == "outline" else run_lengths(L_SHAPE)
    examples = a_masked_set(tmp_path, an_instance(0, (0, 0, 64, 64), segmentation=mask), how=how, mask_format=mask_format)
    seen = set()
    for position in range(40):
        example = examples.example(Draw(0, position))
        assert example.masks is not None
        seen.add(len(example.masks))
        for found, box in zip(example.masks, example.boxes.tolist(), strict=True):
            assert bounds(found) == tuple(box)
            touches_top, touches_left = box[1] == 0, box[0] == 0
            assert touches_top or touches_left
    assert seen == {0, 1}


def test_a_crop_without_masks_cuts_the_box(tmp_path: Path) -> None:
    """Nothing is known of the shape, so the box of the L above stays as large as the window."""
    how = Augmentation(min_sizes=(32,), max_size=32, sampling="choice", flip="none", crop=Crop("absolute", (32, 32)))
    examples = a_masked_set(tmp_path, an_instance(0, (0, 0, 64, 64), segmentation=L_SHAPE), how=how)
    examples.with_masks = False
    for position in range(8):
        assert examples.example(Draw(0, position)).boxes.tolist() == [[0, 0, 32, 32]]


ROUND = tuple(
    float(round(value, 2))
    for angle in np.linspace(0, 2 * np.pi, 24, endpoint=False)
    for value in (32 + 22 * np.cos(angle), 30 + 15 * np.sin(angle))
)


@pytest.mark.parametrize("crop", [None, Crop("relative_range", (0.6, 0.6))], ids=["whole", "cropped"])
def test_whatever_the_format_a_mask_head_learns_the_same(tmp_path: Path, crop: Crop | None) -> None:
    """What is left of one object as outline, drawn outline, and run lengths: in grids of 14 cells they differ at the border."""
    how = replace(VARIED, crop=crop)
    outlined = an_instance(0, (10, 15, 54, 45), segmentation=(ROUND,))
    filled = replace(outlined, segmentation=run_lengths((ROUND,)))
    for position in range(10):
        plain, drawn, decoded = (
            a_masked_set(tmp_path, instance, how=how, mask_format=mask_format).example(Draw(0, position))
            for instance, mask_format in ((outlined, "polygon"), (outlined, "bitmask"), (filled, "polygon"))
        )
        assert_close(drawn.boxes, plain.boxes, rtol=0, atol=1.01)
        assert_close(decoded.boxes, plain.boxes, rtol=0, atol=2.01)
        assert plain.masks and drawn.masks and decoded.masks
        size = ImageSize(*plain.image.shape[1:])
        whole = rasterise(plain.masks[0], size)  # type: ignore[arg-type]
        np.testing.assert_array_equal(drawn.masks[0], whole)
        assert (decoded.masks[0] != whole).mean() < 0.03  # type: ignore[union-attr]
        box = tuple(plain.boxes[0].tolist())
        grid = in_grid(plain.masks[0], box, 14)  # type: ignore[arg-type]
        assert 0.5 < grid.mean() <= 1


@pytest.mark.parametrize("mask_format", ["polygon", "bitmask"])
def test_masks_travel_between_processes(tmp_path: Path, mask_format: str) -> None:
    how = replace(VARIED, crop=Crop("relative_range", (0.5, 0.5)))
    records = [
        replace(record, instances=tuple(replace(i, segmentation=(corners(i.box),)) for i in record.instances))
        for record in a_data_folder(tmp_path).images
    ]
    (lengths,) = (replace(i, segmentation=run_lengths((corners(i.box),), records[0].size)) for i in records[0].instances)
    records[0] = replace(records[0], instances=(*records[0].instances, lengths))
    examples = TrainingSet(records, tmp_path, how, color_order="BGR", seed=0, with_masks=True, mask_format=mask_format)
    read = some_batches(examples, 5, workers=2)
    assert_same(read, some_batches(examples, 5))
    assert sum(len(example.masks or ()) for batch in read for example in batch) > 5


def test_a_position_decides_how_a_picture_is_cropped(tmp_path: Path) -> None:
    how = replace(VARIED, crop=Crop("relative_range", (0.5, 0.5)))
    examples = a_masked_set(tmp_path, OUTLINED, FILLED, how=how)
    assert_same([[examples.example(Draw(0, 5))]], [[examples.example(Draw(0, 5))]])
    assert len({tuple(examples.example(Draw(0, position)).image.shape) for position in range(12)}) > 3
    seeds = [a_masked_set(tmp_path, OUTLINED, how=how, seed=seed).example(Draw(0, 5)).boxes.tolist() for seed in (0, 0, 1)]
    assert seeds[0] == seeds[1] != seeds[2]


def test_boxes_without_masks_are_counted_and_named(tmp_path: Path) -> None:
    bare = [a_record(number, labels=(0, 1)) for number in range(1, 8)]
    images = [*bare, a_record(8, instances=(OUTLINED, an_instance(crowd=True)))]
    message = (
        r"^training data: 14 of 15 boxes have no mask, in 7 of 8 pictures "
        r"\(001\.jpg, 002\.jpg, 003\.jpg, 004\.jpg, 005\.jpg, \.\.\.\)\. Label masks, or set MODEL\.MASK_ON False\.$"
    )
    with pytest.raises(DatasetError, match=message):
        TrainingSet(images, tmp_path, PLAIN, color_order="BGR", seed=0, with_masks=True)
    TrainingSet(images, tmp_path, PLAIN, color_order="BGR", seed=0)


def test_run_lengths_that_are_broken(tmp_path: Path) -> None:
    broken = an_instance(0, BOX, segmentation=Rle(SQUARE_PICTURE, "garbage"))
    with pytest.raises(DatasetError, match=r"square\.png: has a mask whose run lengths are broken \(RLE"):
        a_masked_set(tmp_path, broken).example(Draw(0, 0))
