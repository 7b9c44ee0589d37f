"""Labelled pictures as training batches, whoever reads them."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import PATIENCE_S, a_data_folder, a_mask, a_record, an_instance
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from torch.testing import assert_close

from sightline.dataset.crops import Crop
from sightline.dataset.loader import Example, Reading, TrainingSet, default_workers, load_batches, require_shares
from sightline.dataset.sampling import Draw
from sightline.dataset.transforms import Augmentation
from sightline.errors import ConfigError, DatasetError, ImageError
from sightline.geometry.masks import bounds, encode, in_grid, rasterise
from sightline.records import Box, ImageSize, Instance, Polygons, Rle

VARIED = Augmentation(min_sizes=(40, 48, 56), max_size=96, sampling="choice", flip="horizontal")
PLAIN = Augmentation(min_sizes=(48,), max_size=96, sampling="choice", flip="none")


def a_training_set(folder: Path, how: Augmentation = VARIED, *, seed: int = 0, order: str = "BGR") -> TrainingSet:
    return TrainingSet(a_data_folder(folder).images, folder, how, color_order=order, seed=seed)


def some_batches(examples: TrainingSet, count: int, **options: Any) -> list[list[Example]]:
    defaults = {"batch_size": 2, "by_shape": True, "start": 0, "workers": 0}
    return list(islice(load_batches(examples, **(defaults | options)), count))


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
    assert not active_children(), "an error that is still held keeps no worker alive"


def test_workers_hear_their_parent_alone(tmp_path: Path) -> None:
    """A terminal and a scheduler send SIGTERM to all processes; Python sends it to what is left of its children, and waits."""
    batches = load_batches(a_training_set(tmp_path), batch_size=2, by_shape=True, start=0, workers=1)
    next(batches)
    (worker,) = active_children()
    subprocess.run(["kill", "-TERM", str(worker.pid)], check=True)
    assert [len(batch) for batch in islice(batches, 8)] == [2] * 8
    worker.terminate()
    worker.join(PATIENCE_S)
    assert worker.exitcode == 0
    batches.close()


def test_a_process_that_ends_in_the_middle_of_its_batches_ends(tmp_path: Path) -> None:
    """Held by a module, they are there until the very end."""
    a_data_folder(tmp_path)
    code = """
