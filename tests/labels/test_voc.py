import json
from pathlib import Path

import pytest
from builders import SIZE, a_dataset, a_picture, a_record, an_instance

from sightline import labels
from sightline.errors import LabelError, SightlineError
from sightline.records import ImageSize

BOX = "<xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax>"


def an_object(box: str = BOX, name: str = "cat", more: str = "") -> str:
    return f"<object><name>{name}</name>{more}<bndbox>{box}</bndbox></object>"


def an_xml(path: Path, *objects: str, filename: str = "a.jpg", size: tuple[object, object] | None = (100, 80)) -> Path:
    told = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<annotation><filename>{filename}</filename>{told}{''.join(objects)}</annotation>", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("options", "box"),
    [
        ({}, (10.0, 20.0, 40.0, 60.0)),
        ({"voc_origin": 1}, (10.0, 20.0, 40.0, 60.0)),
        ({"voc_origin": 0}, (11.0, 21.0, 40.0, 60.0)),
    ],
)
def test_pixels_count_from_one_unless_told(tmp_path: Path, options: dict[str, int], box: tuple[float, ...]) -> None:
    dataset = labels.read(an_xml(tmp_path / "a.xml", an_object()), **options).dataset  # type: ignore[arg-type]
    (image,) = dataset.images
    assert (image.id, image.file_name, image.size, dataset.class_names) == (1, "a.jpg", SIZE, ("cat",))
    assert image.instances == (an_instance(0, box),)  # type: ignore[arg-type]


def test_a_folder_is_read_as_a_whole(tmp_path: Path) -> None:
    an_xml(tmp_path / "Annotations/b.xml", an_object(name="dog"), filename="b.jpg")
    an_xml(tmp_path / "Annotations/a.xml", an_object(name="cat", more="<difficult>1</difficult><truncated>1</truncated>"))
    picture = a_picture(tmp_path / "JPEGImages/a.jpg")
    imported = labels.read(tmp_path)
    assert [image.file_name for image in imported.dataset.images] == ["a.jpg", "b.jpg"]
    assert imported.dataset.class_names == ("cat", "dog")
    assert imported.dataset.images[0].instances[0].crowd
    assert imported.pictures == {"a.jpg": picture}
    assert imported.report.notes == (
        "Not kept: truncated (1 objects).",
        "1 difficult objects are crowd regions: not trained on, not counted as misses.",
    )


@pytest.mark.parametrize(
    ("filename", "there", "expected"),
    [
        pytest.param("a.jpg", "a.jpg", "a.jpg", id="as written"),
        pytest.param("a", "a.png", "a.png", id="without its suffix"),
        pytest.param("a.jpg", "a.png", "a.png", id="with another suffix"),
        pytest.param("", "x.jpg", "x.jpg", id="none"),
        pytest.param("other.jpg", "x.jpg", "x.jpg", id="the file's own name counts"),
        pytest.param("C:\\pictures\\a.jpg", "a.jpg", "a.jpg", id="another machine's path"),
        pytest.param("a", None, "a.jpg", id="no suffix and no picture"),
    ],
)
def test_the_picture_is_found_by_name_or_stem(tmp_path: Path, filename: str, there: str | None, expected: str) -> None:
    if there:
        a_picture(tmp_path / "images" / there)
    imported = labels.read(an_xml(tmp_path / "x.xml", an_object(), filename=filename))
    assert imported.dataset.images[0].file_name == expected
    assert imported.pictures == ({expected: tmp_path / "images" / there} if there else {})


def test_a_size_that_is_not_told_is_the_pictures(tmp_path: Path) -> None:
    a_picture(tmp_path / "a.jpg", ImageSize(70, 90))
    assert labels.read(an_xml(tmp_path / "a.xml", size=(0, 0))).dataset.images[0].size == ImageSize(70, 90)
    assert labels.read(an_xml(tmp_path / "a.xml", size=None)).dataset.images[0].size == ImageSize(70, 90)


def corners(*values: object) -> str:
    return "".join(f"<{key}>{value}</{key}>" for key, value in zip(("xmin", "ymin", "xmax", "ymax"), values, strict=True))


@pytest.mark.parametrize(
    ("box", "message"),
    [
        (corners(40, 20, 10, 60), "object 1: has swapped corners .xmin 40 ymin 20 xmax 10 ymax 60.. Exchange"),
        (corners(10, 20, 10, 20), "object 1: has a box of zero size"),
        (corners(10, 20, 400, 60), "object 1: has a box outside its picture"),
        (corners("nan", 20, "inf", 60), "object 1: has xmin 'nan', xmax 'inf'. Give .* finite numbers"),
        (corners("", 20, 40, "1e999"), "object 1: has xmin '', ymax '1e999'"),
        ("", "object 1: has xmin '', ymin '', xmax '', ymax ''"),
    ],
)
def test_broken_boxes_are_problems(tmp_path: Path, box: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        labels.read(an_xml(tmp_path / "a.xml", an_object(box)))


def test_an_empty_box_goes_alone_and_a_broken_one_takes_its_picture(tmp_path: Path) -> None:
    an_xml(tmp_path / "a.xml", an_object(), an_object(corners(1, 1, 1, 1)))
    an_xml(tmp_path / "b.xml", an_object(), an_object(corners(9, 1, 2, 5)), an_object(name=""), filename="b.jpg")
    imported = labels.read(tmp_path, on_problem="skip")
    assert [(image.file_name, len(image.instances)) for image in imported.dataset.images] == [("a.jpg", 1)]
    assert len(imported.report.skipped) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "is not XML"),
        ("<annotation/>", r"has the size '' x ''"),
        ("<annotation><size><width>-1</width><height>9</height></size></annotation>", "has the size '-1' x '9'"),
        ("<annotations/>", "holds <annotations>, not <annotation>"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "is not XML"),
        ("<annotation><filename>../../a.jpg</filename></annotation>", "names the picture '../../a.jpg', outside its folder"),
    ],
)
def test_broken_files_are_problems(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(LabelError, match=f"a.xml: {message}"):
        labels.read(tmp_path / "a.xml", format="voc")


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY e0 "ha">'
    + "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 10))
    + "]><annotation><filename>&e9;</filename></annotation>"
)
EXTERNAL = '<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]><annotation><filename>&e;</filename></annotation>'


