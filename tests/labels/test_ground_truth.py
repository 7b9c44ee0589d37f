import json
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
from builders import a_box, a_dataset, a_line, a_manifest, a_record, an_instance
from hypothesis import given
from hypothesis import strategies as st

from sightline import coco, labels
from sightline.errors import LabelError, SightlineError
from sightline.labels import ground_truth
from sightline.labels.report import Imported
from sightline.records import ImageSize, Instance


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


def test_what_a_manifest_cannot_hold_is_listed(tmp_path: Path) -> None:
    outline = an_instance(segmentation=((1.0, 1.0, 5.0, 5.0, 9.0, 1.0),))
    dataset = a_dataset([a_record(instances=(outline, an_instance(1, crowd=True)), group="video")])
    path = tmp_path / "x.manifest"
    assert ground_truth.write(dataset, path, prefix="s3://b") == [
        "1 pictures lose their group",
        "1 crowd regions were left out",
        "1 outlines and masks become their boxes",
    ]
    assert labels.read(path).dataset.images[0].instances == (an_instance(),)
    unused = a_dataset([a_record(labels=(0,))])
    assert ground_truth.write(unused, path, prefix="s3://b") == ["classes without objects are forgotten: dog"]


def test_pictures_keep_their_addresses_or_get_a_prefix(tmp_path: Path) -> None:
    source = "s3://bucket/ä b/%20+(1).jpg"
    path = tmp_path / "x.manifest"
    ground_truth.write(a_dataset([a_record(source=source)]), path)
    assert labels.read(path).dataset.images[0].source == source
    with pytest.raises(LabelError, match=r"002.jpg: has no s3:// address. Say with --prefix"):
        ground_truth.write(a_dataset([a_record(source=source), a_record(2)]), path)
    with pytest.raises(LabelError, match=r"is the address of several pictures"):
        ground_truth.write(a_dataset([a_record(source=source), a_record(2, source=source)]), path)
    with pytest.raises(LabelError, match=r"--prefix: is 'bucket/folder'. Give s3://BUCKET/FOLDER"):
        ground_truth.write(a_dataset(), path, prefix="bucket/folder")


def chained(
    status: str | None = "adjusted", *, number: int = 1, boxes: int = 2, date: str = "2024-06-01T00:00:00"
) -> dict[str, object]:
    """A line with one box of the job `job`, and `boxes` of the adjustment `chain`."""
    line = a_line(s3(f"{number}.jpg")) | a_line(s3(f"{number}.jpg"), [a_box()] * boxes, attribute="chain")
    line["chain-metadata"] |= {"creation-date": date} | ({"adjustment-status": status} if status else {})  # type: ignore[operator]
    return line


def a_verdict(
    line: dict[str, object], name: str | None, date: str = "2025-01-01T00:00:00", **facts: object
) -> dict[str, object]:
    """`line` with the verdict of a verification job."""
    facts = {"type": "groundtruth/label-verification", "creation-date": date, "class-name": name} | facts
    return line | {"verify": "1", "verify-metadata": facts}


def test_an_adjustment_supersedes_its_origin(tmp_path: Path) -> None:
    report = read(tmp_path, chained("adjusted"), chained("unadjusted", number=2, boxes=1)).report
    assert report.boxes == 3
    assert report.notes == (
        f"{tmp_path / 'output.manifest'}: the adjustment 'chain' (1 adjusted, 1 unadjusted) supersedes 'job'.",
    )
    assert read(tmp_path, chained(), label_attribute="job").report.boxes == 1


def test_a_later_adjustment_supersedes_an_earlier_one(tmp_path: Path) -> None:
    again = a_line(boxes=[], attribute="again")
    again["again-metadata"] |= {"adjustment-status": "adjusted", "creation-date": "2024-07-01T00:00:00Z"}  # type: ignore[operator]
    report = read(tmp_path, chained() | again).report
    assert report.empty_images == 1
    assert "'again' (1 adjusted) supersedes 'chain', 'job'" in report.notes[0]


