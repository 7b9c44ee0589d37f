"""Model processes: they predict as the model does, and what happens when one ends, hangs, or never starts."""

import dataclasses
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from builders import a_mask
from model_process import FAKE_MODEL, gone, until

from sightline.errors import BundleError, RequestError, RunError
from sightline.images import InputSize
from sightline.records import Detections, ImageSize, StagedPredict
from sightline.serving.pipe import detections_of, pair, pictures_of, receive, send, told_detections, told_pictures
from sightline.serving.pool import Pool, reason
from sightline.serving.worker import Job

NO_PAUSES = (0.0,)


@contextmanager
def pool_of(folder: Path, what: str = "well", count: int = 1, timeout_s: float = 60) -> Iterator[Pool]:
    """Workers of the fake model `what`, ended with the block. `folder` is theirs to leave traces in."""
    (folder / "fake_model.py").write_text(FAKE_MODEL)
    job = Job(what, "cpu", 0.25, ("bee",), "fake_model:load")
    environment = {**os.environ, "PYTHONPATH": str(folder), "TRACES": str(folder)}
    pool = Pool(job, [environment] * count, batch_timeout_s=timeout_s, pauses_s=NO_PAUSES)
    pool.start()
    try:
        yield pool
    finally:
        pool.close()
        assert all(gone(pid) for pid in pids(folder))


def pids(folder: Path) -> list[int]:
    """Of all workers that ever loaded."""
    return [int(path.name.removeprefix("loaded-")) for path in folder.glob("loaded-*")]


def ask(pool: Pool, image: np.ndarray) -> Detections:
    return pool.model.result(30).predict([image])[0]


def test_it_predicts_as_the_model_does(tmp_path: Path, make_picture: Callable[..., np.ndarray]) -> None:
    with pool_of(tmp_path) as pool:
        model = pool.model.result(30)
        assert (model.class_names, model.origin, model.facts) == (("bee",), "well", {"threshold": 0.25})
        assert (model.proposes, model.thresholds) == (False, (0.5,))
        assert not isinstance(model.predict, StagedPredict)
        pictures = [make_picture(7), make_picture(8, 5, 9)]
        for picture, found in zip(pictures, model.predict(pictures), strict=True):
            assert found.size == ImageSize(*picture.shape[:2])
            assert found.boxes.tolist() == [[0, 0, picture.shape[1], picture.shape[0]]]
            assert found.scores.tolist() == [float(np.float32(picture[0, 0, 0] / 255))]
        assert model.predict([]) == []


def test_a_model_that_says_how_it_wants_pictures_gets_them_so(tmp_path: Path, make_picture: Callable[..., np.ndarray]) -> None:
    with pool_of(tmp_path, "staged") as pool:
        predict = pool.model.result(30).predict
        assert isinstance(predict, StagedPredict)
        assert predict.input_size == InputSize(8, 16, 4)  # type: ignore[attr-defined]
        picture = make_picture(9, 60, 90)
        resized = predict.resized(picture)
        assert resized.shape == (8, 12, 3)
        (found,) = predict.found([resized], [ImageSize(60, 90)])
        assert (found.size, found.scores.tolist()) == ((60, 90), [12])  # it saw 12 px across
        assert predict.detections(found, ImageSize(60, 90)) is found
        assert predict([picture])[0].scores.tolist() == [12]


def test_each_worker_takes_a_batch_at_the_same_time(tmp_path: Path, make_picture: Callable[..., np.ndarray]) -> None:
    with pool_of(tmp_path, count=2) as pool, ThreadPoolExecutor(2) as threads:
        until(lambda: pool.lanes == 2)
        held = threads.submit(ask, pool, make_picture(16))
        until(lambda: any(tmp_path.glob("held-*")))
        assert len(ask(pool, make_picture(1))) == 1
        (tmp_path / "go").touch()
        assert len(held.result(30)) == 1


def test_what_the_model_raises_comes_back_with_its_trace(tmp_path: Path, make_picture: Callable[..., np.ndarray]) -> None:
    with pool_of(tmp_path) as pool:
        with pytest.raises(RuntimeError, match=r"(?s)the model in worker 1 \(process \d+\) broke:.*ValueError: unlucky"):
            ask(pool, make_picture(15))
        assert len(ask(pool, make_picture(1))) == 1
        assert pool.restarts == 0


@pytest.mark.parametrize(
    ("shade", "what"), [(13, "was lost while it had this picture"), (14, "hung with this picture and was stopped")]
)
def test_a_worker_that_dies_or_hangs_takes_only_its_batch(
    shade: int, what: str, tmp_path: Path, make_picture: Callable[..., np.ndarray]
) -> None:
    changes = threading.Semaphore(0)
    with pool_of(tmp_path, timeout_s=2 if shade == 14 else 60) as pool:
        pool.on_change = changes.release
        with pytest.raises(RequestError, match=f"{what}. Try again") as caught:
            ask(pool, make_picture(shade))
        assert caught.value.status == 503
        assert len(ask(pool, make_picture(1))) == 1  # by the next one
        assert pool.restarts == 1
        assert all(changes.acquire(timeout=20) for _ in range(2))  # it went, the other came
        assert len(pids(tmp_path)) == 2


