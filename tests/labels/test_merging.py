from dataclasses import replace

import pytest
from builders import a_dataset, a_record, an_instance
from hypothesis import given
from hypothesis import strategies as st

from sightline.errors import LabelError
from sightline.labels.merging import merge
from sightline.records import Category, Dataset, ImageSize

HERE, THERE = "s3://here/1.jpg", "s3://there/1.jpg"


def names_of(dataset: Dataset) -> list[list[str]]:
    return [[dataset.class_names[instance.label] for instance in image.instances] for image in dataset.images]


def test_classes_are_joined_by_name() -> None:
    one = a_dataset([a_record(1, (0, 1))], names=("cat", "dog"))
    other = a_dataset([a_record(2, (0, 1))], names=("dog", "owl"))
    merged, notes = merge([one, other])
    assert merged.class_names == ("cat", "dog", "owl")
    assert names_of(merged) == [["cat", "dog"], ["dog", "owl"]]
    assert notes == []


def test_one_dataset_alone_stays_as_it_is() -> None:
    dataset = Dataset((Category(3, "zebra"), Category(90, "ant")), (a_record(7, (0, 1)),))
    assert merge([dataset]) == (dataset, [])


def test_classes_with_one_new_name_become_one() -> None:
    merged, notes = merge([a_dataset([a_record(labels=(0, 1))])], rename={"cat": "pet", "dog": "pet"})
    assert merged.class_names == ("pet",)
    assert names_of(merged) == [["pet", "pet"]]
    assert notes == [
        "dataset 1: the class 'cat' (1 objects) is now 'pet'.",
        "dataset 1: the class 'dog' (1 objects) is now 'pet'.",
    ]


def test_names_can_be_exchanged() -> None:
    merged, _ = merge([a_dataset([a_record(labels=(0, 1))])], rename={"cat": "dog", "dog": "cat"})
    assert names_of(merged) == [["dog", "cat"]]


def test_a_dropped_class_leaves_its_pictures() -> None:
    merged, notes = merge([a_dataset([a_record(1, (0,)), a_record(2, (0, 1))])], drop=["cat"])
    assert merged.class_names == ("dog",)
    assert names_of(merged) == [[], ["dog"]]
    assert notes == ["dataset 1: the class 'cat' (2 objects) was dropped; 1 pictures lost all objects."]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"rename": {"cst": "pet"}}, "--rename: there is no class 'cst'. Did you mean 'cat'?", id="unknown"),
        pytest.param({"drop": ["dgo"]}, "--drop: there is no class 'dgo'. Did you mean 'dog'?", id="unknown drop"),
        pytest.param({"rename": {"cat": "dog"}, "drop": ["dog"]}, "'cat' becomes 'dog', which is dropped", id="to dropped"),
        pytest.param({"rename": {"cat": "pet"}, "drop": ["cat"]}, "'cat' is dropped, too", id="renamed and dropped"),
        pytest.param({"rename": {"cat": " "}}, "'cat' gets an empty name", id="no name"),
        pytest.param({"on_duplicate": "lsat"}, "unknown rule 'lsat'. Did you mean 'last'?", id="rule"),
    ],
)
def test_what_is_asked_wrongly_is_said(options: dict[str, object], message: str) -> None:
    with pytest.raises(LabelError) as caught:
        merge([a_dataset()], **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_a_picture_in_two_datasets_needs_a_rule() -> None:
    same = an_instance(0)
    one = a_dataset([a_record(1, source=HERE, instances=(same,)), a_record(2, source=THERE)])
    other = a_dataset([a_record(1, source=HERE, instances=(same, an_instance(1))), a_record(2, source=THERE, labels=())])
    with pytest.raises(
        LabelError, match=r"b: s3://here/1.jpg is in a, too. Choose .*--on-duplicate first, last or merge"
    ) as caught:
        merge([one, other], places=["a", "b"])
    assert len(caught.value.problems) == 2
    for rule, expected in (
        ("first", [["cat"], ["cat"]]),
        ("last", [["cat", "dog"], []]),
        ("merge", [["cat", "dog"], ["cat"]]),
    ):
        merged, notes = merge([one, other], on_duplicate=rule)  # type: ignore[arg-type]
        assert names_of(merged) == expected
        assert notes[0].startswith("dataset 2: 2 pictures are in dataset 1, too; ")


def test_boxes_of_pictures_of_two_sizes_are_not_joined() -> None:
    one, other = a_dataset([a_record()]), a_dataset([a_record(size=ImageSize(100, 80))])
    with pytest.raises(
        LabelError, match=r"001.jpg is 80 x 100 px .*, and 100 x 80 px .* in dataset 1: their boxes cannot be joined"
    ):
        merge([one, other], on_duplicate="merge")
    assert merge([one, other], on_duplicate="last")[0].images[0].size == ImageSize(100, 80)


def test_a_picture_without_source_is_known_by_its_file_name() -> None:
    one, other = a_dataset([a_record(source=HERE)]), a_dataset([a_record()])
    for parts in ([one, other], [other, one]):
        merged, _ = merge(parts, on_duplicate="first")
        assert [image.source for image in merged.images] == [HERE]


def test_equal_file_names_of_two_sources_become_two() -> None:
    merged, _ = merge([a_dataset([a_record(source=HERE)]), a_dataset([a_record(source=THERE)])])
    assert [(image.id, image.file_name) for image in merged.images] == [(1, "here/1.jpg"), (2, "there/1.jpg")]


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.booleans()), max_size=4), max_size=3))
def test_every_picture_comes_out_once(parts: list[list[tuple[int, bool]]]) -> None:
    datasets = [
        a_dataset(
            [
                replace(a_record(number), file_name=f"{name}.jpg", source=f"s3://b/{name}" if sourced else "")
                for number, (name, sourced) in enumerate(pictures, 1)
            ]
        )
        for pictures in parts
    ]
    merged, _ = merge(datasets, on_duplicate="merge")
    keys = [(image.source, image.file_name) for image in merged.images]
    assert len({name for _, name in keys}) == len({image.id for image in merged.images}) == len(keys)
    assert {source for source, _ in keys if source} == {
        image.source for part in datasets for image in part.images if image.source
    }
    again, _ = merge([merged])
    assert again == merged