@pytest.mark.parametrize("text", [BOMB, EXTERNAL], ids=["billion laughs", "external entity"])
def test_entities_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(LabelError, match="declares entities or a document type"):
        labels.read(tmp_path / "a.xml", format="voc")


def test_absurd_nesting_is_no_crash(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<annotation>" * 100_000 + "</annotation>" * 100_000)
    with pytest.raises(SightlineError, match="has the size"):
        labels.read(tmp_path / "a.xml")


def test_boxes_before_the_first_pixel_hint_at_the_origin(tmp_path: Path) -> None:
    path = an_xml(tmp_path / "a.xml", an_object(corners(0, 5, 40, 60)))
    assert "import with --voc-origin 0" in labels.read(path).report.notes[0]
    assert labels.read(path, voc_origin=0).report.notes == ()
    with pytest.raises(LabelError, match="--voc-origin: is 2"):
        labels.read(path, voc_origin=2)


def test_a_box_may_be_one_pixel_wide(tmp_path: Path) -> None:
    path = an_xml(tmp_path / "a.xml", an_object(corners(10, 20, 10, 60)))
    assert labels.read(path).dataset.images[0].instances[0].box == (9.0, 19.0, 10.0, 60.0)
    with pytest.raises(LabelError, match="has a box of zero size"):
        labels.read(path, voc_origin=0)


def test_boxes_under_a_pixel_are_told_when_written(tmp_path: Path) -> None:
    dataset = a_dataset([a_record(instances=(an_instance(0, (1, 1, 1.5, 9)), an_instance(1, (1, 1, 2, 2))))])
    assert labels.write(dataset, tmp_path, format="voc") == [
        "1 boxes narrower than a pixel were widened to one",
        "1 boxes of a single pixel are taken for empty when read again",
    ]
    assert labels.write(dataset, tmp_path / "0", format="voc", voc_origin=0) == []


def test_two_files_of_one_picture_are_a_problem(tmp_path: Path) -> None:
    for name in ("a.xml", "b.xml"):
        an_xml(tmp_path / name, an_object())
    with pytest.raises(LabelError, match=r"b.xml: labels a.jpg again, after .*a.xml"):
        labels.read(tmp_path)


def test_what_is_written_and_what_is_lost(tmp_path: Path) -> None:
    outline = an_instance(0, crowd=True, segmentation=((10.0, 20.0, 40.0, 20.0, 40.0, 60.0),))
    lost = labels.write(a_dataset([a_record(instances=(outline,))]), tmp_path, format="voc")
    assert lost == ["1 outlines or masks became boxes", "classes without objects are forgotten: dog"]
    text = (tmp_path / "Annotations/001.xml").read_text()
    for line in ("<filename>001.jpg</filename>", "<xmin>11</xmin>", "<ymax>60</ymax>", "<difficult>1</difficult>"):
        assert line in text


@pytest.mark.parametrize(
    ("records", "names", "message"),
    [
        ([a_record(file_name="../a.jpg")], ("cat", "dog"), r"\.\./a.jpg: leads out of the folder"),
        ([a_record(file_name="/a.jpg")], ("cat", "dog"), r"/a.jpg: leads out of the folder"),
        (
            [a_record(1, file_name="a.jpg"), a_record(2, file_name="A.png")],
            ("cat", "dog"),
            r"A.png: shares the label file A.xml",
        ),
        ([a_record()], ("cat ", "dog\x01"), r"'cat ': cannot be held by XML"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, records: list, names: tuple[str, str], message: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(LabelError, match=message):
        labels.write(a_dataset(records, names), tmp_path / "out", format="voc")
    assert not (tmp_path / "out").exists()


def test_blood_cells(shared: Path) -> None:
    imported = labels.read(shared / "data/bccd", on_problem="skip")
    assert (imported.report.images, imported.report.boxes) == (364, 4886)
    assert [problem.what.partition(" (")[0] for problem in imported.report.skipped] == ["has a box of zero size"] * 2
    assert imported.dataset.class_names == ("Platelets", "RBC", "WBC")
    assert imported.dataset.images[0].instances[0].box == (259.0, 176.0, 491.0, 376.0)
    assert len(imported.pictures) == 364
    assert json.dumps(imported.report.as_dict())