def test_two_adjustments_of_one_time_need_a_choice(tmp_path: Path) -> None:
    again = a_line(boxes=[], attribute="again")
    again["again-metadata"] |= {"adjustment-status": "adjusted", "creation-date": "2024-06-01T00:00:00"}  # type: ignore[operator]
    with pytest.raises(
        LabelError, match=r"'again' \(1 lines, an adjustment\), 'chain' \(1 lines, an adjustment\), 'job' \(1 lines\)"
    ):
        read(tmp_path, chained() | again)


def test_lines_that_the_adjustment_lacks_keep_the_labels_before(tmp_path: Path) -> None:
    failed = a_line(s3("3.jpg")) | {"chain-metadata": {"failure-reason": "expired"}}
    imported = read(tmp_path, chained(), a_line(s3("2.jpg")), failed)
    assert [len(image.instances) for image in imported.dataset.images] == [2, 1, 1]
    assert "2 lines that it lacks have the labels before" in imported.report.notes[0]
    named = read(tmp_path, chained(), a_line(s3("2.jpg")), failed, label_attribute="chain").report
    assert (named.images, named.unlabelled, named.failed) == (1, 1, 1)


def test_pre_labels_that_no_adjustment_has_reached_are_counted(tmp_path: Path) -> None:
    """An adjustment job that was stopped leaves the lines that it did not come to as they were."""
    found = [a_line(s3(name), attribute="pre") for name in ("1.jpg", "2.jpg", "3.jpg")]
    for line in found:
        line["pre-metadata"] |= {"human-annotated": "no"}  # type: ignore[operator]
    corrected = a_line(s3("1.jpg"), attribute="adjusted")
    corrected["adjusted-metadata"] |= {"adjustment-status": "adjusted"}  # type: ignore[operator]
    imported = read(tmp_path, found[0] | corrected, *found[1:])
    assert imported.report.images == 3
    assert any("labels no human has seen (human-annotated: no): 2;" in note for note in imported.report.notes)
    assert not any("no human" in note for note in read(tmp_path, found[0] | corrected).report.notes)


def test_a_broken_adjustment_does_not_bring_back_what_it_replaced(tmp_path: Path) -> None:
    broken = chained(number=2) | {"chain": {"image_size": []}}
    imported = read(tmp_path, chained(), broken, on_problem="skip")
    assert [image.source for image in imported.dataset.images] == [s3("1.jpg")]
    assert len(imported.report.skipped) == 1


def test_verdicts_are_counted_and_change_nothing(tmp_path: Path) -> None:
    lines = [a_verdict(a_line(s3("1.jpg")), "bad"), a_verdict(a_line(s3("2.jpg")), "good"), a_line(s3("3.jpg"))]
    report = read(tmp_path, *lines).report
    assert report.images == 3
    assert report.notes == (
        "Verdicts of verification jobs (pictures): 'bad' 1, 'good' 1; all are kept; --drop-rejected leaves out bad ones.",
    )


def test_what_was_rejected_is_left_out_by_choice(tmp_path: Path) -> None:
    lines = [a_verdict(a_line(s3("1.jpg")), "Bad "), a_verdict(a_line(s3("2.jpg")), "good"), a_line(s3("3.jpg"))]
    path = a_manifest(tmp_path / "output.manifest", lines)
    imported = ground_truth.read([path], drop_rejected=True)
    assert [image.source for image in imported.dataset.images] == [s3("2.jpg"), s3("3.jpg")]
    assert imported.report.notes[0].endswith("1 pictures were left out.")
    assert ground_truth.read([path], drop_rejected=True, rejected=["good"]).report.images == 2


@pytest.mark.parametrize(
    ("line", "rejected", "message"),
    [
        pytest.param(
            a_verdict(a_line(), "meh"), [], "do not say which of them are bad: 'meh' .1 lines.*--rejected", id="unclear"
        ),
        pytest.param(a_verdict(a_line(), "meh"), ["men"], "has no verdict 'men'. Did you mean 'meh'?", id="unknown"),
        pytest.param(a_line(), [], "has no verdicts about the labels", id="none"),
    ],
)
def test_verdicts_that_cannot_be_applied(tmp_path: Path, line: dict[str, object], rejected: list[str], message: str) -> None:
    with pytest.raises(LabelError, match=message):
        ground_truth.read([a_manifest(tmp_path / "m", [line])], drop_rejected=True, rejected=rejected)


