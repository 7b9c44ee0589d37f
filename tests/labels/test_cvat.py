import contextlib
import math
from pathlib import Path

import numpy as np
import pytest
from builders import a_picture, an_instance
from hypothesis import given, settings
from hypothesis import strategies as st

from sightline.errors import LabelError, SightlineError
from sightline.geometry import masks
from sightline.labels import cvat
from sightline.labels.report import Imported, ReadOptions
from sightline.records import ImageSize, Rle

LABELS = "<labels><label><name>dog</name></label><label><name>cat</name></label></labels>"
META = f"<meta><task><id>5</id><name>farm</name><mode>annotation</mode>{LABELS}</task></meta>"
BOX = '<box label="cat" occluded="0" xtl="10.00" ytl="20.00" xbr="40.00" ybr="60.00" z_order="0"></box>'


def an_image(*shapes: str, name: str = "a.jpg", sides: str = 'width="100" height="80"') -> str:
    return f'<image id="0" name="{name}" {sides}>{"".join(shapes)}</image>'


def a_document(*parts: str, meta: str = META) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{"".join(parts)}</annotations>'


def a_video(*tracks: str, frames: int = 4, size: bool = True, **facts: str) -> str:
    told = {"size": str(frames), "start_frame": "0", "stop_frame": str(frames - 1), "frame_filter": ""} | facts
    inner = "".join(f"<{key}>{value}</{key}>" for key, value in told.items())
    original = "<original_size><width>100</width><height>80</height></original_size>" if size else ""
    meta = f"<meta><task><id>5</id><mode>interpolation</mode>{LABELS}{inner}{original}</task></meta>"
    return a_document(*tracks, meta=meta)


def a_track(*shapes: str, label: str = "cat", facts: str = "") -> str:
    return f'<track id="0" label="{label}" {facts}>{"".join(shapes)}</track>'


def a_shot(frame: object, left: float = 10, outside: int = 0, keyframe: int = 1, facts: str = "") -> str:
    corners = f'xtl="{left}" ytl="20" xbr="{left + 30}" ybr="60"'
    return f'<box frame="{frame}" outside="{outside}" occluded="0" keyframe="{keyframe}" {corners} {facts}></box>'


def read(folder: Path, document: str, **options: object) -> Imported:
    path = folder / "annotations.xml"
    path.write_text(document, encoding="utf-8")
    return cvat.read([path], options=ReadOptions(**options))  # type: ignore[arg-type]


def problems(imported: Imported) -> str:
    return "\n".join(map(str, imported.report.skipped))


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        pytest.param(b'<?xml version="1.0"?>\n<annotations>\n  <version>1.1', True, id="CVAT"),
        pytest.param(b"<annotation><folder>VOC", False, id="VOC"),
        pytest.param(b'{"annotations": []}', False, id="COCO"),
    ],
)
def test_a_file_is_recognised(tmp_path: Path, head: bytes, expected: bool) -> None:
    assert cvat.recognise(tmp_path / "a.xml", head) is expected
    assert not cvat.recognise(tmp_path, b"")
    (tmp_path / "annotations.xml").write_bytes(head)
    assert cvat.recognise(tmp_path, b"") is expected


def test_shapes_become_objects_and_classes_keep_their_order(tmp_path: Path) -> None:
    polygon = '<polygon label="dog" points="10.00,20.00;40.00,20.00;40.00,60.00" z_order="1"></polygon>'
    ellipse = '<ellipse label="dog" cx="50" cy="40" rx="10" ry="20"></ellipse>'
    imported = read(tmp_path, a_document(an_image(BOX, polygon, ellipse), an_image(name="x/b.jpg")))
    first, empty = imported.dataset.images
    assert imported.dataset.class_names == ("dog", "cat")
    assert (first.file_name, first.size, first.group) == ("a.jpg", ImageSize(80, 100), "")
    assert first.instances[0] == an_instance(1)
    assert first.instances[1] == an_instance(0, area=600.0, segmentation=((10.0, 20.0, 40.0, 20.0, 40.0, 60.0),))
    assert first.instances[2].box == pytest.approx((40, 20, 60, 60))
    assert (empty.file_name, empty.instances) == ("x/b.jpg", ())


