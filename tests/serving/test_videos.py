"""Videos in and out; every one is written by the test itself."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from sightline.errors import ImageError, SightlineError
from sightline.records import Image, ImageSize, Model
from sightline.serving.drawing import drawn
from sightline.serving.files import Found, detect_files, predict_files
from sightline.serving.videos import VideoWriter, frame_count, is_video, shots, to_image

av = pytest.importorskip("av")

SIZE = ImageSize(48, 64)
SHADES = [20 * number for number in range(1, 11)]


def a_film(path: Path, times_s: list[float] | None = None, *, turn: int = 0) -> Path:
    """Ten frames at 5 a second, or at `times_s`: each of one shade, with a white top left quarter. turn: degrees, clockwise."""
    times_s = [number / 5 for number in range(len(SHADES))] if times_s is None else times_s
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264" if "libx264" in av.codecs_available else "mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = SIZE.height, SIZE.width, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for shade, time_s in zip(SHADES, times_s, strict=False):
            frame = av.VideoFrame.from_ndarray(picture(shade), format="rgb24")
            frame.pts, frame.time_base = round(time_s * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if turn:
        turned(path, turn)
    return path


def picture(shade: int) -> Image:
    pixels = np.full((*SIZE, 3), shade, np.uint8)
    pixels[:24, :32] = 255
    return pixels


def turned(path: Path, turn: int) -> None:
    """Writes the matrix of the track header (tkhd, version 0) as a phone does that is held upright."""
    matrix = {90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turn]
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 4 + 20 + 16
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        struct.pack_into(">i", content, at + place, value << 16)
    path.write_bytes(bytes(content))


def shade_of(image: Image) -> int:
    return round(float(np.median(image[-20:, -20:])))


def test_every_nth_frame_with_its_time(tmp_path: Path) -> None:
    film = str(a_film(tmp_path / "film.mp4"))
    found = list(shots(film, 3))
    assert [shot.number for shot in found] == [0, 3, 6, 9]
    assert [shot.time_s for shot in found] == pytest.approx([0, 0.6, 1.2, 1.8])
    assert [shade_of(to_image(shot)) for shot in found] == pytest.approx([20, 80, 140, 200], abs=4)
    assert frame_count(film, 3) == 4


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0, 0.1, 0.5, 0.55, 2.0]
    assert [shot.time_s for shot in shots(str(a_film(tmp_path / "film.mp4", times)), 1)] == pytest.approx(times, abs=0.002)


@pytest.mark.parametrize(("turn", "white"), [(90, (0, -1)), (180, (-1, -1)), (270, (-1, 0))])
def test_turned_films_are_shown_upright(tmp_path: Path, turn: int, white: tuple[int, int]) -> None:
    """Turned by 90 degrees clockwise, what was in the top left corner is in the top right one."""
    image = to_image(next(shots(str(a_film(tmp_path / "film.mp4", turn=turn)), 1)))
    assert image.shape[:2] == (SIZE if turn == 180 else (SIZE.width, SIZE.height))
    corners = {(row, column): int(image[row, column, 0]) for row in (0, -1) for column in (0, -1)}
    assert max(corners, key=corners.__getitem__) == white
    assert sorted(corners.values())[2] < 60


def test_one_line_a_frame(model: Model, tmp_path: Path, as_bytes, make_picture) -> None:
    film, still = a_film(tmp_path / "film.mp4"), tmp_path / "a.png"
    still.write_bytes(as_bytes(make_picture()))
    lines = list(predict_files(model.predict, model.class_names, [still, film, still], every=5))
    assert [(line["image"], line.get("frame"), line.get("time_s")) for line in lines] == [
        (str(still), None, None),
        (str(film), 0, 0.0),
        (str(film), 5, 1.0),
        (str(still), None, None),
    ]
    assert all("scores" in line for line in lines)


def test_a_film_goes_on_behind_a_frame(model: Model, tmp_path: Path) -> None:
    film = str(a_film(tmp_path / "film.mp4"))
    assert [found.frame for found in detect_files([model.predict], [film], every=2, after={film: 4})] == [6, 8]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"hello, this is text" * 50, "is no video that can be read", id="text"),
        pytest.param(None, "does not exist", id="missing"),
    ],
)
def test_broken_files_are_lines(model: Model, tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    (line,) = predict_files(model.predict, model.class_names, [path])
    assert line["image"] == line["error"]["where"] == str(path)  # type: ignore[index]
    assert what in line["error"]["what"]  # type: ignore[index]
    assert frame_count(str(path), 1) is None


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        sound.sample_rate = 48000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    with pytest.raises(ImageError, match="holds no video"):
        list(shots(str(path), 1))


def test_a_film_that_is_cut_off_gives_its_frames_and_says_so(model: Model, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.mp4", tmp_path / "cut.mp4"
    film = VideoWriter(whole, SIZE, 5.0)  # its index stands before the frames
    noise = np.random.default_rng(0)
    for number in range(40):
        film.write(noise.integers(0, 255, (*SIZE, 3), np.uint8), number / 5)
    film.close()
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    lines = list(predict_files(model.predict, model.class_names, [cut]))
    assert 5 < len(lines) < 40
    assert [("error" in line, line["frame"]) for line in lines[-2:]] == [(False, len(lines) - 2), (True, len(lines) - 1)]


def test_a_drawn_film_has_the_times_and_the_pictures(model: Model, tmp_path: Path) -> None:
    times = [0, 0.1, 0.5, 0.55, 2.0]
    film = str(a_film(tmp_path / "film.mp4", times))
    target = tmp_path / "drawn" / "film.mp4"
    results = detect_files([model.predict], [film])
    passed = list(drawn(results, lambda image, detections: 255 - image, {film: target}))
    assert len(passed) == 5
    back = list(shots(str(target), 1))
    assert [shot.time_s for shot in back] == pytest.approx(times, abs=0.002)
    assert [shade_of(to_image(shot)) for shot in back] == pytest.approx([255 - shade for shade in SHADES[:5]], abs=4)
    assert [path.name for path in target.parent.iterdir()] == ["film.mp4"]


def test_a_drawing_that_is_cut_short_leaves_no_film(tmp_path: Path, model: Model) -> None:
    film = str(a_film(tmp_path / "film.mp4"))
    found = drawn(detect_files([model.predict], [film]), lambda image, detections: image, {film: tmp_path / "drawn/film.mp4"})
    assert isinstance(next(found), Found)
    found.close()
    assert list((tmp_path / "drawn").iterdir()) == []


@pytest.mark.parametrize("size", [ImageSize(31, 45), ImageSize(1, 1)])
def test_odd_sizes_are_written(tmp_path: Path, size: ImageSize) -> None:
    film = VideoWriter(tmp_path / "odd.mp4", size, 25.0)
    for number in range(3):
        film.write(np.full((*size, 3), 90, np.uint8), number / 25)
    film.close()
    (first, *_) = shots(str(tmp_path / "odd.mp4"), 1)
    assert to_image(first).shape[:2] == (max(size.height & ~1, 2), max(size.width & ~1, 2))


def test_names() -> None:
    assert is_video("a/B.MP4")
    assert not is_video("a.jpg")


def test_errors_are_sightlines(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="does not exist"):
        list(shots(str(tmp_path / "gone.mp4"), 1))
