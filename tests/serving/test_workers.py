"""`serve` with model processes: kill one under load, kill the server, drain, and what /ping says meanwhile. Real processes."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from http_raw import error_of
from model_process import FAKE_MODEL, gone, until

from sightline.serving.settings import Settings

JPEG = {"Content-Type": "image/jpeg"}
Call = Callable[..., tuple[int, dict[str, str], bytes]]

SERVE = """
import logging, sys
from fake_model import load
from sightline.errors import SightlineError
from sightline.serving import pool
from sightline.serving.server import serve
from sightline.serving.settings import Settings

what, workers, max_batch, pause_s = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
pool.Pool.__init__.__kwdefaults__["pauses_s"] = (pause_s,)
logging.basicConfig(level=logging.INFO, format="%(message)s")
try:
    serve(what, port=0, load=load, workers=workers, settings=Settings(max_batch=max_batch))
except SightlineError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


class Server:
    """A server's process. log: its lines until now."""

    def __init__(self, folder: Path, process: "subprocess.Popen[str]") -> None:
        self.folder, self.process = folder, process
        self.log: list[str] = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)

    def said(self, text: str) -> int:
        return sum(text in line for line in self.log)

    @property
    def url(self) -> str:
        until(lambda: self.said("Listening on") > 0)
        return next(word for line in self.log for word in line.split() if word.startswith("http://"))

    def traces(self, what: str) -> list[int]:
        """The processes that left one."""
        return [int(path.name.rpartition("-")[2]) for path in self.folder.glob(f"{what}-*")]


@contextmanager
def served(folder: Path, what: str = "well", *, workers: int = 2, max_batch: int = 2, pause_s: float = 0) -> Iterator[Server]:
    """A server and its workers; none outlives the block."""
    (folder / "fake_model.py").write_text(FAKE_MODEL)
    (folder / "serve.py").write_text(SERVE)
    command = [sys.executable, str(folder / "serve.py"), what, str(workers), str(max_batch), str(pause_s)]
    environment = {**os.environ, "PYTHONPATH": str(folder), "TRACES": str(folder)}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    server = Server(folder, process)
    try:
        yield server
    finally:
        process.kill()
        process.wait()
        server.reader.join(30)
        assert process.stderr is not None
        process.stderr.close()
        until(lambda: all(gone(pid) for pid in server.traces("loaded")))  # whatever the block did to it


def metric(call: Call, url: str, name: str) -> float:
    lines = call(url, "GET", "/metrics")[2].decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(name + " "))