def test_one_that_is_killed_while_idle_costs_nothing(tmp_path: Path, make_picture: Callable[..., np.ndarray]) -> None:
    with pool_of(tmp_path) as pool:
        pool.model.result(30)
        (pid,) = pids(tmp_path)
        os.kill(pid, signal.SIGKILL)
        until(lambda: pool.restarts == 1)
        assert len(ask(pool, make_picture(1))) == 1


def test_signals_that_everyone_gets_do_not_end_workers(tmp_path: Path, make_picture: Callable[..., np.ndarray]) -> None:
    with pool_of(tmp_path) as pool:
        pool.model.result(30)
        (pid,) = pids(tmp_path)
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(pid, number)
        assert len(ask(pool, make_picture(1))) == 1
        assert pool.restarts == 0
        assert os.getpgid(pid) == pid  # Ctrl-C does not reach it


def test_a_model_that_cannot_be_loaded_is_told_at_once(tmp_path: Path, make_picture: Callable[..., np.ndarray]) -> None:
    told = threading.Event()
    with pool_of(tmp_path, "missing", count=2) as pool:
        pool.on_error = told.set
        with pytest.raises(BundleError, match=r"^missing: does not exist. Check the path.$"):
            pool.model.result(30)
        assert isinstance(pool.error, BundleError)
        with pytest.raises(RequestError, match="has no worker left"):
            pool.predict([make_picture()], [ImageSize(30, 40)])


def test_a_model_that_dies_at_every_start_is_given_up(tmp_path: Path) -> None:
    with pool_of(tmp_path, "dies") as pool:
        with pytest.raises(RunError, match=r"worker 1 .*: ended while it loaded the model \(killed by signal 9.*more memory"):
            pool.model.result(60)
        assert (pool.alive, pool.restarts, pool.lanes) == (0, 4, 1)
        assert len(pids(tmp_path)) == 5


def test_closing_ends_those_that_load_and_those_that_hang(
    tmp_path: Path, make_picture: Callable[..., np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sightline.serving.pool.END_S", 0.2)
    with ThreadPoolExecutor(1) as threads:
        with pool_of(tmp_path, "slow"):
            until(lambda: bool(pids(tmp_path)))
        with pool_of(tmp_path) as pool:
            hung = threads.submit(ask, pool, make_picture(14))
            until(lambda: any(tmp_path.glob("hung-*")))
        with pytest.raises(RequestError, match="was lost"):
            hung.result(30)


def test_a_batch_goes_through_the_pipe_unchanged(make_picture: Callable[..., np.ndarray]) -> None:
    ours, theirs = pair()
    pictures = [make_picture(3, 5, 7), make_picture(4, 2, 2)[:, ::-1]]  # one of them not contiguous
    sizes = [ImageSize(50, 70), ImageSize(2, 2)]
    with ours, theirs:
        send(ours, told_pictures(pictures, sizes), pictures)
        message = receive(theirs)
        assert message is not None
        got, got_sizes = pictures_of(*message)
        assert got_sizes == sizes
        for picture, other in zip(pictures, got, strict=True):
            np.testing.assert_array_equal(picture, other)
        ours.close()
        assert receive(theirs) is None


@pytest.mark.parametrize("masks", [None, True], ids=["boxes", "masks"])
def test_detections_go_through_the_pipe_unchanged(masks: bool | None) -> None:
    size = ImageSize(100, 80)
    one = Detections(size, np.float32([[1, 2, 3, 4.5], [0, 0, 1, 1]]), np.float32([0.9, 0.1]), np.int64([1, 0]))
    none = Detections(size, np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    if masks:
        one, none = dataclasses.replace(one, masks=(a_mask(size=size),) * 2), dataclasses.replace(none, masks=())
    given = [one, none, one]
    ours, theirs = pair()
    with ours, theirs:
        send(ours, *told_detections(given))
        message = receive(theirs)
    assert message is not None
    for found, other in zip(given, detections_of(*message), strict=True):
        assert (found.size, found.masks) == (other.size, other.masks)
        for name in ("boxes", "scores", "labels"):
            np.testing.assert_array_equal(getattr(found, name), getattr(other, name))
            assert getattr(found, name).dtype == getattr(other, name).dtype


def test_a_message_that_is_cut_off_is_none() -> None:
    ours, theirs = pair()
    with ours, theirs:
        ours.sendall(b"\0\0\0\x20{")
        ours.close()
        assert receive(theirs) is None


@pytest.mark.parametrize(("code", "told"), [(-9, "when memory is short"), (-11, "signal 11"), (3, "exit code 3")])
def test_why_a_process_ended(code: int, told: str) -> None:
    assert told in reason(code)
