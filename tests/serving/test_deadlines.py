"""Time: what waits too long is told so, what the model keeps too long as well, and a server that ends answers first."""

import dataclasses
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from http_raw import Gate, error_of, eventually

from sightline.records import Detections, Image, Model
from sightline.serving.server import running
from sightline.serving.settings import Settings

PNG = {"Content-Type": "image/png"}
Call = Callable[..., tuple[int, dict[str, str], bytes]]
SOON_S = 0.3


def test_503_for_what_waited_and_504_for_what_the_model_kept(model: Model, make_picture, as_bytes, call: Call) -> None:
    gate = Gate(model)
    settings = Settings(timeout_s=SOON_S, max_batch=1)
    with running(gate.model, settings=settings) as url, ThreadPoolExecutor(2) as pool:
        kept = pool.submit(call, url, "POST", "/invocations", as_bytes(make_picture(1)), PNG)
        gate.entered.acquire()
        waited = pool.submit(call, url, "POST", "/invocations", as_bytes(make_picture(2)), PNG)
        for answer, expected, where in ((kept, 504, "model"), (waited, 503, "queue")):
            status, headers, body = answer.result()
            assert (status, error_of(body)["where"]) == (expected, where)
            assert error_of(body)["what"] == "did not answer within 0.3 s"
            assert headers.get("retry-after") == ("1" if expected == 503 else None)
        gate.open.set()
        eventually(lambda: call(url, "POST", "/invocations", as_bytes(make_picture(3)), PNG)[0] == 200)
    assert 2 not in gate.pictures  # what nobody waits for costs no model time


def test_a_model_that_hangs_is_not_well(model: Model, png: bytes, call: Call) -> None:
    """The self-test after a 504 does not come back either."""
    gate = Gate(model)
    with running(gate.model, settings=Settings(timeout_s=SOON_S)) as url:
        assert call(url, "POST", "/invocations", png, PNG)[0] == 504
        eventually(lambda: call(url, "GET", "/ping")[0] == 500)
        gate.open.set()
        eventually(lambda: call(url, "GET", "/ping")[0] == 200)


def test_a_timeout_inside_the_model_is_a_defect_like_any_other(model: Model, png: bytes, call: Call) -> None:
    def fail(images: Sequence[Image]) -> list[Detections]:
        raise TimeoutError("a camera of the model's own")

    with running(dataclasses.replace(model, predict=fail)) as url:
        assert call(url, "POST", "/invocations", png, PNG)[0] == 500


SCRIPT = """
import sys, time, logging
import numpy as np
from sightline.records import Detections, ImageSize, Model
from sightline.serving.server import serve

predicted = 0

def predict(images):
    global predicted
    predicted += len(images) * (images[0].shape[0] == 30)  # the tests' pictures, not the warm-up's
    time.sleep(0.01)
    empty = np.zeros(0, np.float32)
    return [Detections(ImageSize(*i.shape[:2]), empty.reshape(0, 4), empty, empty.astype(np.int64)) for i in images]

logging.basicConfig(level=logging.INFO, format="%(message)s")
serve("m", port=0, load=lambda *_, **__: Model(predict, ("bee",), "m"))
print(predicted)
"""


def test_under_load_sigterm_loses_nothing_that_was_predicted(tmp_path: Path, call: Call, png: bytes) -> None:
    """Sixteen clients ask as fast as they can when it comes: there are as many answers as there were predictions."""
    script = tmp_path / "serve.py"
    script.write_text(SCRIPT)
    answers: list[int] = []
    enough = threading.Event()

    def ask(url: str) -> None:
        while True:
            try:
                answers.append(call(url, "POST", "/invocations", png, PNG)[0])
            except OSError:  # nobody listens any more
                return
            if len(answers) > 100:
                enough.set()

    with subprocess.Popen([sys.executable, str(script)], stdout=-1, stderr=-1, text=True) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        ready = next(line for line in process.stderr if "Ready" in line)
        drained = threading.Thread(target=process.stderr.read)
        drained.start()
        url = next(word for word in ready.split() if word.startswith("http://")).removesuffix("/invocations")
        with ThreadPoolExecutor(16) as pool:
            asking = [pool.submit(ask, url) for _ in range(16)]
            enough.wait(30)
            process.send_signal(signal.SIGTERM)
            for each in asking:
                each.result()
        predicted = int(process.stdout.read())
        drained.join()
        watchdog.cancel()
    assert process.returncode == 0
    assert set(answers) == {200}
    assert len(answers) == predicted > 100