import sys; sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from test_loader import a_training_set, load_batches
held = load_batches(a_training_set(Path(sys.argv[1])), batch_size=2, by_shape=True, start=0, workers=2)
sys.held = [held, next(held)]
"""
    tests = Path(__file__).parent
    environ = os.environ | {"PYTHONPATH": str(tests.parent)}
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(tests)], env=environ, timeout=PATIENCE_S, check=False)
    assert done.returncode == 0


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


EVERYTHING = replace(
    VARIED, rotate=True, mosaic=0.5, scale_jitter=(0.5, 1.5), colour=0.5, crop=Crop("relative_range", (0.6, 0.6))
)
TURNED = replace(VARIED, rotate=True)


def a_varied_set(
    folder: Path, how: Augmentation = EVERYTHING, *, filled: bool = False, mask_format: str = "polygon"
) -> TrainingSet:
    """Six pictures with an outlined or filled rectangle each, and all that can be varied."""
    images = a_data_folder(folder, masks=True).images
    if filled:
        images = tuple(
            replace(record, instances=tuple(replace(i, segmentation=a_mask(i.box, record.size)) for i in record.instances))
            for record in images
        )
    return TrainingSet(images, folder, how, color_order="BGR", seed=0, with_masks=True, mask_format=mask_format)


@pytest.fixture(scope="module")
def varied_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("varied")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    position=st.integers(0, 10_000),
    index=st.integers(0, 5),
    rotate=st.booleans(),
    mosaic=st.sampled_from([0.0, 1.0]),
    jitter=st.sampled_from([None, (0.3, 2.0)]),
    crop=st.sampled_from([None, Crop("relative_range", (0.4, 0.4))]),
    flip=st.sampled_from(["none", "horizontal", "vertical"]),
    filled=st.booleans(),
    mask_format=st.sampled_from(["polygon", "bitmask"]),
)
def test_whatever_is_varied_boxes_are_inside_and_masks_agree(
    varied_folder: Path,
    position: int,
    index: int,
    rotate: bool,
    mosaic: float,
    jitter: tuple[float, float] | None,
    crop: Crop | None,
    flip: str,
    filled: bool,
    mask_format: str,
) -> None:
    how = replace(VARIED, rotate=rotate, mosaic=mosaic, scale_jitter=jitter, crop=crop, flip=flip)
    example = a_varied_set(varied_folder, how, filled=filled, mask_format=mask_format).example(Draw(index, position))
    height, width = example.image.shape[1:]
    assert max(height, width) <= how.max_size
    assert len(example.boxes) == len(example.labels) == len(example.masks or ())
    scale = max(height, width) / 48  # how large a pixel of the file has become, at most
    for (x1, y1, x2, y2), mask in zip(example.boxes.tolist(), example.masks or (), strict=True):
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        if isinstance(mask, np.ndarray):
            assert mask.shape == (height, width)
        np.testing.assert_allclose(bounds(mask), (x1, y1, x2, y2), atol=1 + scale if isinstance(mask, np.ndarray) else 1e-4)


def test_a_mosaic_shows_what_its_labels_say(varied_folder: Path) -> None:
    """Bright pixels are in boxes, and boxes are bright: in mosaics of grey pictures with one bright rectangle each."""
    how = replace(PLAIN, min_sizes=(0,), mosaic=1.0)
    examples = a_varied_set(varied_folder, how)
    counts = []
    for position in range(20):
        example = examples.example(Draw(position % 6, position))
        assert example.image.shape[1:] == tuple(examples.images[position % 6].size)
        names = example.file_name.split(" + ")
        assert len(names) == 4
        assert names[0] == examples.images[position % 6].file_name
        bright = (example.image[0] > 150).numpy()
        claimed = np.zeros_like(bright)
        for x1, y1, x2, y2 in example.boxes.round().int().tolist():
            claimed[y1:y2, x1:x2] = True
            assert bright[y1:y2, x1:x2].mean() > 0.7
        assert (bright & ~claimed).sum() < 0.1 * bright.sum() + 30  # what is hardly visible has no box
        counts.append(len(example.boxes))
    assert 2 < np.mean(counts) <= 4


def test_a_mosaic_comes_as_often_as_asked(varied_folder: Path) -> None:
    examples = a_varied_set(varied_folder, replace(PLAIN, mosaic=0.3))
    share = np.mean(["+" in examples.example(Draw(0, position)).file_name for position in range(200)])
    assert 0.2 < share < 0.4


def test_a_turned_picture_is_known_before_it_is_read(tmp_path: Path) -> None:
    """So it shares a batch with those that are held as it is shown."""
    examples = a_varied_set(tmp_path, TURNED)
    assert {examples.lies(Draw(0, position)) for position in range(10)} == {True, False}
    for position in range(10):
        height, width = examples.example(Draw(0, position)).image.shape[1:]
        assert (height > width) == examples.lies(Draw(0, position))
    for batch in some_batches(examples, 12):
        assert len({example.image.shape[2] > example.image.shape[1] for example in batch}) == 1


@pytest.mark.parametrize("how", [VARIED, PLAIN], ids=["varied", "plain"])
def test_what_is_off_draws_nothing(tmp_path: Path, how: Augmentation) -> None:
    """Strengths of nothing are off; the first number drawn is that of a size, as before there was anything else."""
    examples = a_varied_set(tmp_path, how)
    zeros = a_varied_set(tmp_path, replace(how, rotate=False, mosaic=0.0, colour=0.0, scale_jitter=None))
    assert_same(some_batches(zeros, 4), some_batches(examples, 4))
    rng, quarters = examples.begin(Draw(0, 3))
    assert quarters == 0
    assert rng.bit_generator.state == np.random.default_rng([0, 3]).bit_generator.state


@pytest.mark.parametrize("how", [EVERYTHING, TURNED], ids=["everything", "turned"])
def test_workers_and_resuming_see_the_same_variations(tmp_path: Path, how: Augmentation) -> None:
    examples = a_varied_set(tmp_path, how)
    whole = some_batches(examples, 6)
    assert_same(some_batches(examples, 6, workers=2), whole)
    assert_same(some_batches(examples, 4, start=2), whole[2:])


@pytest.mark.parametrize(("ranks", "workers"), [(2, 0), (4, 0), (2, 1)])
@pytest.mark.parametrize("by_shape", [True, False])
def test_processes_share_what_one_would_see(tmp_path: Path, ranks: int, workers: int, by_shape: bool) -> None:
    """Every picture of every batch is with exactly one of them, from any step on."""
    examples = a_varied_set(tmp_path)
    examples.factors = np.array([1, 1.5, 2, 1, 1, 1.2], dtype=np.float32)
    whole = some_batches(examples, 5, batch_size=4, by_shape=by_shape)
    shares = [
        some_batches(examples, 3, batch_size=4, by_shape=by_shape, start=2, workers=workers, rank=rank, ranks=ranks)
        for rank in range(ranks)
    ]
    assert all(len(batch) == 4 // ranks for share in shares for batch in share)
    together = [[batches[place % ranks][place // ranks] for place in range(4)] for batches in zip(*shares, strict=True)]
    assert_same(together, whole[2:])


@pytest.mark.parametrize(("batch_size", "ranks"), [(1, 1), (4, 2), (16, 8), (6, 6)])
def test_equal_shares(batch_size: int, ranks: int) -> None:
    require_shares(batch_size, ranks)


@pytest.mark.parametrize(
    ("batch_size", "ranks", "message"),
    [
        (6, 4, r"^SOLVER\.IMS_PER_BATCH: is 6, which 4 processes cannot share equally\. Give 4 or 8\.$"),
        (
            2,
            8,
            r"^SOLVER\.IMS_PER_BATCH: is 2, and 8 processes train: 6 of them would have no picture\. "
            r"Give 8 or a multiple of it, or start at most 2 processes\.$",
        ),
    ],
)
def test_unequal_shares(tmp_path: Path, batch_size: int, ranks: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        require_shares(batch_size, ranks)
    with pytest.raises(ConfigError, match=message):
        some_batches(a_training_set(tmp_path), 1, batch_size=batch_size, ranks=ranks)


def damage(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"")


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("how", [VARIED, EVERYTHING], ids=["plain", "mosaics"])
def test_a_picture_that_cannot_be_read_gives_its_place_to_the_next(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, workers: int, how: Augmentation
) -> None:
    """Nothing else changes, and every file is named once."""
    examples = a_varied_set(tmp_path, how)
    whole = some_batches(examples, 9)
    damage(tmp_path, "002.png", "006.png")
    found = some_batches(examples, 9, workers=workers, on_bad="skip")
    replaced = {"002.png": "003.png", "006.png": "001.png"}
    for before, after in zip(whole, found, strict=True):
        for one, other in zip(before, after, strict=True):
            names = one.file_name.split(" + ")
            assert other.file_name == " + ".join(replaced.get(name, name) for name in names)
            assert len(other.skipped) == sum(name in replaced for name in names)
            if not other.skipped:
                assert_same([[other]], [[one]])
    assert len(caplog.messages) == 2
    for name, message in zip(("002.png", "006.png"), sorted(caplog.messages), strict=True):
        assert message.startswith("warning: skipped, the next picture comes in its place: ")
        assert f"{name}: is empty (0 bytes). " in message


def test_the_replacement_varies_as_the_replaced_would_have(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path)
    expected = examples.example(Draw(2, 7))
    damage(tmp_path, "002.png")
    found = examples.example(Draw(1, 7), skip=True)
    assert [Path(problem.where).name for problem in found.skipped] == ["002.png"]
    assert_same([[found]], [[expected]])


def test_processes_replace_alike(tmp_path: Path) -> None:
    examples = a_varied_set(tmp_path)
    damage(tmp_path, "002.png", "003.png")
    whole = some_batches(examples, 4, batch_size=4, on_bad="skip")
    for rank in range(2):
        share = some_batches(examples, 4, batch_size=4, on_bad="skip", rank=rank, ranks=2)
        assert_same(share, [batch[rank::2] for batch in whole])


@pytest.mark.parametrize("workers", [0, 1])
def test_if_no_picture_can_be_read_skipping_ends(tmp_path: Path, workers: int) -> None:
    examples = a_training_set(tmp_path)
    damage(tmp_path, *(record.file_name for record in examples.images))
    with pytest.raises(DatasetError, match=r"00\d\.png: is empty") as caught:
        some_batches(examples, 1, on_bad="skip", workers=workers)
    assert len(caught.value.problems) == 6  # each once, though both pictures of the batch met all of them


def test_without_skipping_it_stops(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path)
    damage(tmp_path, "002.png")
    with pytest.raises(DatasetError, match=r"002\.png: is empty"):
        some_batches(examples, 4)


def test_a_mosaic_tightens_boxes_around_what_is_left_of_masks(tmp_path: Path) -> None:
    """The L along two edges of every picture: a part that misses one arm has a box around the other alone."""
    examples = a_masked_set(
        tmp_path, an_instance(0, (0, 0, 64, 64), segmentation=L_SHAPE), how=replace(PLAIN, mosaic=1.0), mask_format="bitmask"
    )
    found = [examples.example(Draw(0, position)) for position in range(10)]
    for example in found:
        for mask, box in zip(example.masks or (), example.boxes.tolist(), strict=True):
            assert bounds(mask) == tuple(box)
    examples.with_masks = False
    whole = torch.cat([examples.example(Draw(0, position)).boxes for position in range(10)])
    tight = torch.cat([example.boxes for example in found])
    smaller = (tight[:, 2:] - tight[:, :2] < 0.7 * (whole[:, 2:] - whole[:, :2])).any(dim=1)
    assert 0 < int(smaller.sum()) < len(whole) == 40


def test_rare_classes_come_more_often(tmp_path: Path) -> None:
    examples = a_training_set(tmp_path)
    examples.factors = np.array([1, 1, 3, 1, 1, 1], dtype=np.float32)
    names = [example.file_name for batch in some_batches(examples, 16, by_shape=False) for example in batch]  # 4 epochs of 8
    assert [names.count(f"00{number}.png") for number in range(1, 7)] == [4, 4, 12, 4, 4, 4]
