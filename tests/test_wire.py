"""The wire: what is encoded comes back bit for bit, and no body gets past the door that is not a picture."""

import io
import json
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from builders import a_mask
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow
from pycocotools import mask as reference

from sightline import wire
from sightline.errors import RequestError
from sightline.geometry.masks import encode
from sightline.images import Limits
from sightline.records import Detections, ImageSize, Rle

NAMES = ("bee", "wasp", "überhornet")


def detections(count: int = 2) -> Detections:
    random = np.random.default_rng(count)
    return Detections(
        size=ImageSize(480, 640),
        boxes=random.uniform(0, 640, (count, 4)).astype(np.float32),
        scores=np.sort(random.uniform(0, 1, count).astype(np.float32))[::-1],
        labels=random.integers(0, len(NAMES), count),
    )


def assert_same_bits(got: Detections, expected: Detections) -> None:
    assert got.size == expected.size
    for name in ("boxes", "scores", "labels"):
        left, right = getattr(got, name), getattr(expected, name)
        assert left.dtype == right.dtype
        assert left.tobytes() == np.ascontiguousarray(right).tobytes(), name


@pytest.mark.parametrize("count", [0, 1, 7])
def test_json_and_npz_round_trips(count: int) -> None:
    sent = detections(count)
    names = [NAMES[label] for label in sent.labels]
    for got, got_names in (
        wire.from_json_text(json.dumps(wire.to_json(sent, NAMES)).encode(), "x"),
        wire.from_npz(wire.to_npz(sent, NAMES), "x"),
    ):
        assert_same_bits(got, sent)
        assert got_names == names


@given(arrays.arrays(np.float32, st.tuples(st.integers(0, 5), st.just(4)), elements=st.floats(-1e6, 1e6, width=32)))
def test_any_box_survives_json(boxes: np.ndarray) -> None:
    n = len(boxes)
    sent = Detections(ImageSize(1, 1), boxes, np.full(n, 0.1, np.float32), np.zeros(n, np.int64))
    assert_same_bits(wire.from_json_text(json.dumps(wire.to_json(sent, NAMES)).encode(), "x")[0], sent)


def test_the_answer_has_the_keys_that_clients_decode() -> None:
    sent = Detections(ImageSize(3, 4), np.float32([[0, 1, 2, 3]]), np.float32([0.5]), np.int64([1]))
    assert wire.to_json(sent, NAMES) == {
        "image_size": [3, 4],
        "pred_boxes": [[0.0, 1.0, 2.0, 3.0]],
        "scores": [0.5],
        "pred_classes": [1],
        "class_names": ["wasp"],
    }