def test_a_turned_box_turns_around_its_middle(tmp_path: Path) -> None:
    box = '<box label="cat" xtl="40" ytl="30" xbr="60" ybr="40" rotation="90.0"></box>'
    tilted = '<box label="cat" xtl="40" ytl="30" xbr="50" ybr="40" rotation="45"></box>'
    one, other = read(tmp_path, a_document(an_image(box, tilted))).dataset.images[0].instances
    assert one.box == pytest.approx((45, 25, 55, 45))
    assert isinstance(one.segmentation, tuple)
    assert one.segmentation[0] == pytest.approx((55, 25, 55, 45, 45, 45, 45, 25))  # its first corner is now at the top right
    half = 10 / math.sqrt(2)
    assert other.box == pytest.approx((45 - half, 35 - half, 45 + half, 35 + half))


def test_a_mask_has_its_run_lengths_row_by_row(tmp_path: Path) -> None:
    mask = '<mask label="cat" rle="1, 2, 1, 2" left="90" top="70" width="3" height="2" z_order="0"></mask>'
    (instance,) = read(tmp_path, a_document(an_image(mask))).dataset.images[0].instances
    expected = np.zeros((80, 100), dtype=bool)
    expected[70, 91:93] = expected[71, 91:93] = True
    assert isinstance(instance.segmentation, Rle)
    np.testing.assert_array_equal(masks.decode(instance.segmentation), expected)
    assert (instance.box, instance.area) == ((91.0, 70.0, 93.0, 72.0), 4.0)


def test_outlines_of_one_group_and_class_are_one_object(tmp_path: Path) -> None:
    def polygon(left: int, label: str = "cat", group: str = 'group_id="1"') -> str:
        return f'<polygon label="{label}" points="{left},0;{left + 10},0;{left + 10},10" {group}></polygon>'

    mask = '<mask label="dog" rle="0, 4" left="0" top="0" width="2" height="2" group_id="1"></mask>'
    shapes = [polygon(0), polygon(50), polygon(50, "dog"), mask, polygon(0, group=""), BOX.replace("z_order", "group_id")]
    imported = read(tmp_path, a_document(an_image(*shapes)))
    cat, dog, alone, box = imported.dataset.images[0].instances
    assert (cat.box, cat.area) == ((0.0, 0.0, 60.0, 10.0), 100.0)
    assert dog.box == (0.0, 0.0, 60.0, 10.0)
    assert isinstance(dog.segmentation, Rle)
    assert (alone.box, box.box) == ((0.0, 0.0, 10.0, 10.0), (10.0, 20.0, 40.0, 60.0))
    assert imported.report.notes[0].startswith("2 shapes are parts of another one of their group")


def test_what_a_dataset_does_not_hold_is_told(tmp_path: Path) -> None:
    box = BOX.replace("></box>", '><attribute name="colour">red</attribute><attribute name="is_crowd">true</attribute></box>')
    others = '<tag label="good"></tag>', '<points label="cat" points="1,1"></points>', '<skeleton label="cat"></skeleton>'
    imported = read(tmp_path, a_document(an_image(box, *others)))
    assert imported.dataset.images[0].instances == (an_instance(1, crowd=True),)
    assert imported.report.notes == (
        "1 elements <points> are no objects in the plane and were left out.",
        "1 elements <skeleton> are no objects in the plane and were left out.",
        "1 elements <tag> are no objects in the plane and were left out.",
        "Attributes of objects are not kept: colour (1).",
    )


def test_pictures_lie_in_images_beside_the_file(tmp_path: Path) -> None:
    picture = a_picture(tmp_path / "images" / "x" / "a.jpg")
    assert read(tmp_path, a_document(an_image(name="x/a.jpg"))).pictures == {"x/a.jpg": picture}