@pytest.mark.parametrize(
    ("date", "attribute", "images"),
    [
        pytest.param("2024-05-20T00:00:00", "chain", 1, id="before the adjustment: about the labels before"),
        pytest.param("2024-05-20T00:00:00", "job", 0, id="these"),
        pytest.param("2024-06-02T00:00:00", "chain", 0, id="after the adjustment: about that"),
        pytest.param("2024-06-02T00:00:00", "job", 1, id="not about the origin"),
    ],
)
def test_a_verdict_is_about_the_newest_labels_that_it_saw(tmp_path: Path, date: str, attribute: str, images: int) -> None:
    other = a_verdict(chained(number=2) | {"source-ref": s3("2.jpg")}, "good", date)
    path = a_manifest(tmp_path / "m", [a_verdict(chained(), "bad", date), other])
    read = ground_truth.read
    try:
        report = read([path], label_attributes=[attribute] if attribute else (), drop_rejected=True).report
    except LabelError as error:  # no verdict is about these labels
        assert "has no verdicts about the labels that are read" in str(error)
        assert images == 1
    else:
        assert report.images == images + 1


def test_a_verdict_without_class_name_is_its_value(tmp_path: Path) -> None:
    assert "'1' 1;" in read(tmp_path, a_verdict(a_line(), None)).report.notes[0]


def test_confidences_are_used_only_when_asked(tmp_path: Path) -> None:
    line = a_line(boxes=[a_box(), a_box()])
    line["job-metadata"]["objects"] = [{"confidence": 0.2}, {"confidence": 0.9}]  # type: ignore[index]
    path = a_manifest(tmp_path / "m", [line, a_line(s3("2.jpg"))])
    assert ground_truth.read([path]).report.boxes == 3
    report = ground_truth.read([path], min_confidence=0.5).report
    assert (report.boxes, report.empty_images) == (1, 1)
    assert "2 boxes with a confidence below 0.5 were left out" in report.notes[0]
    with pytest.raises(LabelError, match="min_confidence: is 50"):
        ground_truth.read([path], min_confidence=50)


@pytest.mark.parametrize("objects", [[], [{}], [{"confidence": "high"}], None])
def test_a_filter_needs_confidences(tmp_path: Path, objects: object) -> None:
    line = a_line()
    line["job-metadata"]["objects"] = objects  # type: ignore[index]
    report = ground_truth.read([a_manifest(tmp_path / "m", [line])], min_confidence=0.5).report
    assert "Leave --min-confidence out" in report.skipped[0].fix


KEYS = ["a b.jpg", "a+b.jpg", "a%20b.jpg", "a(1).jpg", "设备.jpg", "a=b&c.jpg", "é.jpg", "e\u0301.jpg"]


def test_keys_are_literal(tmp_path: Path) -> None:
    lines = [json.dumps(a_line(s3(key))).replace("=", r"\u003d").replace("&", r"\u0026") for key in KEYS]
    images = read(tmp_path, *lines).dataset.images
    assert [image.source for image in images] == [s3(key) for key in KEYS]
    assert [image.file_name for image in images[:-2]] == KEYS[:-2]  # the last two are one file on macOS


def test_the_order_of_keys_and_the_era_do_not_matter(tmp_path: Path) -> None:
    line = a_line(boxes=[a_box(5)], class_map={"5": "bone"})
    old = {key: dict(reversed(value.items())) if isinstance(value, dict) else value for key, value in reversed(line.items())}
    old["job-metadata"]["creation-date"] = "2019-05-21T21:30:13.141Z"  # type: ignore[index]
    assert read(tmp_path, old).dataset == read(tmp_path, line).dataset


@pytest.mark.parametrize("class_id", [5, 5.0, "5"])
def test_class_ids_may_be_written_in_several_ways(tmp_path: Path, class_id: object) -> None:
    assert read(tmp_path, a_line(boxes=[a_box(class_id)], class_map={"5": "bone"})).report.boxes == 1


def test_a_line_that_is_no_manifest_is_not_read_into_memory(tmp_path: Path) -> None:
    path = tmp_path / "m"
    path.write_text(json.dumps(a_line()) + "\n" + "[" * (9 * 2**20) + "\n" + json.dumps(a_line(s3("2.jpg"))) + "\n")
    imported = labels.read(path, format="ground-truth", on_problem="skip")
    assert imported.report.images == 2
    assert "m:2: is not JSON (more than 8,388,608 bytes)" in str(imported.report.skipped[0])