def test_a_worker_killed_with_a_picture_in_its_hands_loses_that_one_only(
    tmp_path: Path, call: Call, make_picture, as_bytes
) -> None:
    with served(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        until(lambda: server.said("is ready") == 2)
        held = pool.submit(call, server.url, "POST", "/invocations", as_bytes(make_picture(16)), JPEG)
        until(lambda: bool(server.traces("held")))
        (pid,) = server.traces("held")
        os.kill(pid, signal.SIGKILL)
        status, headers, body = held.result(30)
        assert (status, headers["retry-after"]) == (503, "1")
        assert error_of(body) == {
            "where": "model", "what": "was lost while it had this picture", "fix": "Try again: another worker is started."
        }  # fmt: skip
        assert call(server.url, "GET", "/ping")[0] == 200  # by the other
        assert call(server.url, "POST", "/invocations", as_bytes(make_picture(1)), JPEG)[0] == 200
        until(lambda: server.said("is ready") == 3)
        assert metric(call, server.url, "sightline_workers") == 2
        assert metric(call, server.url, "sightline_worker_restarts_total") == 1
        assert server.said("ended (killed by signal 9") == 1


def test_killed_under_load_it_loses_no_more_than_its_batch(tmp_path: Path, call: Call, make_picture, as_bytes) -> None:
    with served(tmp_path, max_batch=4) as server, ThreadPoolExecutor(12) as pool:
        until(lambda: server.said("is ready") == 2)
        url, body = server.url, as_bytes(make_picture(17))
        answers = [pool.submit(call, url, "POST", "/invocations", body, JPEG) for _ in range(300)]
        answers[40].result(30)
        os.kill(server.traces("loaded")[0], signal.SIGKILL)
        statuses = Counter(one.result(30)[0] for one in answers)
        assert set(statuses) <= {200, 503}
        assert statuses[503] <= 4
        until(lambda: metric(call, url, "sightline_workers") == 2)
        assert call(url, "POST", "/invocations", body, JPEG)[0] == 200


def test_ping_is_503_while_no_worker_lives_and_what_waits_is_answered_by_the_next(
    tmp_path: Path, call: Call, make_picture, as_bytes
) -> None:
    with served(tmp_path, workers=1, pause_s=1) as server, ThreadPoolExecutor(1) as pool:
        until(lambda: server.said("is ready") == 1)
        (pid,) = server.traces("loaded")
        os.kill(pid, signal.SIGKILL)
        until(lambda: call(server.url, "GET", "/ping")[0] == 503)
        waiting = pool.submit(call, server.url, "POST", "/invocations", as_bytes(make_picture(1)), JPEG)
        status, headers, body = call(server.url, "GET", "/ping")
        assert status == 200 or (headers["retry-after"], error_of(body)["what"]) == ("1", "has lost its workers")
        assert waiting.result(30)[0] == 200
        assert call(server.url, "GET", "/ping")[0] == 200


def test_sigterm_answers_what_the_workers_have_and_leaves_no_process(
    tmp_path: Path, call: Call, make_picture, as_bytes
) -> None:
    with served(tmp_path, max_batch=1) as server, ThreadPoolExecutor(5) as pool:
        until(lambda: server.said("is ready") == 2)
        url, answers = server.url, []
        for number, shade in enumerate((16, 16, 1, 2, 3), 1):  # both workers are held, the others wait
            answers.append(pool.submit(call, url, "POST", "/invocations", as_bytes(make_picture(shade)), JPEG))
            until(lambda: len(server.traces("held")) == min(number, 2))  # noqa: B023 - it is over before the next number
        until(lambda: metric(call, url, "sightline_queue") == 3)
        server.process.send_signal(signal.SIGTERM)
        until(lambda: server.said("Shutting down") > 0)
        (tmp_path / "go").touch()
        assert [one.result(30)[0] for one in answers] == [200] * 5
        assert server.process.wait(30) == 0
        assert not any(Path(f"/proc/{pid}").exists() for pid in server.traces("loaded"))  # not even as zombies


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in the middle of a batch"])
def test_a_killed_server_leaves_no_worker_behind(busy: bool, tmp_path: Path, call: Call, make_picture, as_bytes) -> None:
    with served(tmp_path) as server, ThreadPoolExecutor(1) as pool:
        until(lambda: server.said("is ready") == 2)
        if busy:
            asked = pool.submit(call, server.url, "POST", "/invocations", as_bytes(make_picture(14)), JPEG)
            until(lambda: bool(server.traces("hung")))
        workers = server.traces("loaded")
        assert not any(map(gone, workers))
        server.process.kill()
        until(lambda: all(map(gone, workers)))
        if busy:
            assert isinstance(asked.exception(30), OSError)


def test_it_answers_while_they_load_and_ends_at_once(tmp_path: Path, call: Call) -> None:
    with served(tmp_path, "slow") as server:
        status, headers, body = call(server.url, "GET", "/ping")
        assert (status, headers["retry-after"], error_of(body)["what"]) == (503, "1", "is still loading")
        until(lambda: len(server.traces("loaded")) == 2)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0


@pytest.mark.parametrize(
    ("what", "status", "message"),
    [
        pytest.param("missing", 2, "missing: does not exist. Check the path.", id="a clear error"),
        pytest.param("dies", 1, "ended while it loaded the model (killed by signal 9", id="dead at every start"),
    ],
)
def test_a_model_that_never_comes_up_ends_the_server(what: str, status: int, message: str, tmp_path: Path) -> None:
    with served(tmp_path, what) as server:
        assert server.process.wait(30) == status
        server.reader.join(30)
        assert server.said(message)
        assert not server.said("Traceback")


def test_more_workers_get_more_pictures_ready() -> None:
    settings = Settings(max_batch=8).for_workers(4, cores=16)
    assert (settings.decode_threads, settings.max_decoded) == (8, 64)
    assert Settings().for_workers(4, cores=2).decode_threads == 2


def test_facts_are_those_of_the_model(tmp_path: Path, call: Call) -> None:
    with served(tmp_path, workers=1) as server:
        until(lambda: server.said("Ready. Try: curl") == 1)
        told = json.loads(call(server.url, "GET", "/model")[2])
    assert told == {"class_names": ["bee"], "origin": "well", "facts": {"threshold": None}, "thresholds": [0.5]}
