"""The process: it answers while it loads, ends well on SIGTERM, and says clearly why it cannot start."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import torch
from builders import C4, CASCADE, DC5, MASKS, PROPOSALS_ONLY, RETINANET, a_config, a_detector

from sightline.config.yaml_dialect import dump
from sightline.errors import BundleError, MissingDependencyError, RunError
from sightline.images import shortest_edge_size
from sightline.records import ImageSize, Model
from sightline.serving.server import WARM_SIZE, address_of, listen, load_bundle, named, running, serve, warm
from sightline.serving.worker import Job, loaded

JPEG = {"Content-Type": "image/jpeg"}
Call = Callable[..., tuple[int, dict[str, str], bytes]]

SCRIPT = """
import logging, os, sys
import numpy as np
from sightline.errors import BundleError, SightlineError
from sightline.records import Detections, ImageSize, Model
from sightline.serving.server import serve

what = sys.argv[1]

def pause(told):
    print(told, flush=True)
    os.read(0, 1)

def predict(images):
    if what == "broken":
        raise RuntimeError("no kernel image")
    if images[0].shape[0] == 30:  # the test's picture, not the warm-up's
        pause("predicting")
    empty = np.zeros(0, np.float32)
    return [Detections(ImageSize(*i.shape[:2]), empty.reshape(0, 4), empty, empty.astype(np.int64)) for i in images]

def load(reference, **options):
    print(options, flush=True)
    if what == "missing":
        raise BundleError(reference, "does not exist", "Check the path.")
    if what == "surprise":
        raise KeyError("backbone.conv1")
    if what == "slow":
        pause("loading")
    return Model(predict, ("bee",), str(reference))

logging.basicConfig(level=logging.INFO, format="%(message)s")
try:
    serve("the-model", port=0, threshold=0.25, load=load)
except SightlineError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