NUMBERS = st.floats(0, 79, allow_nan=False).map(lambda number: round(number, 3))
INSTANCES = st.builds(
    lambda label, x, y, width, height: an_instance(label, (x, y, min(x + width, 100.0), min(y + height, 80.0))),
    st.integers(0, 3),
    NUMBERS,
    NUMBERS,
    st.floats(1, 50).map(lambda number: round(number, 3)),
    st.floats(1, 50).map(lambda number: round(number, 3)),
)
CLASS_NAMES = st.lists(st.text(min_size=1, max_size=5).filter(str.strip).map(str.strip), min_size=4, max_size=4, unique=True)


@given(
    CLASS_NAMES.filter(lambda names: all(name.isprintable() for name in names)),
    st.lists(st.lists(INSTANCES, max_size=3), max_size=4),
)
def test_a_random_job_is_read_as_written(names: list[str], pictures: list[list[Instance]]) -> None:
    images = [a_record(1, (0, 1, 2, 3))]  # a class that is never drawn is unknown to a manifest
    images += [a_record(number, instances=tuple(own)) for number, own in enumerate(pictures, 2)]
    dataset = a_dataset(images, names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "output.manifest")
        ground_truth.write(dataset, path, prefix="s3://bucket")
        again = ground_truth.read([path])
    assert again.report.skipped == ()
    assert again.dataset.categories == dataset.categories
    for read_image, image in zip(again.dataset.images, images, strict=True):
        assert [one.label for one in read_image.instances] == [one.label for one in image.instances]
        np.testing.assert_allclose([one.box for one in read_image.instances], [one.box for one in image.instances], atol=1e-9)


TYPES = ['"groundtruth/label-verification"', '"groundtruth/object-detection"', '"adjusted"']
PIECES = st.sampled_from(
    ["null", "[]", "{}", '"x"', "-1", "1e999", "NaN", "true", '""', "0.5", "[[]]", '{"0": 5}', '"\\ud800"', "1" * 30, *TYPES]
)


@given(st.data())
def test_a_damaged_real_line_gives_labels_or_our_own_error(shared: Path, data: st.DataObject) -> None:
    real = (shared / "data/manifests/aws_examples_yolov5_sample_output.manifest").read_text(encoding="utf-8").splitlines()[:3]
    line = a_verdict(json.loads(real[0]), "bad") | {"chain": json.loads(real[1])["category"]}
    line["chain-metadata"] = json.loads(real[1])["category-metadata"] | {"adjustment-status": "adjusted"}
    text = json.dumps(line)
    for _ in range(data.draw(st.integers(1, 3))):
        places = [match.span() for match in re.finditer(r'"[^"]*"|[\d.]+|true|\[[^\[\]]*\]|\{[^{}]*\}', text)]
        begin, end = data.draw(st.sampled_from(places)) if places else (0, 0)
        text = text[:begin] + data.draw(PIECES) + text[end:]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "output.manifest")
        path.write_text("\n".join([text, *real]), encoding="utf-8")
        for options in ({}, {"drop_rejected": True}, {"min_confidence": 0.5}, {"label_attributes": ["chain"]}):
            try:
                imported = ground_truth.read([path], **options)  # type: ignore[arg-type]
            except SightlineError:
                continue
            json.dumps(coco.to_json(imported.dataset), ensure_ascii=False).encode("utf-8")


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


def test_every_file_takes_its_own_label_attribute(tmp_path: Path) -> None:
    first = a_line(s3("1.jpg"), attribute="a") | a_line(s3("1.jpg"), [], attribute="b")
    second = a_line(s3("2.jpg"), attribute="c") | a_line(s3("2.jpg"), [], attribute="d")
    one, other = a_manifest(tmp_path / "one", [first]), a_manifest(tmp_path / "other", [second])
    assert labels.read([one, other], label_attribute=["a", "d"]).report.boxes == 1
    assert labels.read([one, other], label_attribute=["d", "b"]).report.boxes == 0
    with pytest.raises(LabelError, match=r"other: has several of the label attributes that were asked for: 'c', 'd'"):
        labels.read([one, other], label_attribute=["a", "c", "d"])
    with pytest.raises(LabelError, match=r"has no box label attribute 'e'"):
        labels.read([one, other], label_attribute=["a", "d", "e"])


