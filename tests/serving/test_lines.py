"""The lines of a run that is cut short: whole, never twice, never of two models."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sightline.errors import RunError, SightlineError
from sightline.serving.lines import Lines, lines_at

BEGUN = {"model": "a", "threshold": 0.5}


def write(path: Path, lines: list[dict[str, object]], *, end: bool = True, **options: bool) -> None:
    """A run that writes `lines`, and then ends or breaks."""

    def run(found: Lines) -> None:
        for line in lines:
            found.write(line)
        if not end:
            raise KeyboardInterrupt

    with lines_at(path, BEGUN, **options) as found:
        run(found)


def cut_short(path: Path, lines: list[dict[str, object]]) -> None:
    with pytest.raises(KeyboardInterrupt):
        write(path, lines, end=False)


def images(path: Path) -> list[str]:
    return [json.loads(line)["image"] for line in path.read_text("utf-8").splitlines()]


def test_lines_appear_with_the_last_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "out.jsonl"
    cut_short(path, [{"image": "ü.jpg", "scores": []}])
    assert not path.exists()
    with lines_at(path, BEGUN) as found:
        assert (found.done, found.count, found.errors) == ({"ü.jpg"}, 1, 0)
        found.write({"image": "b", "error": {}})
        assert not path.exists()
    assert images(path) == ["ü.jpg", "b"]
    assert [file.name for file in path.parent.iterdir()] == ["out.jsonl"]


def test_a_finished_file_is_replaced_by_the_next_run_when_that_ends(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    write(path, [{"image": "old"}])
    cut_short(path, [{"image": "new"}])
    assert images(path) == ["old"]
    write(path, [{"image": "newer"}])
    assert images(path) == ["new", "newer"]


@pytest.mark.parametrize("tail", [b'{"image": "b", "sco', b'{"image": "b"}', b"\xff"])
def test_a_cut_last_line_is_dropped(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "out.jsonl"
    cut_short(path, [{"image": "a", "error": {"what": "x"}}])
    with path.with_name("out.jsonl.partial").open("ab") as file:
        file.write(tail)
    with lines_at(path, BEGUN) as found:
        assert (found.done, found.errors) == ({"a"}, 1)
        found.write({"image": "b"})
    assert images(path) == ["a", "b"]


def test_another_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    cut_short(path, [{"image": "a"}])
    with path.with_name("out.jsonl.partial").open("ab") as file:
        file.write(b"{}\n")
    with pytest.raises(RunError, match=r"out.jsonl.partial:2: is no line of a prediction.*--restart"):
        write(path, [])
    write(path, [{"image": "b"}], restart=True)
    assert images(path) == ["b"]


def test_other_options_are_an_error_until_restart(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    cut_short(path, [{"image": "a"}])
    with (
        pytest.raises(SightlineError, match=r'was begun with model "a", now "b"; threshold 0.5, now null. .*--restart'),
        lines_at(path, {"model": "b"}),
    ):
        pass
    with lines_at(path, {"model": "b"}, restart=True) as found:
        assert not found.done
        found.write({"image": "c"})
    assert images(path) == ["c"]


def test_nothing_is_left_of_a_run_without_lines(tmp_path: Path) -> None:
    cut_short(tmp_path / "out.jsonl", [])
    assert list(tmp_path.iterdir()) == []


def test_the_video_under_way_can_be_dropped(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    lines: list[dict[str, object]] = [
        {"image": "a.mp4", "frame": 0},
        {"image": "p"},
        {"image": "b.mp4", "frame": 0, "error": {}},
    ]
    cut_short(path, [*lines, {"image": "b.mp4", "frame": 5}])
    with lines_at(path, BEGUN) as found:
        assert (found.done, found.last, found.count, found.errors) == ({"a.mp4", "p", "b.mp4"}, ("b.mp4", 5), 4, 1)
        found.drop_last_video()
        assert (found.done, found.last, found.count, found.errors) == ({"a.mp4", "p"}, None, 2, 0)
        found.write({"image": "c"})
    assert images(path) == ["a.mp4", "p", "c"]


def test_two_processes_do_not_share_an_output(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    program = f"import pathlib, sightline.serving.lines as s\nwith s.lines_at(pathlib.Path({str(path)!r}), {{}}): pass"
    with lines_at(path, {}) as found:
        found.write({"image": "a"})
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert "is being written by another process" in done.stderr
    assert images(path) == ["a"]
