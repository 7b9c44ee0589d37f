import json
from pathlib import Path

import pytest
from builders import a_box, a_dataset, a_line, a_manifest, a_record, an_instance

from sightline import labels
from sightline.errors import LabelError
from sightline.labels import ground_truth
from sightline.labels.report import Imported
from sightline.records import ImageSize


def read(folder: Path, *lines: dict[str, object] | str, **options: object) -> Imported:
    path = a_manifest(folder / "output.manifest", lines)
    return labels.read(path, format="ground-truth", **options)  # type: ignore[arg-type]


def s3(name: str) -> str:
    return f"s3://bucket/images/{name}"


def test_a_line_becomes_a_picture(tmp_path: Path) -> None:
    imported = read(tmp_path, a_line(boxes=[a_box(left=1.25, top=2, width=3.5, height=4)]))
    (image,) = imported.dataset.images
    assert (image.id, image.file_name, image.size, image.source) == (1, "1.jpg", ImageSize(80, 100), s3("1.jpg"))
    assert image.instances == (an_instance(0, (1.25, 2.0, 4.75, 6.0)),)
    assert imported.dataset.class_names == ("cat",)


def test_the_label_attribute_is_found_by_its_type_in_each_file(tmp_path: Path) -> None:
    one = a_manifest(tmp_path / "one.manifest", [a_line(attribute="job-train") | {"color": "blue", "verdict": 1}])
    other = a_manifest(tmp_path / "other.manifest", [a_line(s3("2.jpg"), attribute="bb")])
    imported = labels.read([one, other])
    assert [image.file_name for image in imported.dataset.images] == ["1.jpg", "2.jpg"]
    assert imported.report.files == (str(one), str(other))


def test_several_label_attributes_need_a_choice(tmp_path: Path) -> None:
    chained = a_line() | a_line(boxes=[], attribute="job-chain")
    with pytest.raises(
        LabelError, match=r"several box label attributes: 'job' \(1 lines\), 'job-chain' \(1 lines\).*--label-attribute"
    ):
        read(tmp_path, chained)
    assert read(tmp_path, chained, label_attribute="job").report.boxes == 1
    assert read(tmp_path, chained, label_attribute="job-chain").report.empty_images == 1
    with pytest.raises(LabelError, match=r"no box label attribute 'job-chian'. Did you mean 'job-chain'?"):
        read(tmp_path, chained, label_attribute="job-chian")


def test_the_chosen_attribute_is_taken_where_it_is_and_the_only_one_elsewhere(tmp_path: Path) -> None:
    one = a_manifest(tmp_path / "one.manifest", [a_line() | a_line(boxes=[], attribute="chain")])
    other = a_manifest(tmp_path / "other.manifest", [a_line(s3("2.jpg"), attribute="bb")])
    assert labels.read([one, other], label_attribute="chain").report.boxes == 1


def test_classes_are_joined_by_name_and_mean_what_their_own_line_says(tmp_path: Path) -> None:
    one = a_manifest(tmp_path / "one.manifest", [a_line(class_map={"0": "dog"}), a_line(s3("2.jpg"), [a_box(1)], {"1": "cat"})])
    other = a_manifest(tmp_path / "other.manifest", [a_line(s3("3.jpg"), [a_box(0), a_box(5)], {"0": "cat", "5": "owl"})])
    dataset = labels.read([one, other]).dataset
    assert dataset.class_names == ("cat", "dog", "owl")  # the jobs number them differently, so by name
    names = [[dataset.class_names[instance.label] for instance in image.instances] for image in dataset.images]
    assert names == [["dog"], ["cat"], ["cat", "owl"]]
    assert labels.read([other, one]).dataset.class_names == dataset.class_names


def test_classes_keep_the_order_of_their_ids_where_all_lines_agree(tmp_path: Path) -> None:
    lines = [
        a_line(s3("1.jpg"), [a_box(10)], {"10": "ant"}),
        a_line(s3("2.jpg"), [a_box(2)], {"2": "zebra"}),
        a_line(s3("3.jpg"), [a_box(0)], {"0": "yak"}),
    ]
    dataset = read(tmp_path, *lines).dataset
    assert dataset.class_names == ("yak", "zebra", "ant")
    assert [category.id for category in dataset.categories] == [1, 2, 3]


def test_names_that_differ_in_blanks_are_one_class_and_a_lone_name_keeps_its_blank(tmp_path: Path) -> None:
    imported = read(
        tmp_path,
        a_line(s3("1.jpg"), [a_box(0), a_box(1)], {"0": "设备 ", "1": "door "}),
        a_line(s3("2.jpg"), [a_box(0)], {"0": "设备"}),
    )
    assert imported.dataset.class_names == ("设备", "door ")
    assert imported.report.notes == ("The classes '设备 ' and '设备' differ only in blanks; they are one class.",)


