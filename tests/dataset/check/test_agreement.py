from pathlib import Path

import numpy as np
import pytest
from builders import a_dataset, a_picture, a_record, an_instance

from sightline.dataset.check.agreement import compare, match, pair_up
from sightline.dataset.check.subject import Picture, Subject
from sightline.geometry.boxes import turn
from sightline.records import Dataset, ImageRecord, ImageSize

ONE, TWO, FAR = (10.0, 10.0, 50.0, 50.0), (12.0, 10.0, 52.0, 50.0), (60.0, 10.0, 90.0, 70.0)


def a_subject(*records: ImageRecord, names: tuple[str, ...] = ("cat", "dog")) -> Subject:
    return Subject(Path("set"), names, tuple(Picture(one.file_name, None, one) for one in records), (), ())


def test_a_labelling_agrees_with_itself() -> None:
    dataset = a_dataset([a_record(1, instances=(an_instance(box=ONE), an_instance(1, FAR))), a_record(2, ())])
    agreed, found = compare(a_subject(*dataset.images), dataset)
    assert (agreed.matched, agreed.missed, agreed.added, agreed.mean_iou, agreed.score) == (2, 0, 0, 1.0, 1.0)
    assert found == []


def test_what_differs_is_counted_and_told() -> None:
    here = a_record(1, instances=(an_instance(0, ONE), an_instance(0, FAR)))
    there = a_record(1, instances=(an_instance(1, TWO), an_instance(1, (0.0, 60.0, 20.0, 80.0))))
    agreed, found = compare(a_subject(here), a_dataset([there]))
    assert (agreed.boxes, agreed.other_boxes, agreed.matched, agreed.same_class) == (2, 2, 1, 0)
    assert agreed.mean_iou == pytest.approx(38 / 42)
    assert agreed.score == 0.5
    assert agreed.confusion == {("cat", "dog"): 1}
    assert [str(one) for one in found] == [
        "001.jpg, box 2: 1 cat of 2 boxes here: no counterpart there",
        "001.jpg: 1 dog of 2 boxes there: no counterpart here",
        "001.jpg, box 1: cat here, dog there",
    ]


def test_classes_are_paired_by_name_whatever_their_order_and_case() -> None:
    here = a_record(1, instances=(an_instance(0, ONE),))
    there = a_dataset([a_record(1, instances=(an_instance(1, ONE),))], names=("Dog", "CAT"))
    agreed, found = compare(a_subject(here), there)
    assert (agreed.same_class, found) == (1, [])


def test_a_class_that_only_the_other_has() -> None:
    there = a_dataset([a_record(1, instances=(an_instance(0, ONE),))], names=("kitten",))
    agreed, _ = compare(a_subject(a_record(1, instances=(an_instance(0, ONE),))), there)
    assert agreed.confusion == {("cat", "kitten"): 1}


def test_a_smaller_copy_is_scaled() -> None:
    here = a_record(1, instances=(an_instance(0, ONE),))
    half = a_record(1, instances=(an_instance(0, (5.0, 5.0, 25.0, 25.0)),), size=ImageSize(40, 50))
    assert compare(a_subject(here), a_dataset([half]))[0].mean_iou == 1.0


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_labels_of_the_picture_as_stored_are_turned(tmp_path: Path, orientation: int) -> None:
    stored, shown = ImageSize(80, 100), ImageSize(100, 80)
    path = a_picture(tmp_path / "001.jpg", stored, orientation=orientation)
    box = tuple(turn(np.array([ONE]), stored, orientation)[0].tolist())
    record = a_record(1, instances=(an_instance(0, box),), size=shown)
    subject = Subject(tmp_path, ("cat", "dog"), (Picture("001.jpg", path, record),), (), ())
    there = a_dataset([a_record(1, instances=(an_instance(0, ONE),), size=stored)])
    assert compare(subject, there)[0].mean_iou == 1.0


def test_each_box_is_matched_once_the_closest_first() -> None:
    first = [an_instance(0, ONE)]
    assert match(first, [an_instance(0, TWO), an_instance(1, ONE)]) == [(0, 1, 1.0)]
    assert match(first, [an_instance(1, ONE), an_instance(0, ONE)]) == [(0, 1, 1.0)]  # of two as close, its own class
    assert match(first, []) == []


def test_pictures_are_paired_by_name_source_and_base_name() -> None:
    mine = a_subject(
        a_record(1, file_name="a.jpg"),
        a_record(2, file_name="b.jpg", source="s3://one/x.jpg"),
        a_record(3, file_name="deep/c.jpg"),
        a_record(4, file_name="one/d.jpg"),
        a_record(5, file_name="two/d.jpg"),
    )
    other = [
        a_record(1, file_name="a.jpg"),
        a_record(2, file_name="y.jpg", source="s3://one/x.jpg"),
        a_record(3, file_name="c.jpg"),
        a_record(4, file_name="d.jpg"),
    ]
    assert {name: record.id for name, record in pair_up(mine.pictures, other).items()} == {
        "a.jpg": 1,
        "b.jpg": 2,
        "deep/c.jpg": 3,
    }


def test_pictures_of_one_side_are_told() -> None:
    agreed, (finding,) = compare(a_subject(a_record(1), a_record(2)), Dataset(a_dataset().categories, (a_record(2),)))
    assert agreed.pictures == 1
    assert finding.what == "1 picture only here, 0 only in the other labels; 1 are compared"