@contextmanager
def started(what: str, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """`serve` in its own process; it never outlives the block."""
    script = tmp_path / "serve.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen(
        [sys.executable, str(script), what], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    watchdog = threading.Timer(30, process.kill)  # ends the reading of its output, too
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def line_with(stream: Iterator[str], text: str) -> str:
    """The next line that contains `text`."""
    return next(line for line in stream if text in line)


def address_in(line: str) -> str:
    return next(word for word in line.split() if word.startswith("http://")).removesuffix("/invocations")


def test_sigterm_answers_what_was_accepted_and_exits_with_0(tmp_path: Path, call: Call, png: bytes) -> None:
    with started("well", tmp_path) as process, ThreadPoolExecutor(1) as pool:
        ready = line_with(process.stderr, "Ready")
        assert "curl -X POST -H 'Content-Type: image/jpeg' --data-binary @picture.jpg http://127.0.0.1:" in ready
        assert "'score_threshold': 0.25" in line_with(process.stdout, "device")
        answer = pool.submit(call, address_in(ready), "POST", "/invocations", png, JPEG)
        line_with(process.stdout, "predicting")
        process.send_signal(signal.SIGTERM)
        line_with(process.stderr, "Shutting down")
        process.stdin.write("x")
        process.stdin.flush()
        assert answer.result()[0] == 200
        assert process.wait(20) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_loads_ends_it_well(number: int, tmp_path: Path, call: Call) -> None:
    with started("slow", tmp_path) as process:
        address = address_in(line_with(process.stderr, "Listening on"))
        line_with(process.stdout, "loading")
        status, headers, body = call(address, "GET", "/ping")
        assert (status, headers["retry-after"]) == (503, "1")
        assert json.loads(body)["error"]["what"] == "is still loading"
        process.send_signal(number)
        line_with(process.stderr, "Shutting down")
        process.stdin.write("x")
        process.stdin.flush()
        assert process.wait(20) == 0


@pytest.mark.parametrize(
    ("what", "message"),
    [
        pytest.param("missing", "the-model: does not exist. Check the path.", id="a clear error stays as it is"),
        pytest.param("surprise", "the-model: could not be loaded (KeyError('backbone.conv1'))", id="a defect is named"),
        pytest.param("broken", "the-model: was loaded but cannot predict (RuntimeError('no kernel image'))", id="broken model"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_exit_2(what: str, message: str, tmp_path: Path) -> None:
    with started(what, tmp_path) as process:
        _, log = process.communicate(timeout=20)
        assert process.returncode == 2
        assert message in log
        assert "Traceback" not in log


def never(*_: object, **__: object) -> Model:
    raise AssertionError("the model must not be loaded")


def test_a_taken_port_is_told_before_anything_is_loaded() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(RunError, match=f"127.0.0.1:{port}: is already in use. Choose another port") as caught:
            serve("m", port=port, load=never)
    assert caught.value.exit_code == 1


def test_an_address_of_another_machine() -> None:
    with pytest.raises(RunError, match=r"192\.0\.2\.1:0: cannot be listened on .* Give an address of this machine"):
        serve("m", host="192.0.2.1", port=0, load=never)


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")], ids=["loopback", "everyone"]
)
def test_the_address_told_works_from_here(host: str, address: str) -> None:
    with listen(host, 0) as listener:
        assert address_of(listener).startswith(address)
        socket.create_connection(("127.0.0.1", listener.getsockname()[1]), timeout=10).close()


def test_answers_are_not_held_back() -> None:
    """asyncio sets TCP_NODELAY only on connections whose protocol is named; Nagle's algorithm costs 40 ms per answer."""
    with listen("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


def test_missing_extras_say_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'sightline\[serve\]'"):
        serve("m", port=0, load=never)


def test_serve_needs_no_signals_outside_the_main_thread(model: Model, monkeypatch: pytest.MonkeyPatch, call: Call) -> None:
    """A notebook may call it in a thread; there it ends when loading fails, or with the process."""
    outcome: list[Exception] = []

    def fail(*_: object, **__: object) -> Model:
        raise BundleError("m", "is empty", "Pack it again.")

    def target() -> None:
        try:
            serve("m", port=0, load=fail)
        except BundleError as error:
            outcome.append(error)

    thread = threading.Thread(target=target)
    thread.start()
    thread.join(20)
    assert [error.what for error in outcome] == ["is empty"]


def test_running_ends_with_its_block(model: Model, call: Call) -> None:
    with running(model) as url:
        assert call(url, "GET", "/ping")[0] == 200
    with pytest.raises(ConnectionRefusedError):
        call(url, "GET", "/ping")


def test_signal_handlers_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(BundleError):
        serve("m", port=0, load=lambda *_, **__: Model(lambda images: images[99], (), "m"))
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


def test_the_warm_up_costs_little_of_what_a_photograph_does() -> None:
    """By Detectron2's usual sizes, to which every picture is brought."""
    strip, photograph = (shortest_edge_size(size, 800, 1333) for size in (WARM_SIZE, ImageSize(1080, 1920)))
    assert strip == (32, 1333)
    assert 20 * strip.height * strip.width < photograph.height * photograph.width


@pytest.mark.parametrize(
    "overrides",
    [(), MASKS, CASCADE, PROPOSALS_ONLY, C4, DC5, RETINANET],
    ids=["Faster R-CNN", "masks", "cascade", "proposals", "C4", "DC5", "RetinaNet"],
)
def test_every_detector_takes_the_warm_up(overrides: tuple[str, ...]) -> None:
    from sightline.model.build import build_predictor

    warm(Model(build_predictor(a_detector(*overrides), a_config(*overrides)), ("a", "b"), "here"))


def test_importing_the_server_needs_neither_torch_nor_its_extras() -> None:
    blocked = "import sys; sys.modules.update(dict.fromkeys(['torch', 'uvicorn', 'starlette']));"
    subprocess.run([sys.executable, "-c", f"{blocked} import sightline.serving.server"], check=True)


@pytest.mark.parametrize(("options", "told"), [({}, "optimised"), ({"runtime": "torch", "optimize": False}, "CPU")])
def test_a_model_process_loads_as_it_was_asked(options: dict[str, object], told: str, tmp_path: Path) -> None:
    """Over its command line, which is JSON."""
    torch.save({"model": a_detector().state_dict()}, tmp_path / "model.pth")
    (tmp_path / "config.yaml").write_text(dump(a_config("MODEL.DEVICE", "cpu")), encoding="utf-8")
    job = Job(str(tmp_path), "cpu", None, ("a", "b"), *named(partial(load_bundle, **options)))
    model = loaded(Job(**json.loads(job.text())))
    assert str(model.facts["runtime"]).endswith(told)
    assert model.class_names == ("a", "b")
