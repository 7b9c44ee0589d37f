import json
from pathlib import Path
from typing import Any

import pytest
from builders import a_coco, a_dataset, a_picture, a_record
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sightline import coco
from sightline.dataset.check.findings import Gravity
from sightline.dataset.check.run import run
from sightline.dataset.check.subject import read_subject
from sightline.errors import DatasetError, LabelError, SightlineError


def written(folder: Path, part: str, content: dict[str, object]) -> Path:
    path = folder / "annotations" / f"{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def annotation(identity: int, **changes: object) -> dict[str, object]:
    return {"id": identity, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40], "iscrowd": 0} | changes


def test_one_bad_box_does_not_hide_the_others(tmp_path: Path) -> None:
    broken = [
        annotation(1),
        annotation(2, bbox=[90, 20, 30, 40]),
        annotation(3, bbox=[10, 20, 0, 40], image_id=9),
        annotation(4, category_id=55, image_id=9),
    ]
    written(tmp_path, "all", a_coco(annotations=broken))
    a_picture(tmp_path / "images/a.jpg")
    subject = read_subject(tmp_path)
    assert [(one.kind, one.where, one.picture) for one in subject.findings] == [
        ("box-outside", "a.jpg, annotations[1]", "a.jpg"),
        ("empty-box", "b.jpg, annotations[2]", "b.jpg"),
        ("broken-label", "b.jpg, annotations[3]", "b.jpg"),
    ]
    assert subject.findings[0].marks[0].box == (90, 20, 120, 60)
    assert all(one.how_grave is Gravity.GRAVE for one in subject.findings)
    assert [(picture.name, picture.labels_broken) for picture in subject.pictures] == [("a.jpg", True), ("b.jpg", True)]
    assert subject.pictures[0].path == tmp_path / "images/a.jpg"


def test_the_labels_of_parts_are_checked_and_all_tells_what_is_in_none(tmp_path: Path) -> None:
    whole = a_dataset([a_record(number) for number in (1, 2, 3)])
    coco.write(whole, tmp_path / "annotations/all.json")
    coco.write(a_dataset([a_record(1, (1, 1))]), tmp_path / "annotations/train.json")
    coco.write(a_dataset([a_record(1), a_record(2)]), tmp_path / "annotations/val.json")
    subject = read_subject(tmp_path)
    assert [(picture.name, picture.part) for picture in subject.pictures] == [
        ("001.jpg", "train"),
        ("002.jpg", "val"),
        ("003.jpg", ""),
    ]
    assert len(subject.pictures[0].record.instances) == 2
    assert [(one.kind, one.what) for one in subject.findings] == [
        ("in-two-parts", "is in train and in val"),
        ("in-no-part", "1 picture in no part: 003.jpg"),
    ]


def test_folds_share_their_pictures_on_purpose(tmp_path: Path) -> None:
    for part in ("all", "fold1_train", "fold2_train"):
        coco.write(a_dataset(), tmp_path / f"annotations/{part}.json")
    subject = read_subject(tmp_path)
    assert (subject.parts, subject.findings) == ((), ())


def test_parts_with_other_class_lists(tmp_path: Path) -> None:
    coco.write(a_dataset([a_record(1, (0,))], ("cat", "dog")), tmp_path / "annotations/train.json")
    coco.write(a_dataset([a_record(2, (0,))], ("dog", "cat")), tmp_path / "annotations/val.json")
    subject = read_subject(tmp_path)
    assert [one.kind for one in subject.findings] == ["class-order"]
    labels = [picture.record.instances[0].label for picture in subject.pictures]
    assert [subject.class_names[label] for label in labels] == ["cat", "dog"]


def test_equal_names_in_the_folders_of_a_coco_set(tmp_path: Path) -> None:
    for part in ("train2017", "val2017"):
        coco.write(a_dataset([a_record(1)]), tmp_path / f"annotations/instances_{part}.json")
        a_picture(tmp_path / part / "001.jpg")
    subject = read_subject(tmp_path)
    assert len({picture.name for picture in subject.pictures}) == 2
    assert all(picture.path is not None and picture.path.is_file() for picture in subject.pictures)


def test_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no data set"):
        read_subject(tmp_path)
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(LabelError, match="is not JSON"):
        read_subject(tmp_path / "labels.json")


NAMES = ("x", "a/../b", "\0")
ODD = st.sampled_from([None, True, -1, 0, 1.5, 7, 1e300, *NAMES, [], {}, [1, 2, 3, 4], [-5, 0, 0, 1e9], [[]]])
LISTS = st.sampled_from(["images", "annotations", "categories"])
CHANGES = st.lists(st.tuples(LISTS, st.integers(0, 1), st.just("whole"), ODD), max_size=4)


@given(changes=CHANGES, data=st.data())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_in_the_file_is_a_finding_or_our_own_error(
    changes: list[tuple[str, int, str, object]], data: st.DataObject, tmp_path: Path
) -> None:
    content: dict[str, Any] = a_coco(annotations=[annotation(1), annotation(2, image_id=9)])
    for name, index, other, value in changes:
        entry = content[name][index] if isinstance(content[name][index], dict) else {}
        key = data.draw(st.sampled_from([*entry, other]))
        content[name][index] = value if key == other else entry | {key: value}
    path = written(tmp_path, "all", content)
    try:
        subject = read_subject(path)
    except SightlineError:
        return
    report = run(subject)
    assert report.pictures == len(subject.pictures)
    json.dumps(report.as_dict())