def test_names_are_optional_in_an_answer() -> None:
    answer = {**wire.to_json(detections(), NAMES)}
    del answer["class_names"]
    assert wire.from_json(answer, "x")[1] == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        pytest.param({"scores": None}, "http://h: is no detection answer", id="no scores"),
        pytest.param({"scores": [0.5]}, "is no detection answer", id="one score, two boxes"),
        pytest.param({"pred_classes": [1]}, "labels has shape", id="one class, two boxes"),
        pytest.param({"pred_classes": [1e30, 1]}, "is no detection answer", id="absurd class"),
        pytest.param({"pred_classes": [10**30, 1]}, "is no detection answer", id="absurd whole number"),
        pytest.param({"image_size": [1e400, 1]}, "is no detection answer", id="endless picture"),
        pytest.param({"image_size": [1]}, "is no detection answer", id="one side"),
        pytest.param({"pred_boxes": [["a"] * 4] * 2}, "is no detection answer", id="text in a box"),
        pytest.param({"class_names": ["bee"]}, "1 class names for 2 scores", id="too few names"),
        pytest.param({"class_names": 3}, "is no detection answer", id="names are a number"),
    ],
)
def test_broken_answers(changed: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        wire.from_json({**wire.to_json(detections(), NAMES), **changed}, "http://h")


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"<html>", "answered no JSON"), (b"[1]", "answered a JSON list"), (b"[" * 100_000, "answered no JSON")],
    ids=["html", "list", "deep"],
)
def test_answers_that_are_no_json_object(body: bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        wire.from_json_text(body, "x")


def test_npz_is_never_unpickled() -> None:
    file = io.BytesIO()
    np.savez(file, scores=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for body in (file.getvalue(), pickle.dumps([1]), b"", b"PK\x03\x04"):
        with pytest.raises(RequestError, match="is no NumPy archive"):
            wire.from_npz(body, "x")


SIZE = ImageSize(6, 5)


def with_masks(*masks: Rle, size: ImageSize = SIZE) -> Detections:
    n = len(masks)
    boxes, scores = np.zeros((n, 4), np.float32), np.full(n, 0.5, np.float32)
    return Detections(size, boxes, scores, np.zeros(n, np.int64), tuple(masks))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_masks_travel_in_both_forms(count: int) -> None:
    sent = with_masks(*[a_mask((0, number, 3, 5), SIZE) for number in range(count)])
    for got, _ in (
        wire.from_json_text(json.dumps(wire.to_json(sent, NAMES)).encode(), "x"),
        wire.from_npz(wire.to_npz(sent, NAMES), "x"),
    ):
        assert got.masks == sent.masks


def test_a_mask_is_written_as_coco_writes_it() -> None:
    mask = a_mask((1, 0, 3, 6), SIZE)
    assert wire.to_json(with_masks(mask), NAMES)["pred_masks_rle"] == [{"size": [6, 5], "counts": mask.counts}]
    assert mask.counts == reference.frPyObjects({"size": [6, 5], "counts": [6, 12, 12]}, 6, 5)["counts"].decode()


def test_bare_run_lengths_are_compressed_on_the_way() -> None:
    bare, text = Rle(SIZE, (6, 12, 12)), a_mask((1, 0, 3, 6), SIZE)
    assert wire.to_json(with_masks(bare), NAMES) == wire.to_json(with_masks(text), NAMES)
    answer = {**wire.to_json(with_masks(text), NAMES), "pred_masks_rle": [{"size": [6, 5], "counts": [6, 12, 12]}]}
    assert wire.from_json(answer, "x")[0].masks == (text,)


def test_a_model_without_masks_says_nothing_of_them() -> None:
    assert "pred_masks_rle" not in wire.to_json(detections(), NAMES)
    with np.load(io.BytesIO(wire.to_npz(detections(), NAMES))) as archive:
        assert "pred_masks_rle" not in archive.files
    assert wire.from_json(wire.to_json(detections(), NAMES), "x")[0].masks is None


@given(arrays.arrays(np.bool_, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_run_lengths_are_those_of_the_bitmap(bitmap: np.ndarray) -> None:
    runs = wire.run_lengths(encode(bitmap))
    decoded = np.repeat(np.arange(len(runs)) % 2, runs).reshape(bitmap.shape[::-1]).T
    np.testing.assert_array_equal(decoded, bitmap)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        pytest.param([], "has 0 masks", id="none for a score"),
        pytest.param([{"size": [6, 5], "counts": "n0"}] * 2, "has 2 masks", id="two for a score"),
        pytest.param([{"size": [5, 6], "counts": "n0"}], r"size \[5, 6\] in a picture of \[6, 5\]", id="width first"),
        pytest.param([{"size": None, "counts": "n0"}], "size None", id="no size"),
        pytest.param([{"counts": "n0"}], "KeyError", id="size missing"),
        pytest.param([{"size": [6, 5]}], "KeyError", id="counts missing"),
        pytest.param(["n0"], "TypeError", id="text"),
        pytest.param("n0", "is a str, not a list", id="not a list"),
        pytest.param({"0": 1}, "is a dict, not a list", id="an object"),
        pytest.param([{"size": [6, 5], "counts": 30}], "counts are a int", id="a number"),
        pytest.param([{"size": [6, 5], "counts": None}], "counts are a NoneType", id="null"),
        pytest.param([{"size": [6, 5], "counts": ""}], "do not sum to the 30 pixels", id="empty"),
        pytest.param([{"size": [6, 5], "counts": "m0"}], "do not sum to the 30 pixels", id="a pixel short"),
        pytest.param([{"size": [6, 5], "counts": "o0"}], "do not sum to the 30 pixels", id="a pixel long"),
        pytest.param([{"size": [6, 5], "counts": "n"}], "cut off", id="cut off"),
        pytest.param([{"size": [6, 5], "counts": "n0 "}], "no run lengths", id="a space"),
        pytest.param([{"size": [6, 5], "counts": "n0p"}], "no run lengths", id="beyond the letters"),
        pytest.param([{"size": [6, 5], "counts": "Ä"}], "UnicodeEncodeError", id="not ascii"),
        pytest.param([{"size": [6, 5], "counts": "OO1"}], "do not sum", id="negative runs"),
        pytest.param([{"size": [6, 5], "counts": "o" * 100_000 + "0"}], "longer than any picture", id="an endless run"),
        pytest.param([{"size": [6, 5], "counts": [31, -1]}], "no whole numbers within", id="bare: negative"),
        pytest.param([{"size": [6, 5], "counts": [30.0]}], "no whole numbers within", id="bare: float"),
        pytest.param([{"size": [6, 5], "counts": [True] * 30}], "no whole numbers within", id="bare: truths"),
        pytest.param([{"size": [6, 5], "counts": [10**30]}], "no whole numbers within", id="bare: absurd"),
        pytest.param([{"size": [6, 5], "counts": [1, 2]}], "do not sum", id="bare: short"),
    ],
)
def test_broken_masks(entries: object, message: str) -> None:
    answer = {**wire.to_json(with_masks(a_mask(size=SIZE)), NAMES), "pred_masks_rle": entries}
    with pytest.raises(RequestError, match=message):
        wire.from_json(answer, "http://h")


@given(st.text(st.characters(codec="ascii"), max_size=40), st.integers(0, 40), st.integers(0, 40))
def test_any_text_is_a_mask_or_refused(counts: str, height: int, width: int) -> None:
    size = ImageSize(height, width)
    answer = {**wire.to_json(with_masks(Rle(size, counts), size=size), NAMES)}
    try:
        got = wire.from_json(answer, "x")[0].masks
    except RequestError:
        return
    reference.decode({"size": list(size), "counts": got[0].counts.encode()})


def test_a_picture_beyond_cocos_counting_has_no_masks() -> None:
    """Five runs of 2**62 would sum to 2**62 pixels in 64 bits."""
    size = ImageSize(2**31, 2**31)
    with pytest.raises(ValueError, match="do not sum"):
        wire.run_lengths(Rle(size, (2**62,) * 5))


@pytest.mark.parametrize("masks", [np.array("n0"), np.array([[1, 2]]), np.array(["n0", "n0"])], ids=["bare", "numbers", "two"])
def test_broken_masks_in_an_archive(masks: np.ndarray) -> None:
    with np.load(io.BytesIO(wire.to_npz(with_masks(a_mask(size=SIZE)), NAMES))) as archive:
        arrays_sent = {**archive, "pred_masks_rle": masks}
    file = io.BytesIO()
    np.savez(file, **arrays_sent)
    with pytest.raises(RequestError, match="is no detection answer"):
        wire.from_npz(file.getvalue(), "x")


def pixels() -> np.ndarray:
    return np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)


def npy(array: np.ndarray, version: tuple[int, int] | None = None, pickled: bool = False) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=pickled)
    return file.getvalue()