@pytest.mark.parametrize("name", ["../../etc/a.jpg", "/etc/a.jpg", "..\\etc\\a.jpg"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    a_picture(tmp_path.parent / "etc" / "a.jpg")
    imported = read(tmp_path, a_document(an_image(name=name)))
    assert [image.file_name for image in imported.dataset.images] == ["etc/a.jpg"]
    assert imported.pictures == {}


def test_frames_of_a_video_are_pictures_of_one_group(tmp_path: Path) -> None:
    shots = [a_shot(0), a_shot(1, 12, keyframe=0), a_shot(2, 14, outside=1)]
    imported = read(tmp_path, a_video(a_track(*shots), a_track(a_shot(1, 50), a_shot(2, 50, outside=1), label="dog")))
    images = imported.dataset.images
    assert [image.file_name for image in images] == [f"frame_{number:06d}.png" for number in range(4)]
    assert {image.group for image in images} == {"task 5"}
    assert [[instance.box[0] for instance in image.instances] for image in images] == [[10.0], [12.0, 50.0], [], []]
    assert imported.report.notes == ()


def test_frames_that_are_missing_between_key_frames_are_interpolated(tmp_path: Path) -> None:
    imported = read(tmp_path, a_video(a_track(a_shot(0, 10), a_shot(4, 18), a_shot(6, 18, outside=1)), frames=8))
    lefts = [[instance.box[0] for instance in image.instances] for image in imported.dataset.images]
    assert lefts == [[10.0], [12.0], [14.0], [16.0], [18.0], [18.0], [], []]
    assert imported.report.notes == ("4 boxes between key frames were interpolated.",)


def test_a_task_of_every_fifth_frame_has_no_gaps(tmp_path: Path) -> None:
    shots = [a_shot(10), a_shot(15), a_shot(20, outside=1)]
    document = a_video(a_track(*shots), frames=3, start_frame="10", stop_frame="20", frame_filter="step=5")
    imported = read(tmp_path, document)
    assert [image.file_name for image in imported.dataset.images] == [f"frame_0000{number}.png" for number in (10, 15, 20)]
    assert imported.report.notes == ()


def test_only_frames_with_shapes_count_where_the_task_does_not_tell_its_frames(tmp_path: Path) -> None:
    imported = read(tmp_path, a_video(a_track(a_shot(3), a_shot(4, outside=1)), frames=2, stop_frame="99999999999"))
    assert [image.file_name for image in imported.dataset.images] == ["frame_000003.png", "frame_000004.png"]


def test_polygons_that_move_between_key_frames_are_refused(tmp_path: Path) -> None:
    def polygon(frame: int, left: int) -> str:
        return f'<polygon frame="{frame}" outside="0" keyframe="1" points="{left},0;20,0;20,20"></polygon>'

    track = a_track(polygon(0, 1), polygon(2, 5))
    imported = read(tmp_path, a_video(track, a_track(a_shot(3))))
    assert "track 0, frame 1: is a polygon between key frames, which is not written" in problems(imported)
    assert [image.file_name for image in imported.dataset.images] == ["frame_000003.png"]
    still = read(tmp_path, a_video(a_track(polygon(0, 1), polygon(2, 1))))
    assert [len(image.instances) for image in still.dataset.images] == [1, 1, 1, 0]


def test_the_size_of_frames_comes_from_one_of_them_where_it_is_not_told(tmp_path: Path) -> None:
    document = a_video(a_track(a_shot(0), a_shot(1, outside=1)), size=False)
    with pytest.raises(LabelError, match=r"does not tell the frames' size, and none \(frame_000000\.\*\) is in"):
        read(tmp_path, document)
    a_picture(tmp_path / "images" / "frame_000000.PNG", format="PNG")
    image = read(tmp_path, document).dataset.images[0]
    assert (image.file_name, image.size) == ("frame_000000.PNG", ImageSize(80, 100))


def test_tracks_of_several_tasks_are_refused(tmp_path: Path) -> None:
    tracks = (a_track(a_shot(0), facts=f'task_id="{number}"') for number in (1, 2))
    with pytest.raises(LabelError, match="holds tracks of 2 tasks, whose frames share numbers"):
        read(tmp_path, a_video(*tracks))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param(a_document(an_image(name="")), "image 1: has the name ''", id="no name"),
        pytest.param(a_document(an_image(sides="")), "has the size None x None", id="no size"),
        pytest.param(a_document(an_image(sides='width="x" height="80"')), "has the size x x 80", id="text for a size"),
        pytest.param(a_document(an_image(sides='width="inf" height="80"')), "has the size inf x 80", id="infinite"),
        pytest.param(a_document(an_image(sides='width="99999" height="99999"')), "has the size 99999", id="a bomb"),
        pytest.param(a_document(an_image(BOX.replace("cat", ""))), "shape 1: has label ''", id="no class"),
        pytest.param(a_document(an_image(BOX.replace("10.00", "nan"))), "has xtl 'nan'", id="nan"),
        pytest.param(a_document(an_image(BOX.replace("xtl", "x"))), "has xtl None", id="no xtl"),
        pytest.param(a_document(an_image(BOX.replace("10.00", "-30"))), "has a box outside its picture", id="outside"),
        pytest.param(a_document(an_image("<cube/>")), "is <'cube'>. Known: box", id="unknown shape"),
        pytest.param(a_document(an_image('<polygon label="cat" points="1,2;3"/>')), "has the point '3'", id="half a point"),
        pytest.param(a_document(an_image('<polygon label="cat"/>')), "has the point ''", id="no points"),
        pytest.param(
            a_document(an_image('<mask label="cat" rle="1,2" left="0" top="0" width="2" height="2"/>')),
            "has run lengths '1,2', which are not the 4 pixels",
            id="short mask",
        ),
        pytest.param(
            a_document(an_image('<mask label="cat" rle="4" left="99" top="0" width="2" height="2"/>')),
            "has a mask of 2 x 2 px at 99, 0",
            id="mask outside",
        ),
        pytest.param(a_video(a_track(a_shot("x"))), "track 0: has the frame 'x'", id="no frame"),
        pytest.param(a_video(a_track(a_shot(1), a_shot(1))), "has the frame '1' twice", id="a frame twice"),
        pytest.param(a_video(a_track(a_shot(0), a_shot(9_000_000))), "has nothing between the frames 0 and 9000000", id="gap"),
        pytest.param(a_document(an_image(BOX), an_image()), "labels a.jpg again, after", id="twice"),
    ],
)
def test_what_spoils_a_picture_is_named(tmp_path: Path, document: str, message: str) -> None:
    imported = read(tmp_path, document)
    with pytest.raises(LabelError, match=message):
        raise LabelError.collected(imported.report.skipped)


