"""SageMaker's multi-model contract over real sockets, around models that are a number in a file."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from http_raw import error_of, eventually

from sightline.errors import BundleError
from sightline.records import Detections, Image, ImageSize, Model
from sightline.serving import memory
from sightline.serving.server import create_many, running_app
from sightline.serving.settings import Settings

PNG = {"Content-Type": "image/png"}
Call = Callable[..., tuple[int, dict[str, str], bytes]]
BIG = 200 * 2**20


class Factory:
    """Loads `path` as a model whose score is the number in the file; words in it make it behave otherwise."""

    def __init__(self) -> None:
        self.entered, self.go = threading.Semaphore(0), threading.Event()

    def __call__(self, path: Path) -> Model:
        what = path.read_text()
        ballast = np.ones(BIG, np.uint8) if what == "big" else np.zeros(0)
        match what:
            case "broken":
                raise BundleError(path, "is no bundle", "Pack it again.")
            case "defect":
                raise KeyError("a secret")
            case "huge":
                raise MemoryError

        def predict(images: Sequence[Image]) -> list[Detections]:
            if what == "slow":
                self.entered.release()
                self.go.wait(20)
            if what == "hungry" and images[0].shape[0] == 30:
                raise MemoryError
            score = np.float32([float(what) if what[0].isdigit() else len(ballast) / BIG])
            return [Detections(ImageSize(*i.shape[:2]), np.ones((1, 4), np.float32), score, np.int64([0])) for i in images]

        return Model(predict, ("bee",), str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    models = tmp_path / "models"
    models.mkdir()
    for name in ("0.25", "0.5", "big", "broken", "defect", "huge", "hungry", "slow"):
        (models / name).write_text(name)
    (tmp_path / "outside").write_text("0.125")
    (models / "link").symlink_to(tmp_path / "outside")
    return models


@contextmanager
def serving(folder: Path, call: Call, factory: Factory | None = None, **named: object) -> Iterator[Call]:
    settings = Settings(timeout_s=20)
    with running_app(create_many(folder, factory or Factory(), **named), settings=settings) as url:
        yield partial(call, url)


def load(ask: Call, name: str, url: object) -> tuple[int, dict[str, str], bytes]:
    return ask("POST", "/models", json.dumps({"model_name": name, "url": str(url)}).encode())


def test_load_list_invoke_unload(folder: Path, call: Call, png: bytes) -> None:
    with serving(folder, call) as ask:
        assert ask("GET", "/ping")[0] == 200
        assert json.loads(ask("GET", "/models")[2]) == {"models": []}
        status, _, body = load(ask, "quarter", folder / "0.25")
        entry = {"modelName": "quarter", "modelUrl": str(folder / "0.25")}
        assert (status, json.loads(body)) == (200, entry)
        assert load(ask, "half", "0.5")[0] == 200  # relative to the folder
        assert json.loads(ask("GET", "/models/quarter")[2]) == entry
        for name, score in (("quarter", 0.25), ("half", 0.5)):
            status, _, body = ask("POST", f"/models/{name}/invoke?masks=off", png, PNG)
            assert (status, json.loads(body)["scores"]) == (200, [score])
        assert b"sightline_models 2" in ask("GET", "/metrics")[2]
        assert ask("DELETE", "/models/quarter")[0] == 200
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/invoke")):
            status, _, body = ask(method, f"/models/quarter{path}", png if method == "POST" else None, PNG)
            assert (status, error_of(body)["what"]) == (404, "is not loaded")
        assert load(ask, "quarter", "0.5")[0] == 200  # its name is free again
        metrics = ask("GET", "/metrics")[2].decode()
        assert 'sightline_requests_total{path="/models/{name}/invoke",status="200"} 2' in metrics
        assert 'path="/models/quarter' not in metrics  # names would make it grow for ever


def test_pages(folder: Path, call: Call) -> None:
    with serving(folder, call) as ask:
        for name in "dbaec":
            load(ask, name, "0.5")
        pages, token = [], ""
        while token is not None:
            listed = json.loads(ask("GET", f"/models?limit=2&next_page_token={token}")[2])
            pages.append([entry["modelName"] for entry in listed["models"]])
            token = listed.get("nextPageToken")
        assert pages == [["a", "b"], ["c", "d"], ["e"]]
        assert len(json.loads(ask("GET", "/models")[2])["models"]) == 5
        for limit in ("0", "-1", "1001", "9" * 50, "x", ""):
            assert ask("GET", f"/models?limit={limit}")[0] == 400


@pytest.mark.parametrize(
    ("name", "url", "status"),
    [
        pytest.param("a", "../outside", 403, id="climbing"),
        pytest.param("a", "/etc/passwd", 403, id="absolute"),
        pytest.param("a", "link", 403, id="a link"),
        pytest.param("a", ".", 403, id="the folder itself"),
        pytest.param("a", "0.5/../../outside", 403, id="climbing later"),
        pytest.param("a", "nothing", 404, id="missing"),
        pytest.param("a", "x\x00y", 400, id="a NUL"),
        pytest.param("a", "x" * 5000, 400, id="a long path"),
        pytest.param("a", "", 400, id="no path"),
        pytest.param("../a", "0.5", 400, id="a climbing name"),
        pytest.param("a/b", "0.5", 400, id="a name with a slash"),
        pytest.param("", "0.5", 400, id="no name"),
        pytest.param("a" * 257, "0.5", 400, id="a long name"),
        pytest.param("a\n", "0.5", 400, id="a line end"),
        pytest.param("a", "broken", 400, id="no model"),
        pytest.param("a", "defect", 500, id="a defect of loading"),
        pytest.param("a", "huge", 507, id="too large"),
    ],
)
def test_what_is_not_loaded(name: str, url: str, status: int, folder: Path, call: Call) -> None:
    with serving(folder, call) as ask:
        got, _, body = load(ask, name, url)
        assert got == status
        assert "secret" not in str(error_of(body))
        assert json.loads(ask("GET", "/models")[2]) == {"models": []}
        assert load(ask, "after", "0.5")[0] == 200


@pytest.mark.parametrize(
    "body",
    [b"{", b"[]", b"null", b"\xff\xfe", b'{"model_name": 7, "url": "0.5"}', b'{"model_name": "a", "url": {}}', b"[" * 60_000,
     b'{"model_name": 1e999, "url": -0}', b'{"model_name": ' + b"9" * 60_000 + b"}", b'{"model_name": NaN}'],
    ids=["cut", "list", "null", "not text", "number", "object", "deep", "infinite", "long number", "nan"],
)  # fmt: skip
def test_absurd_json(body: bytes, folder: Path, call: Call) -> None:
    with serving(folder, call) as ask:
        status, _, answer = ask("POST", "/models", body)
        assert status == 400
        assert len(answer) < 1000
        assert ask("POST", "/models", b" " * 70_000)[0] == 413


@pytest.mark.parametrize("name", ["..", "%2e%2e", "..%2f..%2fetc", "%00", "x" * 3000])
def test_names_in_addresses_lead_nowhere(name: str, folder: Path, call: Call, png: bytes) -> None:
    with serving(folder, call) as ask:
        assert ask("POST", f"/models/{name}/invoke", png, PNG)[0] == 404


def test_a_second_load_is_a_conflict_also_while_the_first_is_under_way(folder: Path, call: Call) -> None:
    entered, go = threading.Semaphore(0), threading.Event()

    def slow(path: Path) -> Model:
        entered.release()
        go.wait(20)
        return Factory()(path)

    with serving(folder, call, slow) as ask, ThreadPoolExecutor(1) as pool:
        first = pool.submit(load, ask, "a", "0.5")
        entered.acquire()
        assert ask("GET", "/ping")[0] == 200
        assert load(ask, "a", "0.5")[0] == 409
        assert ask("GET", "/models/a")[0] == 404  # not yet
        go.set()
        assert first.result()[0] == 200
        status, _, body = load(ask, "a", "0.25")
        assert (status, error_of(body)["what"]) == (409, "is loaded already")


def test_507_before_anything_is_loaded(folder: Path, call: Call) -> None:
    (folder / "large").write_bytes(b"0" * 1000)
    free = [memory.RESERVE_BYTES + 2999]
    with serving(folder, call, free=lambda: free[0]) as ask:
        status, _, body = load(ask, "a", "large")
        assert (status, error_of(body)["fix"]) == (507, "Unload another model first.")
        assert load(ask, "a", "0.5")[0] == 200


def test_507_when_a_picture_is_too_much(folder: Path, call: Call, png: bytes) -> None:
    with serving(folder, call) as ask:
        load(ask, "a", "hungry")
        assert ask("POST", "/models/a/invoke", png, PNG)[0] == 507


def test_unloading_answers_first(folder: Path, call: Call, png: bytes) -> None:
    factory = Factory()
    with serving(folder, call, factory) as ask, ThreadPoolExecutor(2) as pool:
        load(ask, "a", "slow")
        asked = pool.submit(ask, "POST", "/models/a/invoke", png, PNG)
        factory.entered.acquire()
        unloading = pool.submit(ask, "DELETE", "/models/a")
        eventually(lambda: ask("GET", "/models/a")[0] == 404)
        factory.go.set()
        assert asked.result()[0] == 200
        assert unloading.result()[0] == 200


def test_memory_is_given_back(folder: Path, call: Call, png: bytes) -> None:
    """Five rounds of a model of 200 MiB: after each unload the process is about as large as before."""

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    with serving(folder, call) as ask:
        before = resident()
        for _ in range(5):
            assert load(ask, "a", "big")[0] == 200
            assert json.loads(ask("POST", "/models/a/invoke", png, PNG)[2])["scores"] == [1.0]
            assert resident() - before > BIG / 2
            assert ask("DELETE", "/models/a")[0] == 200
            assert resident() - before < BIG / 4


def test_each_model_has_its_own_queue(folder: Path, call: Call, png: bytes) -> None:
    factory = Factory()
    with serving(folder, call, factory) as ask, ThreadPoolExecutor(1) as pool:
        load(ask, "slow", "slow")
        load(ask, "quick", "0.5")
        slow = pool.submit(ask, "POST", "/models/slow/invoke", png, PNG)
        factory.entered.acquire()
        assert ask("POST", "/models/quick/invoke", png, PNG)[0] == 200
        factory.go.set()
        assert slow.result()[0] == 200


def test_the_target_model_is_in_the_log(folder: Path, call: Call, png: bytes, caplog) -> None:
    caplog.set_level("INFO", "sightline")
    with serving(folder, call) as ask:
        ask("POST", "/models/a/invoke", png, {**PNG, "X-Amzn-SageMaker-Target-Model": "bees/v2.tar.gz"})
    assert any(getattr(record, "event", {}).get("target_model") == "bees/v2.tar.gz" for record in caplog.records)