def test_line_ends_blank_lines_and_a_byte_order_mark_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "windows.manifest"
    lines = [json.dumps(a_line()), "", json.dumps(a_line(s3("2.jpg"), []))]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode() + b"\r\n\r\n")
    report = labels.read(path).report
    assert (report.lines, report.images, report.empty_images) == (2, 2, 1)


def test_lines_without_a_label_are_counted_and_listed(tmp_path: Path) -> None:
    failed = {
        "source-ref": s3("3.jpg"),
        "job-metadata": {"failure-reason": "ClientError: Annotation tasks expired", "retry-count": 1},
    }
    report = read(tmp_path, a_line(), {"source-ref": s3("2.jpg")}, failed).report
    assert (report.lines, report.images, report.unlabelled, report.failed) == (3, 1, 1, 1)
    assert report.notes[0] == f"Lines without a label: {tmp_path / 'output.manifest'}:2."
    assert "output.manifest:3. Reasons: 'ClientError: Annotation tasks expired' (1 lines)" in report.notes[1]
    assert str(report).endswith("1 boxes in 3 lines; 1 lines without a label; 1 lines whose labelling failed")


def test_equal_base_names_keep_their_folders(tmp_path: Path) -> None:
    dataset = read(tmp_path, a_line("s3://b/set/x/1.jpg"), a_line("s3://b/set/y/1.jpg")).dataset
    assert [image.file_name for image in dataset.images] == ["x/1.jpg", "y/1.jpg"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(
            '{"source-ref": "s3://b/1.jpg", "job": {', r"is not JSON \(.*one complete JSON object a line", id="cut off"
        ),
        pytest.param("[1, 2]", "is a JSON list, not an object", id="a list"),
        pytest.param('{"source-ref": "\\ud800"}', "is not UTF-8", id="half a character"),
        pytest.param({"job": 1}, "has no source-ref", id="no source"),
        pytest.param(a_line() | {"source-ref": ""}, "has no source-ref", id="empty source"),
        pytest.param({"source": "some text"}, "holds text, not a picture", id="text"),
        pytest.param(
            {"source-ref": s3("2.jpg"), "kind": 0, "kind-metadata": {"type": "groundtruth/image-classification"}},
            "has no boxes but a label of type groundtruth/image-classification",
            id="another task",
        ),
        pytest.param(
            a_line(s3("2.jpg"), kind="groundtruth/label-verification"),
            "has a label of type 'groundtruth/label-verification' under 'job'",
            id="another task under the same name",
        ),
        pytest.param({"source-ref": s3("2.jpg"), "job": {}}, "has no object 'job-metadata'", id="no metadata"),
        pytest.param(a_line(s3("2.jpg")) | {"job": 5}, "has no object 'job'", id="no object"),
        pytest.param(a_line(s3("2.jpg")) | {"job": {"annotations": []}}, "has no image_size", id="no image_size"),
        pytest.param(a_line(s3("2.jpg"), size=(0, 100)), "has image_size .*'height': 0", id="zero image_size"),
        pytest.param(
            a_line(s3("2.jpg")) | {"job": {"image_size": [{"width": 5, "height": 5}]}},
            "has no list 'annotations'",
            id="no list",
        ),
        pytest.param(
            a_line(s3("2.jpg"), [a_box(width=0)]), "box 1: has an empty box .left 10, top 20, width 0", id="zero size"
        ),
        pytest.param(
            a_line(s3("2.jpg"), [a_box(), a_box(left=90)]), "box 2: has a box outside its picture .left 90", id="outside"
        ),
        pytest.param(a_line(s3("2.jpg"), [a_box(top=float("nan"))]), "has top nan. Give left, top, width and height", id="nan"),
        pytest.param(
            a_line(s3("2.jpg"), [{"class_id": 0, "left": 1}]), "has top None, width None, height None", id="half a box"
        ),
        pytest.param(a_line(s3("2.jpg"), [a_box(left=10**400)]), "has left 1000", id="beyond any float"),
        pytest.param(a_line(s3("2.jpg"), ["x"]), "box 1: is a JSON str", id="no box"),
        pytest.param(
            a_line(s3("2.jpg"), [a_box(4)]), "class_id 4, which is not in the line's class-map .0: cat", id="unknown class"
        ),
        pytest.param(a_line(), "labels s3://bucket/images/1.jpg again, after .*output.manifest:1. Keep one", id="twice"),
    ],
)
def test_a_broken_line_is_named_or_skipped(tmp_path: Path, line: dict[str, object] | str, message: str) -> None:
    with pytest.raises(LabelError, match=message) as caught:
        read(tmp_path, a_line(), line)
    assert f"{tmp_path / 'output.manifest'}:2" in str(caught.value)
    imported = read(tmp_path, a_line(), line, on_problem="skip")
    assert imported.dataset.images[0].source == s3("1.jpg")
    assert imported.report.boxes == 1
    assert len(imported.report.skipped) == 1