def test_what_is_empty_is_left_out_alone(tmp_path: Path) -> None:
    shapes = [
        BOX.replace("40.00", "10.00"),
        '<polygon label="cat" points="1,1;2,2"/>',
        '<ellipse label="cat" cx="5" cy="5" rx="0" ry="1"/>',
        '<mask label="cat" rle="4" left="0" top="0" width="2" height="2"/>',
    ]
    imported = read(tmp_path, a_document(an_image(BOX, *shapes)))
    assert (imported.report.boxes, len(imported.report.skipped)) == (1, 4)


def test_swapped_corners_take_the_picture_with_them(tmp_path: Path) -> None:
    """There is an object: without its box it would be taught as background."""
    imported = read(tmp_path, a_document(an_image(BOX, BOX.replace('xbr="40.00"', 'xbr="5.00"'))))
    assert (imported.report.images, len(imported.report.skipped)) == (0, 1)
    assert "has a box of negative size" in imported.report.skipped[0].what


LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><annotations><image name="&b;"/></annotations>'


@pytest.mark.parametrize(
    ("document", "message"),
    [
        pytest.param(LAUGHS, "declares entities or a document type", id="billion laughs"),
        pytest.param(
            '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', "declares entities or a document", id="fetching"
        ),
        pytest.param("<annotations>", "is not XML", id="cut off"),
        pytest.param("<annotation/>", "is XML of <'annotation'>", id="VOC"),
        pytest.param(a_document(an_image(), a_track()), "holds both images and tracks", id="both"),
    ],
)
def test_a_file_that_is_not_cvats_is_refused(tmp_path: Path, document: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        read(tmp_path, document)


def test_deep_nesting_ends_in_our_own_error_or_in_nothing(tmp_path: Path) -> None:
    with contextlib.suppress(SightlineError):
        read(tmp_path, "<annotations>" + "<a>" * 100_000 + "</a>" * 100_000 + "</annotations>")


WHOLE = a_document(
    an_image(
        BOX,
        '<polygon label="dog" points="10,20;40,20;40,60" group_id="1"/>',
        '<ellipse label="dog" cx="50" cy="40" rx="10" ry="20" rotation="30"/>',
        '<mask label="cat" rle="1, 2, 1, 2" left="90" top="70" width="3" height="2"/>',
    )
)
FILM = a_video(a_track(a_shot(0), a_shot(2), a_shot(3, outside=1)))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([WHOLE, FILM]), st.data())
def test_a_damaged_file_gives_no_other_error(
    tmp_path_factory: pytest.TempPathFactory, document: str, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(document)))
    length = data.draw(st.integers(0, 12))
    inserted = data.draw(st.sampled_from(["", "nan", "-1", "9" * 40, "1e999", '"', "<", "x", "\0", "é", ";", ","]))
    with contextlib.suppress(SightlineError):
        read(tmp_path_factory.mktemp("damaged"), document[:start] + inserted + document[start + length :])