@pytest.mark.parametrize(
    ("rule", "lefts"),
    [
        pytest.param("first", [10.0], id="first"),
        pytest.param("last", [10.0, 50.0], id="last"),
        pytest.param("merge", [10.0, 50.0], id="merge"),
    ],
)
def test_a_picture_in_two_manifests_follows_the_rule(tmp_path: Path, rule: str, lefts: list[float]) -> None:
    one = a_manifest(tmp_path / "one", [a_line(s3("1.jpg")), a_line(s3("2.jpg"))])
    other = a_manifest(tmp_path / "other", [a_line(s3("1.jpg"), [a_box(), a_box(left=50)], attribute="second")])
    with pytest.raises(LabelError, match=r"other:1: labels .*1.jpg again, after .*one:1. Keep one .* --on-duplicate"):
        labels.read([one, other])
    imported = labels.read([one, other], on_duplicate=rule)  # type: ignore[arg-type]
    assert [image.source for image in imported.dataset.images] == [s3("1.jpg"), s3("2.jpg")]
    assert [instance.box[0] for instance in imported.dataset.images[0].instances] == lefts
    assert imported.report.notes[0].startswith("Pictures that came more than once: 1; ")


def test_pictures_of_two_sizes_are_not_joined(tmp_path: Path) -> None:
    turned = a_line(boxes=[])
    turned["job"]["image_size"] = [{"width": 80, "height": 100, "depth": 3}]  # type: ignore[index]
    with pytest.raises(LabelError, match=r"output.manifest:2: says .*their boxes cannot be joined"):
        read(tmp_path, a_line(), turned, on_duplicate="merge")
    assert read(tmp_path, a_line(), turned, on_duplicate="last").dataset.images[0].size == ImageSize(100, 80)


def test_a_relabelled_copy_in_another_bucket(tmp_path: Path) -> None:
    first = a_manifest(tmp_path / "a.manifest", [a_line("s3://one/1.jpg"), a_line("s3://one/2.jpg")])
    again = a_manifest(tmp_path / "b.manifest", [a_line("s3://two/1.jpg", [])])
    apart = ground_truth.read([first, again])
    assert len(apart.dataset.images) == 3
    assert "1 pictures share their names" in apart.report.notes[0]
    asked = ground_truth.read([first, again], same_picture="name")
    assert [(problem.where, problem.what) for problem in asked.report.skipped] == [
        (f"{again}:1", f"labels s3://two/1.jpg, which by its name is s3://one/1.jpg, after {first}:1")
    ]
    last = ground_truth.read([first, again], same_picture="name", on_duplicate="last")
    assert [(image.file_name, image.source, len(image.instances)) for image in last.dataset.images] == [
        ("1.jpg", "s3://two/1.jpg", 0),
        ("2.jpg", "s3://one/2.jpg", 1),
    ]


@pytest.mark.parametrize("rule", ["first", "last", "merge"])
def test_equal_names_in_one_manifest_are_not_one_picture(tmp_path: Path, rule: str) -> None:
    first = a_manifest(tmp_path / "a.manifest", [a_line("s3://one/1.jpg")])
    deep = a_manifest(tmp_path / "b.manifest", [a_line("s3://two/x/1.jpg"), a_line("s3://two/y/1.jpg")])
    found = ground_truth.read([first, deep], same_picture="name", on_duplicate=rule)  # type: ignore[arg-type]
    assert [problem.where for problem in found.report.skipped] == [f"{deep}:2"]
    assert "both are called 1.jpg" in found.report.skipped[0].what


def test_accents_of_classes_in_one_manifest(tmp_path: Path) -> None:
    lines = [a_line("s3://b/1.jpg", class_map={"0": "caf\u00e9"}), a_line("s3://b/2.jpg", class_map={"0": "cafe\u0301"})]
    found = ground_truth.read([a_manifest(tmp_path / "a.manifest", lines)])
    assert found.dataset.class_names == ("caf\u00e9",)
    assert "encoding of their accents" in found.report.notes[0]