def test_every_problem_of_all_files_comes_at_once_with_its_line(tmp_path: Path) -> None:
    lines: list[dict[str, object] | str] = [a_line(s3(f"{number}.jpg")) for number in range(20)]
    lines[16] = "not json"
    lines[18] = a_line(s3("18.jpg"), [a_box(width=0), a_box(7)])
    one = a_manifest(tmp_path / "one.manifest", lines)
    other = a_manifest(tmp_path / "other.manifest", [a_line(s3("3.jpg"))])
    with pytest.raises(LabelError) as caught:
        labels.read([one, other])
    places = [problem.where for problem in caught.value.problems]
    assert places == [f"{one}:17", f"{one}:19, box 1", f"{one}:19, box 2", f"{other}:1"]
    assert f"after {one}:4" in caught.value.problems[-1].what


def test_skipping_leaves_out_an_empty_box_alone_and_a_wrong_one_with_its_picture(tmp_path: Path) -> None:
    empty, wrong = a_line(s3("1.jpg"), [a_box(), a_box(width=0)]), a_line(s3("2.jpg"), [a_box(), a_box(left=500)])
    report = read(tmp_path, empty, wrong, on_problem="skip").report
    assert (report.images, report.boxes, len(report.skipped)) == (1, 1, 2)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param([], "output.manifest: is empty", id="empty"),
        pytest.param([{"source-ref": s3("1.jpg")}], "has no labels in 1 lines: it is an input manifest", id="input manifest"),
        pytest.param(
            [{"source-ref": s3("1.jpg"), "kind": 0, "kind-metadata": {"type": "groundtruth/image-classification"}}],
            r"has no boxes; its labels are of type groundtruth/image-classification \(attribute 'kind'\)",
            id="classification",
        ),
        pytest.param(
            [
                {
                    "source-ref": s3("1.jpg"),
                    "x-ref": "s3://b/m.png",
                    "x-ref-metadata": {"type": "groundtruth/semantic-segmentation"},
                }
            ],
            r"type groundtruth/semantic-segmentation \(attribute 'x-ref'\)",
            id="masks",
        ),
        pytest.param([{"tracking-annotations": []}], "type video frames .tracking-annotations.", id="video"),
        pytest.param(
            [{"source-ref": s3("1.jpg"), "job-metadata": {"failure-reason": "expired"}}],
            "labelling failed .'expired'",
            id="all failed",
        ),
        pytest.param(["nonsense"], "has no line with boxes.*\n.*output.manifest:1: is not JSON", id="no JSON at all"),
    ],
)
def test_a_file_without_any_box_is_refused_even_when_problems_are_skipped(
    tmp_path: Path, lines: list[dict[str, object] | str], message: str
) -> None:
    with pytest.raises(LabelError, match=message):
        read(tmp_path, *lines, on_problem="skip")


def test_a_written_manifest_is_read_back(tmp_path: Path) -> None:
    images = [a_record(labels=(1, 0)), a_record(2, labels=()), a_record(3, instances=(an_instance(1, (0.1, 0.2, 30.3, 40.7)),))]
    dataset = a_dataset(images)
    path = tmp_path / "output.manifest"
    labels.write(dataset, path, format="ground_truth", prefix="s3://bucket/drawn/", attribute="boxes")
    again = labels.read(path).dataset
    assert again.categories == dataset.categories
    assert [(image.file_name, image.instances) for image in again.images] == [
        (image.file_name, image.instances) for image in images
    ]
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["boxes-metadata"]["class-map"] for line in lines] == [{"0": "cat", "1": "dog"}, {}, {"1": "dog"}]
    assert lines[0].keys() == {"source-ref", "boxes", "boxes-metadata"}


def test_a_manifest_cannot_hold_masks(tmp_path: Path) -> None:
    dataset = a_dataset([a_record(instances=(an_instance(segmentation=((1.0, 1.0, 5.0, 5.0, 9.0, 1.0),)),))])
    with pytest.raises(LabelError, match=r"001.jpg: has a mask or a crowd region.*Write COCO instead"):
        ground_truth.write(dataset, tmp_path / "x.manifest", prefix="s3://b")
    assert not (tmp_path / "x.manifest").exists()


@pytest.mark.parametrize(
    ("name", "images", "boxes", "empty"),
    [
        ("bees/output.manifest", 500, 1009, 7),
        ("cats/output.manifest", 4, 4, 1),
        ("manifests/aws_greengrass_2019_yellow-box-large.manifest", 633, 579, 56),
    ],
)
def test_real_jobs(shared: Path, name: str, images: int, boxes: int, empty: int) -> None:
    report = labels.read(shared / "data" / name).report
    assert (report.images, report.boxes, report.empty_images) == (images, boxes, empty)


def test_a_real_train_and_test_job_have_one_list_of_classes(shared: Path) -> None:
    paths = [shared / "data/manifests" / f"licence_cards_2022_{part}.manifest" for part in ("train", "test")]
    dataset = labels.read(paths).dataset
    assert dataset.class_names == ("name", "dl_number", "address", "DOB")
    assert {image.file_name.split("/")[0] for image in dataset.images} == {"train", "test"}
