"""`sightline predict` and `sightline serve` as a user runs them; the model is behind an address, so no torch is needed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from sightline import wire
from sightline.images import read_image
from sightline.records import Detections, Image, Model
from sightline.serving.server import running
from sightline.serving.settings import Settings
from sightline.view.draw import draw

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def sightline() -> Run:
    """sightline("predict", ...) -> the finished process."""
    program = "import sys; from sightline.cli.main import main; sys.exit(main())"

    def run(*arguments: object) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-c", program, *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


@pytest.fixture
def photos(tmp_path: Path, make_picture, as_bytes) -> Path:
    """A folder: a.png, deep/a.png, deep/b.webp."""
    for name, kind in (("a.png", "PNG"), ("deep/a.png", "PNG"), ("deep/b.webp", "WEBP")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_bytes(make_picture(200, 60, 80), kind))
    return tmp_path / "photos"


def test_lines_on_stdout_and_a_summary_on_stderr(sightline: Run, url: str, photos: Path) -> None:
    done = sightline("predict", url, photos, "--threshold", 0.5)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["image"] for line in lines] == [str(photos / name) for name in ("a.png", "deep/a.png", "deep/b.webp")]
    assert [line["class_names"] for line in lines] == [["wasp"]] * 3
    assert "3 pictures, 3 detections, 0 errors" in done.stderr


def test_the_models_thresholds_count_where_none_is_given(sightline: Run, model: Model, photos: Path, tmp_path: Path) -> None:
    """Into a file, too, where an interrupted run would go on with the same ones."""
    output = tmp_path / "out.jsonl"
    with running(dataclasses.replace(model, thresholds=(0.0, 0.95))) as url:
        for _ in range(2):
            done = sightline("predict", url, photos / "a.png", "-o", output)
            assert done.returncode == 0, done.stderr
        everything = sightline("predict", url, photos / "a.png", "--threshold", 0)
    assert [json.loads(line)["pred_classes"] for line in output.read_text().splitlines()] == [[0]]
    assert json.loads(everything.stdout)["pred_classes"] == [1, 0]


def test_a_broken_picture_is_a_line_and_exit_1(sightline: Run, url: str, photos: Path, tmp_path: Path) -> None:
    (photos / "b.jpg").write_text("hello")
    output = tmp_path / "out.jsonl"
    done = sightline("predict", url, photos, "-o", output)
    assert (done.returncode, done.stdout) == (1, "")
    assert ["error" in json.loads(line) for line in output.read_text().splitlines()] == [False, True, False, False]
    assert "4 pictures, 6 detections, 1 errors" in done.stderr


def test_drawn_pictures_keep_their_relative_names(sightline: Run, url: str, photos: Path, tmp_path: Path) -> None:
    done = sightline("predict", url, photos, "--draw", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    drawn = {path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*")}
    assert drawn == {"a.png", "deep/a.png", "deep/b.webp.png"}
    assert (read_image(tmp_path / "drawn/a.png") != read_image(photos / "a.png")).any()
    scores = [score for line in map(json.loads, done.stdout.splitlines()) for score in line["scores"]]
    shown = sum(score >= 0.5 for score in scores)
    assert f"drawn from score 0.5 on: {shown} of {len(scores)} detections (--draw-threshold)" in done.stderr


def test_masks_are_written_and_drawn(sightline: Run, masked: Model, photos: Path, tmp_path: Path) -> None:
    with running(masked) as address:
        done = sightline("predict", address, photos / "a.png", "-o", tmp_path / "out.jsonl", "--draw", tmp_path / "drawn")
    assert done.returncode == 0, done.stderr
    detections, _ = wire.from_json(json.loads((tmp_path / "out.jsonl").read_text()), "line")
    assert detections.masks == masked.predict([read_image(photos / "a.png")])[0].masks
    expected = draw(read_image(photos / "a.png"), detections, masked.class_names)
    np.testing.assert_array_equal(read_image(tmp_path / "drawn/a.png"), expected)


def test_nothing_is_drawn_over_what_is_read(sightline: Run, url: str, photos: Path) -> None:
    before = (photos / "a.png").read_bytes()
    done = sightline("predict", url, photos, "--draw", photos)
    assert done.returncode == 2
    assert "would be drawn over. Give --draw another folder." in done.stderr
    assert (photos / "a.png").read_bytes() == before


def test_missing_pictures_are_told_at_once(sightline: Run, url: str, tmp_path: Path) -> None:
    done = sightline("predict", url, tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out")
    assert done.returncode == 2
    assert done.stderr.count("does not exist. Check the path.") == 2
    assert not (tmp_path / "out").exists()


def test_nobody_at_the_address_is_exit_1(sightline: Run, photos: Path) -> None:
    done = sightline("predict", "http://127.0.0.1:9", photos)
    assert done.returncode == 1
    assert "http://127.0.0.1:9: cannot be reached" in done.stderr


@pytest.mark.parametrize("arguments", [["--threshold", "2"], ["--batch-size", "0"], ["--no-such-option"]])
def test_asked_wrongly_is_exit_2(arguments: list[str], sightline: Run, url: str, photos: Path) -> None:
    assert sightline("predict", url, photos, *arguments).returncode == 2


def test_serve_says_what_is_wrong_with_its_model(sightline: Run, tmp_path: Path) -> None:
    done = sightline("serve", tmp_path / "nothing", "--port", 0)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "nothing" in done.stderr


def test_sagemakers_port_is_bound(model: Model, tmp_path: Path) -> None:
    """SAGEMAKER_BIND_TO_PORT is the default of --port, read at the command line only."""
    program = (
        "import sys, types\n"
        "import sightline.serving.server as server\n"
        "server.serve = lambda model, **options: print(options['port'])\n"
        "from sightline.cli.main import main\n"
        "main()\n"
    )
    for arguments, port in (([], "9191"), (["--port", "7000"], "7000")):
        done = subprocess.run(
            [sys.executable, "-c", program, "serve", "m", *arguments],
            env={**os.environ, "SAGEMAKER_BIND_TO_PORT": "9191"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == port


def begin(url: str, *arguments: object) -> "subprocess.Popen[str]":
    program = "import sys; from sightline.cli.main import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "predict", url, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_interrupted_run_goes_on(
    sightline: Run, model: Model, tmp_path: Path, make_picture, as_bytes, number: signal.Signals, status: int
) -> None:
    pictures = tmp_path / "in"
    pictures.mkdir()
    for index in range(12):
        (pictures / f"{index:02d}.png").write_bytes(as_bytes(make_picture(10 * index)))
    release, seen = threading.Event(), list[int]()

    def predict(images: Sequence[Image]) -> list[Detections]:
        """The last six pictures wait until they are let go."""
        shade = int(images[0][0, 0, 0])
        seen.append(shade)
        if shade >= 60:
            release.wait(30)
        return model.predict(images)

    output, options = tmp_path / "out.jsonl", ("--workers", 1, "--draw", tmp_path / "drawn", "--draw-threshold", 0.99)
    partial = tmp_path / "out.jsonl.partial"
    with running(dataclasses.replace(model, predict=predict), settings=Settings(max_batch=1)) as address:
        process = begin(address, pictures, "-o", output, *options)
        while process.poll() is None and (not partial.is_file() or partial.read_text().count("\n") < 3):
            time.sleep(0.02)
        process.send_signal(number)
        release.set()
        _, said = process.communicate(timeout=60)
        assert process.returncode == status, said
        assert "Traceback" not in said
        assert not output.exists()
        done = len(partial.read_text().splitlines())
        refused = sightline("predict", address, pictures, "-o", output, *options, "--threshold", 0.5)
        assert refused.returncode == 2
        assert "threshold null, now 0.5" in refused.stderr
        seen.clear()
        again = sightline("predict", address, pictures, "-o", output, *options)
    assert again.returncode == 0, again.stderr
    assert f"12 pictures ({done} were there already)" in again.stderr
    assert sorted(seen) == [10 * index for index in range(done, 12)]
    names = [Path(json.loads(line)["image"]).name for line in output.read_text().splitlines()]
    assert names == [f"{index:02d}.png" for index in range(12)]
    assert len(list((tmp_path / "drawn").glob("*.png"))) == 12
