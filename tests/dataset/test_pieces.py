"""A picture and its labels, or the next one that can be read; and what was wrong."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import a_data_folder, a_mask, an_instance

from sightline.dataset.pieces import read_next, read_piece
from sightline.errors import DatasetError, ImageError
from sightline.records import ImageRecord, ImageSize, Rle


def broken(folder: Path, *numbers: int, count: int = 4) -> tuple[ImageRecord, ...]:
    """A data folder in which the pictures of these numbers are empty files."""
    images = a_data_folder(folder, count).images
    for number in numbers:
        (folder / f"{number:03d}.png").write_bytes(b"")
    return images


def test_a_picture_as_it_is_labelled(tmp_path: Path) -> None:
    (record, *_) = a_data_folder(tmp_path, masks=True).images
    record = replace(record, instances=(an_instance(0, crowd=True), *record.instances))
    piece = read_piece(record, tmp_path, with_masks=True)
    assert (piece.file_name, piece.size) == ("001.png", (48, 64))
    assert (piece.boxes.tolist(), piece.labels.tolist()) == ([[9, 10, 31, 34]], [1])
    ((outline,),) = piece.masks
    np.testing.assert_array_equal(outline, (9, 10, 31, 10, 31, 34, 9, 34))
    assert list(read_piece(record, tmp_path, with_masks=False).masks) == []


@pytest.mark.parametrize(
    ("bad", "index", "expected", "passed"),
    [
        pytest.param((), 1, "002.png", (), id="readable"),
        pytest.param((2,), 1, "003.png", ("002.png",), id="the next"),
        pytest.param((2, 3), 1, "004.png", ("002.png", "003.png"), id="the one after"),
        pytest.param((3, 4), 2, "001.png", ("003.png", "004.png"), id="after the last comes the first"),
        pytest.param((1, 3, 4), 2, "002.png", ("003.png", "004.png", "001.png"), id="the only one"),
    ],
)
def test_the_next_one_that_can_be_read(
    tmp_path: Path, bad: tuple[int, ...], index: int, expected: str, passed: tuple[str, ...]
) -> None:
    piece, problems = read_next(broken(tmp_path, *bad), index, tmp_path, with_masks=False)
    assert piece.file_name == expected
    assert [problem.where for problem in problems] == [str(tmp_path / name) for name in passed]


def test_if_none_can_be_read_all_are_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"003\.png: is empty \(0 bytes\)") as caught:
        read_next(broken(tmp_path, 1, 2, 3, 4), 2, tmp_path, with_masks=False)
    assert [Path(problem.where).name for problem in caught.value.problems] == ["003.png", "004.png", "001.png", "002.png"]


def test_another_size_and_broken_run_lengths_are_passed_over_too(tmp_path: Path) -> None:
    one, two, three, four = a_data_folder(tmp_path, 4, masks=True).images
    garbage = an_instance(segmentation=Rle(two.size, "garbage"))
    whole = an_instance(segmentation=a_mask((1, 1, 9, 9), three.size))
    records = [replace(one, size=ImageSize(9, 9)), replace(two, instances=(garbage,)), replace(three, instances=(whole,)), four]
    piece, (size, lengths) = read_next(records, 0, tmp_path, with_masks=True)
    assert piece.file_name == "003.png"
    assert len(list(piece.masks)) == 1
    assert "its label says 9 x 9 px" in size.what
    assert "run lengths are broken" in lengths.what
    assert read_next(records, 1, tmp_path, with_masks=False)[0].file_name == "002.png"  # where nobody wants masks


def test_without_skipping_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"001\.png: is empty"):
        read_piece(broken(tmp_path, 1)[0], tmp_path, with_masks=False)
