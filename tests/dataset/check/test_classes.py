from builders import a_record

from sightline.dataset.check.classes import densities, findings_of, similar_names
from sightline.dataset.check.findings import Gravity
from sightline.dataset.check.subject import Picture, Subject


def a_subject(parts: dict[str, list[list[int]]], names: tuple[str, ...] = ("cat", "dog")) -> Subject:
    """Pictures with these labels, part by part."""
    pictures = [
        Picture(f"{part}{number}.jpg", None, a_record(labels=labels), part if len(parts) > 1 else "")
        for part, all_labels in parts.items()
        for number, labels in enumerate(all_labels)
    ]
    return Subject(__file__, names, tuple(pictures), tuple(parts) if len(parts) > 1 else (), ())  # type: ignore[arg-type]


def test_balanced_classes_say_nothing() -> None:
    assert list(findings_of(a_subject({"all": [[0, 1]] * 25}))) == []


def test_frequencies() -> None:
    subject = a_subject({"all": [[0] * 50, [0] * 50, [1] * 5]}, ("cat", "dog", "cow"))
    told = {(one.kind, one.where): one.what for one in findings_of(subject)}
    assert told == {
        ("rare-class", "class dog"): "has 5 boxes",
        ("imbalance", "classes"): "cat has 100 boxes, dog 5: 20 times as many",
        ("unused-class", "class cow"): "has no box",
    }


def test_a_class_missing_from_train_is_grave() -> None:
    subject = a_subject({"train": [[0]] * 30, "val": [[1]] * 30})
    missing = [one for one in findings_of(subject) if one.kind == "class-missing"]
    assert [(one.where, one.how_grave) for one in missing] == [("class dog", Gravity.GRAVE), ("class cat", Gravity.WARNING)]
    assert missing[0].what == "has 30 boxes, none of them in train: it cannot be learned"


def test_names_that_differ_by_case_or_blanks() -> None:
    found = list(similar_names(("traffic light", "Traffic_Light", "car", "cars", " car", "猫", "犬")))
    assert [one.what for one in found] == [
        "'traffic light' and 'Traffic_Light' are two classes",
        "'car' and ' car' are two classes",
    ]
    assert [one.what for one in similar_names(("a", "A", "a-"))] == ["'a' and 'A' and 'a-' are 3 classes"]
    assert list(similar_names(("C++", "C#", "C", "กา", "กี"))) == []  # signs and vowel marks tell names apart


def test_pictures_without_objects_grow_graver() -> None:
    for empty, gravity in ((1, Gravity.NOTE), (3, Gravity.WARNING), (4, Gravity.GRAVE)):
        subject = a_subject({"all": [[]] * empty + [[0]] * (4 - empty)})
        (finding,) = [one for one in findings_of(subject) if one.kind == "no-objects"]
        assert finding.how_grave is gravity
        assert finding.what.startswith(f"{empty} of 4 pictures")


def test_unusual_numbers_of_boxes() -> None:
    usual = [[0] * (9 + number % 4) for number in range(40)]
    pictures = a_subject({"all": [*usual, [0] * 60, [0]]}).pictures
    assert [(one.kind, one.where) for one in densities(pictures, ("cat",))] == [
        ("crowded-picture", "all40.jpg"),
        ("sparse-picture", "all41.jpg"),
    ]
    assert list(densities(pictures[-10:], ("cat",))) == []
