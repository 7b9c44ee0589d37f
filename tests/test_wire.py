"""The wire: what is encoded comes back bit for bit, and no body gets past the door that is not a picture."""

import io
import json
import pickle
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image as Pillow

from sightline import wire
from sightline.errors import RequestError
from sightline.images import Limits
from sightline.records import Detections, ImageSize

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