def test_names_that_differ_only_in_blanks_are_one_class() -> None:
    one, other = a_dataset([a_record(1)], names=("cat ", "dog ")), a_dataset([a_record(2)], names=("cat", "owl"))
    merged, notes = merge([one, other])
    assert merged.class_names == ("cat", "dog ", "owl")
    assert names_of(merged) == [["cat"], ["cat"]]
    assert notes == ["The classes 'cat ' and 'cat' differ only in blanks; they are one class."]


def test_copies_in_another_bucket_are_noted_and_one_by_choice() -> None:
    one = a_dataset([a_record(1, (0,), source=HERE), a_record(2, source="s3://here/2.jpg")])
    other = a_dataset([a_record(1, (1,), source=THERE)])
    merged, notes = merge([one, other])
    assert len(merged.images) == 3
    assert [note for note in notes if "1 pictures share their names" in note and f"({HERE} and {THERE})" in note]
    with pytest.raises(LabelError, match=r"b: s3://there/1.jpg is in a, too"):
        merge([one, other], same_picture="name", places=["a", "b"])
    merged, notes = merge([one, other], same_picture="name", on_duplicate="last")
    assert names_of(merged) == [["dog"], ["cat"]]
    assert notes == ["dataset 2: 1 pictures are in dataset 1, too; the last labels count."]


def test_names_that_do_not_tell_pictures_apart_are_no_rule() -> None:
    one = a_dataset([a_record(1, source=HERE), a_record(2, source=THERE)])
    with pytest.raises(LabelError, match=r"dataset 1: has 2 pictures called 1.jpg: .*leave --same-picture name out"):
        merge([one, a_dataset([])], same_picture="name", on_duplicate="last")


def test_accents_are_one_class_however_they_are_written() -> None:
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    one, other = a_dataset([a_record(1)], names=(composed,)), a_dataset([a_record(2)], names=(decomposed,))
    merged, notes = merge([one, other])
    assert merged.class_names == (composed,)
    assert len(notes) == 1
    assert "encoding of their accents" in notes[0]
    assert merge([other], rename={composed: "place"})[0].class_names == ("place",)
    assert merge([one, other], drop=[decomposed])[0].class_names == ()