def npy_with_header(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + body


def picture(kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(pixels()).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_is_bgr_unless_told(version: tuple[int, int]) -> None:
    body = npy(pixels(), version)
    np.testing.assert_array_equal(wire.decode_picture(body, wire.NPY), pixels()[:, :, ::-1])
    np.testing.assert_array_equal(wire.decode_picture(body, wire.NPY, npy_format="RGB"), pixels())


@pytest.mark.parametrize("npy_format", ["BGR", "RGB"])
def test_npy_gives_an_ordinary_array(npy_format: str) -> None:
    """Contiguous and writable, as every decoded picture: torch warns about anything else."""
    flags = wire.decode_picture(npy(pixels()), wire.NPY, npy_format=npy_format).flags
    assert flags.c_contiguous
    assert flags.writeable


@pytest.mark.parametrize("content_type", [*wire.PICTURE_TYPES, "Image/PNG; q=1", " image/jpeg "])
def test_picture_types_are_synonyms(content_type: str) -> None:
    np.testing.assert_array_equal(wire.decode_picture(picture(), content_type), pixels())


SMALL = Limits(max_bytes=2000, max_pixels=1000, max_side=100)


@pytest.mark.parametrize(
    ("body", "content_type", "status", "message"),
    [
        pytest.param(
            picture(), "application/pdf", 415, "Content-Type: 'application/pdf' is not understood.*image/jpeg", id="pdf"
        ),
        pytest.param(picture(), "", 415, "Content-Type: 'none' is not understood", id="no type"),
        pytest.param(b"{}", "application/json", 415, "application/json", id="json"),
        pytest.param(b"", "image/jpeg", 400, "body: is empty", id="empty"),
        pytest.param(b"hello", "image/jpeg", 400, "body: is no picture", id="text"),
        pytest.param(picture()[:-20], "image/png", 400, "body: is damaged", id="cut off"),
        pytest.param(b"x" * 2001, "image/png", 413, "has 2,001 bytes, more than 2,000", id="bytes"),
        pytest.param(b"", wire.NPY, 400, "is no .npy file", id="npy: empty"),
        pytest.param(b"\x93NUMPY\x09\x00" + b" " * 80, wire.NPY, 400, "is no .npy file", id="npy: version 9"),
        pytest.param(npy(pixels())[:40], wire.NPY, 400, "cut off or absurdly long", id="npy: half a header"),
        pytest.param(npy(pixels())[:-1], wire.NPY, 400, "has 59 bytes of pixels for shape", id="npy: a byte short"),
        pytest.param(npy(pixels()) + b"x", wire.NPY, 400, "has 61 bytes of pixels", id="npy: a byte long"),
        pytest.param(npy(pixels().astype(np.float32)), wire.NPY, 400, "holds dtype '<f4'", id="npy: floats"),
        pytest.param(npy(np.asfortranarray(pixels())), wire.NPY, 400, "fortran_order True", id="npy: fortran"),
        pytest.param(npy(pixels()[:, :, 0]), wire.NPY, 400, r"array of shape \(4, 5\)", id="npy: grey"),
        pytest.param(npy(np.zeros((2, 2, 4), np.uint8)), wire.NPY, 400, r"shape \(2, 2, 4\)", id="npy: four channels"),
        pytest.param(npy(np.zeros((0, 2, 3), np.uint8)), wire.NPY, 400, r"shape \(0, 2, 3\)", id="npy: no rows"),
        pytest.param(npy(np.array([None]), pickled=True), wire.NPY, 400, r"holds dtype '\|O'", id="npy: pickled"),
        pytest.param(npy_with_header("{'descr': "), wire.NPY, 400, "unreadable header", id="npy: no dictionary"),
        pytest.param(npy_with_header("__import__('os').system('true')"), wire.NPY, 400, "unreadable header", id="npy: code"),
        pytest.param(npy_with_header("(" * 5000), wire.NPY, 400, "unreadable header", id="npy: deep"),
        pytest.param(npy_with_header("-" * 9000 + "1"), wire.NPY, 413, "bytes", id="npy: long"),
        pytest.param(npy_with_header("[1]"), wire.NPY, 400, "unreadable header", id="npy: a list"),
        pytest.param(
            npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (101, 1, 3)}", b"x" * 303),
            wire.NPY,
            413,
            "1 x 101 px, more than allowed",
            id="npy: too high",
        ),
        pytest.param(
            npy_with_header("{'descr': '|u1', 'fortran_order': False, 'shape': (-1, True, 3)}"),
            wire.NPY,
            400,
            "array of shape",
            id="npy: negative",
        ),
    ],
)
def test_refused(body: bytes, content_type: str, status: int, message: str) -> None:
    with pytest.raises(RequestError, match=message) as caught:
        wire.decode_picture(body, content_type, SMALL if len(body) < 5000 or status == 413 else wire.REQUEST_LIMITS)
    assert caught.value.status == status


def test_too_many_pixels_are_413() -> None:
    with pytest.raises(RequestError, match="5 x 4 px, more than 10 pixels") as caught:
        wire.decode_picture(picture(), "image/png", Limits(max_pixels=10))
    assert caught.value.status == 413


def test_the_documented_answers_are_answers() -> None:
    """docs/wire.md shows what the code does: its examples decode, and its errors have the three parts."""
    text = (Path(__file__).parents[1] / "docs" / "wire.md").read_text("utf-8")
    answer, lines = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    documented = [json.loads(answer), *map(json.loads, lines.splitlines())]
    for example in documented[:2]:
        decoded, names = wire.from_json(example, "docs")
        assert {key: example[key] for key in wire.to_json(decoded, NAMES)} == wire.to_json(decoded, NAMES)
        assert names == [NAMES[label] for label in decoded.labels]
    assert set(documented[2]) == {"image", "error"}
    assert set(documented[2]["error"]) == {"where", "what", "fix"}
    for word in (
        *wire.REQUEST_TYPES,
        *wire.ANSWER_TYPES,
        f"{wire.REQUEST_LIMITS.max_bytes:,}",
        f"{wire.REQUEST_LIMITS.max_pixels:,}",
    ):
        assert word in text
