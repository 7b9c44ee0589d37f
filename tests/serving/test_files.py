"""Prediction over files: order, errors as lines, memory, names. The model is a fake; the pictures are real files."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from sightline import wire
from sightline.errors import ImageError, RunError, SightlineError
from sightline.images import read_image
from sightline.records import Detections, Image, Model
from sightline.serving.files import (
    READERS,
    detect_files,
    predict_files,
    read_ahead,
)
from sightline.serving.given import collect

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, make_picture, as_bytes) -> Write:
    """write("a/b.png", shade=200, height=30) -> the picture's path below tmp_path."""

    def write(name: str, shade: int = 200, height: int = 30) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(make_picture(shade, height)))
        return path

    return write


def test_collect_expands_folders_and_keeps_files(tmp_path: Path, write: Write) -> None:
    for name in ("in/b.JPG", "in/a.png", "in/deep/c.webp", "in/.hidden.png", "in/.cache/d.png", "in/notes.txt", "one.odd"):
        write(name)
    found = collect([str(tmp_path / "one.odd"), tmp_path / "in", tmp_path / "in/a.png"])
    assert found == [str(tmp_path / name) for name in ("one.odd", "in/a.png", "in/b.JPG", "in/deep/c.webp")]


def test_collect_tells_all_problems_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError) as caught:
        collect([tmp_path / "empty", tmp_path / "missing.jpg", "s3://"])
    assert [(problem.where, problem.what) for problem in caught.value.problems] == [
        (str(tmp_path / "empty"), "holds no pictures"),
        (str(tmp_path / "missing.jpg"), "does not exist"),
        ("s3://", "names no bucket"),
    ]


def test_one_line_per_picture_in_order(model: Model, write: Write) -> None:
    paths = [write(f"{shade}.png", shade) for shade in range(0, 250, 10)]
    lines = list(predict_files(model.predict, model.class_names, paths, batch_size=4))
    assert lines == [
        {"image": str(path), **wire.to_json(model.predict([read_image(path)])[0], model.class_names)} for path in paths
    ]


def test_a_broken_picture_is_a_line_and_stops_nothing(model: Model, write: Write, tmp_path: Path) -> None:
    good = write("good.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes(good.read_bytes()[:-30])
    text = tmp_path / "text.jpg"
    text.write_text("hello")
    lines = list(predict_files(model.predict, model.class_names, [cut, good, text, tmp_path / "gone.png", good], batch_size=2))
    assert ["error" in line for line in lines] == [True, False, True, True, False]
    assert lines[0]["error"]["where"] == str(cut)
    assert "damaged or cut off" in lines[0]["error"]["what"]
    assert "no picture" in lines[2]["error"]["what"]
    assert "cannot be read" in lines[3]["error"]["what"]


def test_a_picture_that_breaks_the_model_fails_alone(model: Model, write: Write) -> None:
    def predict(images: Sequence[Image]) -> list[Detections]:
        if any(image[0, 0, 0] == 13 for image in images):
            raise ValueError("unlucky")
        return model.predict(images)

    paths = [write(f"{shade}.png", shade) for shade in (12, 13, 14)]
    lines = list(predict_files(predict, model.class_names, paths, batch_size=3))
    assert ["error" in line for line in lines] == [False, True, False]
    assert lines[1]["error"]["what"] == "could not be predicted (ValueError('unlucky'))"


def test_a_model_that_is_gone_ends_the_run(write: Write) -> None:
    def predict(images: Sequence[Image]) -> list[Detections]:
        raise RunError("http://h", "cannot be reached", "Check the address.")

    with pytest.raises(RunError, match="cannot be reached"):
        list(predict_files(predict, (), [write("a.png")]))


def test_a_wrong_number_of_answers_ends_the_run(write: Write) -> None:
    with pytest.raises(RunError, match="gave 0 answers to 1 pictures"):
        list(predict_files(lambda images: [], (), [write("a.png")]))


def test_only_pictures_of_one_shape_share_a_batch(model: Model, write: Write) -> None:
    batches = []

    def predict(images: Sequence[Image]) -> list[Detections]:
        batches.append([image.shape[0] for image in images])
        return model.predict(images)

    paths = [write(f"{number}.png", 100, height) for number, height in enumerate((30, 20, 30, 20, 30))]
    found = list(detect_files([predict], map(str, paths), batch_size=4))
    assert [result.name for result in found] == list(map(str, paths))
    assert [result.detections.size.height for result in found] == [30, 20, 30, 20, 30]
    assert batches == [[20, 20], [30, 30, 30]]


def test_threshold(model: Model, write: Write) -> None:
    (line,) = predict_files(model.predict, model.class_names, [write("a.png")], threshold=0.5)
    assert line["scores"] == [float(np.float32(0.9))]


def test_a_threshold_for_each_class(model: Model, write: Write) -> None:
    """The first detection is of class 1 and has 0.9, the second is of class 0."""
    for thresholds, labels in (((0.0, 0.95), [0]), ((1.0, 0.5), [1]), ((0.0, 0.0), [1, 0])):
        (line,) = predict_files(model.predict, model.class_names, [write("a.png")], threshold=thresholds)
        assert line["pred_classes"] == labels


def test_masks_are_in_the_lines(masked: Model, write: Write) -> None:
    path = write("a.png")
    expected = masked.predict([read_image(path)])[0].masks
    for threshold, count in ((0.0, 2), (0.5, 1)):
        (line,) = predict_files(masked.predict, masked.class_names, [path], threshold=threshold)
        assert wire.from_json(line, "line")[0].masks == expected[:count]


def test_reading_ahead_is_bounded(write: Write) -> None:
    path, taken, before = write("a.png"), [], set(threading.enumerate())  # a server of other tests may be among them

    def endless() -> Iterator[str]:
        while True:
            taken.append(1)
            yield str(path)

    reads = read_ahead(endless(), window=6)
    for _ in range(10):
        assert next(reads).image is not None
    assert 10 <= len(taken) <= 16
    reads.close()
    assert set(threading.enumerate()) <= before, READERS


def test_errors_are_sightlines(write: Write) -> None:
    """A remote server's refusal becomes the picture's error, with the server's words."""

    def predict(images: Sequence[Image]) -> list[Detections]:
        raise SightlineError("body", "has more than 10 bytes", "Send a smaller picture.")

    path = write("a.png")
    (line,) = predict_files(predict, (), [path])
    assert line["error"] == {"where": str(path), "what": "body has more than 10 bytes", "fix": "Send a smaller picture."}
