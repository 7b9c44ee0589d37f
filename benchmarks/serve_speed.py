"""Speed of the server: what it adds to one request, and what is left of the model's speed with many clients.

    python benchmarks/serve_speed.py [--rounds 3] [--only latency throughput overload start peer]
    python benchmarks/serve_speed.py --only throughput peer --model r50 [--min-size 800 --max-size 1333] [--peer PYTHON]

Everything goes over loopback, with JPEGs of 1920 x 1080 px, models of random weights that are packed in a temporary folder, and
server, clients and model in processes of their own. Rates are those of the server and of the same model in process, in turn.

latency:    one request at a time. Added is what remains of its time after decoding and model, by the server's own stages.
throughput: 16 clients, beside batches of the same pictures in process, which are decoded in two threads beside the model.
overload:   more clients than the server takes (--max-waiting): how long an accepted request takes.
start:      from the start of the process to the first answer, and what loading takes, in a process of its own.
peer:       the plain stack, FastAPI around torchvision's R50-FPN (fastapi_torchvision.py) with the same weights and clients; it
            runs all requests at once when its endpoint is `def`, which takes some GB of memory at full size.

The peer's Python needs fastapi, uvicorn, torch and torchvision; it is skipped where they are not.
"""

import argparse
import http.client
import json
import math
import os
import platform
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np
from PIL import Image as Pillow

from sightline.images import decode_image
from sightline.records import Detections, Image, ImageSize, Model

if TYPE_CHECKING:
    from torch import Tensor

HEIGHT, WIDTH = 1080, 1920
CLIENTS, BATCH, CLASSES = 16, 8, 80
OVERLOAD_CLIENTS, MAX_WAITING = 64, 16
PAUSE_S = 1  # of a client that is refused: what Retry-After asks
START_LIMIT_S = 120
POLL_S = 0.1  # until it is ready: more often takes processors from what loads
SCORES_APART = 10
CONFIGURATIONS = {"small": "small", "r50": "COCO-Detection/faster_rcnn_R_50_FPN_3x"}
REQUESTS = {"small": 240, "r50": 32}
"""Of one round with many clients."""

PEER = Path(__file__).with_name("fastapi_torchvision.py")
PEER_VERSIONS = "import importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' for n in NAMES))"
LAPS = """
import sys, time
began = time.perf_counter()
def lap(name):
    global began
    print(f"    {name}: {time.perf_counter() - began:.2f} s", flush=True)
    began = time.perf_counter()
import sightline.serving.server as server
import uvicorn, starlette.applications
lap("import of server and uvicorn")
import torch
lap("import of torch")
import sightline.bundle.load as load
import sightline.bundle.weights
from sightline.bundle.archive import read_model_files
lap("import of the detector")
files = read_model_files(sys.argv[1])
lap("reading the archive")
model = load.load_model(sys.argv[1])
lap("making the model, which reads the archive again")
server.warm(model)
lap("warming it")
from sightline.images import decode_image
model.predict([decode_image(open(sys.argv[2], "rb").read(), "picture")])
lap("one picture")
"""


@dataclass(frozen=True)
class Load:
    """What the process of the clients does.

    pictures: files, taken in turn
    requests: in all
    seconds:  when no more are sent, however many are left
    """

    url: str
    pictures: tuple[str, ...]
    clients: int
    requests: int
    seconds: float = 3600


def find(images: Sequence[Image]) -> list[Detections]:
    """Ten boxes in every picture, at once."""
    scores = np.linspace(0.9, 0.1, 10, dtype=np.float32)
    sizes = [ImageSize(*image.shape[:2]) for image in images]
    return [Detections(size, np.ones((10, 4), np.float32), scores, np.arange(10) % 2) for size in sizes]


def serve_fake() -> None:
    """The process of a server whose model takes no time; it tells its address on stdout."""
    from sightline.serving.server import running

    with running(Model(find, ("a", "b"), "fake")) as url:
        print(url, flush=True)
        sys.stdin.read()


@contextmanager
def fake_server() -> Iterator[str]:
    command = [sys.executable, __file__, "--serve-fake"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        yield process.stdout.readline().strip()
        process.stdin.close()


@contextmanager
def server(*command: str) -> Iterator[str]:
    """The address of a server, once it is ready; {port} in `command` is its port."""
    port = free_port()
    with subprocess.Popen([word.replace("{port}", str(port)) for word in command]) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            until_ready(url, process)
            yield url
        finally:
            process.terminate()


def sightline_serve(bundle: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "sightline", "serve", str(bundle), "--port", "{port}", "--log-level", "warning", *options]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def until_ready(url: str, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + START_LIMIT_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if ask(connect(url), "/ping")[0] == 200:
                return
        except OSError:  # it does not listen yet
            pass
        time.sleep(POLL_S)
    raise SystemExit(f"{url} did not become ready; what it printed tells why.")


def connect(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(urlsplit(url).netloc, timeout=600)


def ask(connection: http.client.HTTPConnection, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """(status, body) of the answer; with a body it is a POST."""
    connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "image/jpeg"} if body else {})
    response = connection.getresponse()
    return response.status, response.read()


def pictures(folder: Path, count: int = 8) -> tuple[Path, ...]:
    """JPEGs of some 400 kB: noise of several scales, as photographs have it."""
    rng = np.random.default_rng(0)
    paths = []
    for number in range(count):
        pixels = np.zeros((HEIGHT, WIDTH, 3), np.float32)
        for step, strength in ((120, 60.0), (40, 40.0), (8, 20.0), (2, 6.0)):
            noise = rng.normal(0, strength, (math.ceil(HEIGHT / step), math.ceil(WIDTH / step), 3)).astype(np.float32)
            pixels += noise.repeat(step, 0).repeat(step, 1)[:HEIGHT, :WIDTH]
        paths.append(folder / f"{number}.jpg")
        Pillow.fromarray(np.clip(pixels + 127, 0, 255).astype(np.uint8)).save(paths[-1], quality=85)
    return tuple(paths)


def bundle(name: str, folder: Path, min_size: int | None, max_size: int | None) -> Path:
    """A detector with random weights, packed; sizes: of its input, None leaves the configuration's."""
    import torch

    from sightline.bundle.pack import pack_files
    from sightline.config.sources import load
    from sightline.config.yaml_dialect import dump
    from sightline.model.build import build_detector

    asked = {"MODEL.WEIGHTS": "", "INPUT.MIN_SIZE_TEST": min_size, "INPUT.MAX_SIZE_TEST": max_size}
    asked |= {"MODEL.RESNETS.STRIDE_IN_1X1": False if name == "r50" else None}  # where torchvision has the strides
    config = load(CONFIGURATIONS[name], [str(word) for pair in asked.items() if pair[1] is not None for word in pair])
    torch.manual_seed(0)
    weights, settings, packed = (folder / f"{name}{suffix}" for suffix in (".pth", ".yaml", ".tar.gz"))
    torch.save({"model": in_range(build_detector(config).state_dict())}, weights)
    settings.write_text(dump(config))
    pack_files(weights, str(settings), packed)
    return packed


def in_range(state: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Random weights whose proposals stay near their anchors, so that as many reach the heads as in a trained detector.

    With frozen norms the numbers of R50-FPN grow from block to block; then ten proposals were left of a thousand.
    """
    for name, tensor in state.items():
        if name.endswith("conv3.norm.weight"):  # of bottlenecks; the small detector has none
            tensor.fill_(0.2)
            state["backbone.bottom_up.stem.conv1.norm.weight"].fill_(1 / 57)
        if name.endswith("cls_score.weight"):
            tensor.mul_(SCORES_APART)
    return state


# --- the clients' process


def send_all(load: Load) -> dict[str, object]:
    """The seconds of each answer by status, and the seconds of all together. One refused pauses, and sends the next."""
    bodies = [Path(path).read_bytes() for path in load.pictures]
    numbers, lock = iter(range(load.requests)), Lock()
    times: list[tuple[int, float]] = []

    def client() -> None:
        connection = connect(load.url)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None or time.perf_counter() > end:
                return
            began = time.perf_counter()
            try:
                status, _ = ask(connection, "/invocations", bodies[number % len(bodies)])
            except OSError:  # cut while it was sending
                status = 0
                connection.close()
            times.append((status, time.perf_counter() - began))
            if status != 200:
                time.sleep(PAUSE_S)

    began = time.perf_counter()
    end = began + load.seconds
    with ThreadPoolExecutor(load.clients) as pool:
        for one in [pool.submit(client) for _ in range(load.clients)]:
            one.result()
    return {"seconds": time.perf_counter() - began, "times": times}


def clients(load: Load) -> tuple[float, list[tuple[int, float]]]:
    """`send_all` in a process of its own."""
    command = [sys.executable, __file__, "--load", json.dumps(asdict(load))]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return float(told["seconds"]), [(int(status), float(seconds)) for status, seconds in told["times"]]


def rate(load: Load) -> float:
    """Pictures a second, all of them answered."""
    seconds, times = clients(load)
    statuses = Counter(status for status, _ in times)
    if set(statuses) != {200}:
        raise SystemExit(f"{load.url} answered {dict(statuses)}")
    return len(times) / seconds


# --- what is measured


def stages(connection: http.client.HTTPConnection) -> dict[str, float]:
    """Seconds that the server has spent by stage until now."""
    text = ask(connection, "/metrics")[1].decode()
    return {name: float(value) for name, value in re.findall(r'sightline_seconds_sum\{stage="(\w+)"\} (\S+)', text)}


def percentile(values: Sequence[float], share: float) -> float:
    return float(np.percentile(values, share * 100))


def measure_latency(name: str, url: str, predict: Callable[[Sequence[Image]], object], body: bytes, requests: int) -> None:
    """One request at a time, in turn with the same in process."""
    connection = connect(url)
    asked, added, alone = [], [], []
    for number in range(requests + 5):
        before = stages(connection)
        began = time.perf_counter()
        status, _ = ask(connection, "/invocations", body)
        request_s = time.perf_counter() - began
        after = stages(connection)
        began = time.perf_counter()
        predict([decode_image(body, "picture")])
        if status != 200:
            raise SystemExit(f"{url} answered {status}")
        if number >= 5:  # the first ones open connections and fill caches
            asked.append(request_s)
            added.append(request_s - sum(after[stage] - before[stage] for stage in ("decode", "model")))
            alone.append(time.perf_counter() - began)
    median = statistics.median
    print(
        f"latency, {name}: request median {1000 * median(asked):.1f} ms, in process {1000 * median(alone):.1f} ms; "
        f"added: median {1000 * median(added):.2f} ms, p95 {1000 * percentile(added, 0.95):.2f} ms; "
        f"difference of the medians {1000 * (median(asked) - median(alone)):.2f} ms ({requests} requests, {load_now()})"
    )


def in_process(predict: Callable[[Sequence[Image]], object], bodies: Sequence[bytes], requests: int) -> float:
    """Pictures a second in batches, decoded in two threads beside the model."""
    began = time.perf_counter()
    coming: deque[Future[Image]] = deque()
    with ThreadPoolExecutor(2) as pool:
        todo = (pool.submit(decode_image, bodies[number % len(bodies)], "picture") for number in range(requests))
        coming.extend(islice(todo, 2 * BATCH))
        while coming:
            batch = [coming.popleft() for _ in range(min(BATCH, len(coming)))]
            images = [one.result() for one in batch]
            coming.extend(islice(todo, len(batch)))
            predict(images)
    return requests / (time.perf_counter() - began)


def measure_throughput(name: str, packed: Path, paths: Sequence[Path], rounds: int, requests: int) -> None:
    from sightline.bundle.load import load_model

    model = load_model(packed)
    bodies = [path.read_bytes() for path in paths]
    in_process(model.predict, bodies, BATCH)  # warm
    with server(*sightline_serve(packed)) as url:
        load = Load(url, tuple(map(str, paths)), CLIENTS, requests)
        rate(Load(url, load.pictures, CLIENTS, CLIENTS))
        rates = []
        for _ in range(rounds):
            rates.append((rate(load), in_process(model.predict, bodies, requests)))
            served, alone = rates[-1]
            print(f"throughput, {name}: {served:.2f}/s with {CLIENTS} clients, {alone:.2f}/s in process, ", end="")
            print(f"{served / alone:.1%} ({requests} pictures, {load_now()})", flush=True)
        batches = ask(connect(url), "/metrics")[1].decode()
    count, total = (re.search(rf"sightline_batch_size_{what} (\S+)", batches) for what in ("count", "sum"))
    assert count and total
    print(f"throughput, {name}: median of the ratios {statistics.median(a / b for a, b in rates):.1%}, ", end="")
    print(f"batches of {float(total[1]) / float(count[1]):.1f} on average", flush=True)


def measure_overload(packed: Path, paths: Sequence[Path], lasting: float) -> None:
    """Accepted requests wait for as many as the queue holds, and no more: at the rate of the answers that is the bound."""
    with server(*sightline_serve(packed, "--max-waiting", str(MAX_WAITING))) as url:
        seconds, times = clients(Load(url, tuple(map(str, paths)), OVERLOAD_CLIENTS, 10**9, lasting))
        alive = ask(connect(url), "/ping")[0]
    answered = [taken for status, taken in times if status == 200]
    refused = [taken for status, taken in times if status == 503]
    per_second = len(answered) / seconds
    bound = (MAX_WAITING + BATCH) / per_second
    print(f"overload: {OVERLOAD_CLIENTS} clients, --max-waiting {MAX_WAITING}: {dict(Counter(s for s, _ in times))} ", end="")
    print(f"(0: cut while sending), {per_second:.1f} answers/s, /ping {alive} after ({load_now()})")
    print(f"overload: answers p50 {percentile(answered, 0.5):.3f} s, p99 {percentile(answered, 0.99):.3f} s, ", end="")
    print(f"most {max(answered):.3f} s; bound (a full queue and a batch) {bound:.3f} s", end="")
    print(f"; refusals p50 {percentile(refused, 0.5):.3f} s" if refused else "; nothing refused", flush=True)


def measure_start(packed: Path, path: Path, rounds: int) -> None:
    """Twice the same, because the first start finds the files on disk and not in memory."""
    body = path.read_bytes()
    for _ in range(rounds):
        began = time.perf_counter()
        with server(*sightline_serve(packed)) as url:
            ready = time.perf_counter() - began
            status = ask(connect(url), "/invocations", body)[0]
            print(
                f"start: ready after {ready:.2f} s, first answer ({status}) after {time.perf_counter() - began:.2f} s ", end=""
            )
            print(f"({packed.stat().st_size / 1e6:.0f} MB, {load_now()})", flush=True)
    print("  where the time of loading goes, in a process that does nothing else:", flush=True)
    subprocess.run([sys.executable, "-c", LAPS, str(packed), str(path)], check=True)


def measure_peer(peer: str, packed: Path, paths: Sequence[Path], rounds: int, requests: int, sizes: tuple[int, int]) -> None:
    """Sightline's server and the plain stack, in turn; both stay loaded."""
    names = ("fastapi", "starlette", "uvicorn", "torch", "torchvision")
    asked = [peer, "-c", PEER_VERSIONS.replace("NAMES", repr(names))]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    if told.returncode:
        reason = told.stderr.strip().splitlines()[-1] if told.stderr.strip() else "it does not start"
        print(f"peer: skipped: {reason}. Install {', '.join(names)} in an environment and name its Python with --peer.")
        return
    command = [peer, str(PEER), "{port}", *map(str, (*sizes, CLASSES, packed.with_name("r50.pth")))]
    rates: dict[str, list[float]] = {name: [] for name in ("sightline", "async def", "def")}
    with (
        server(*sightline_serve(packed, "--timeout", "600")) as ours,  # 16 clients wait for 16 large pictures
        server(*command, "async") as theirs,
        server(*command, "threads") as in_threads,
    ):
        loads = [Load(url, tuple(map(str, paths)), CLIENTS, requests) for url in (ours, theirs, in_threads)]
        found = [boxes(load.url, paths[0].read_bytes()) for load in loads]
        for _ in range(rounds):
            for name, load in zip(rates, loads, strict=True):
                rates[name].append(rate(load))
                print(f"peer: {name} {rates[name][-1]:.3f}/s ({load_now()})", flush=True)
    for name in ("async def", "def"):
        ratios = [a / b for a, b in zip(rates["sightline"], rates[name], strict=True)]
        print(f"peer: {statistics.median(ratios):.2f} times FastAPI's `{name}` (median of the ratios)")
    print(f"peer: R50-FPN at {sizes[0]}/{sizes[1]} px, {CLIENTS} clients, {requests} pictures a round, ", end="")
    print(f"{' and '.join(map(str, found))} boxes in the first; {told.stdout.strip()}")


def boxes(url: str, body: bytes) -> int:
    """How many the answer has; it also warms the server."""
    return len(json.loads(ask(connect(url), "/invocations", body)[1])["scores"])


def load_now() -> str:
    return f"load {os.getloadavg()[0]:.1f}"


def measure(asked: argparse.Namespace, folder: Path) -> None:
    paths = pictures(folder)
    body = paths[0].read_bytes()
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, ", end="")
    packages = ("torch", "torchvision", "uvicorn", "starlette", "h11", "Pillow", "numpy")
    print(", ".join(f"{name} {version(name)}" for name in packages))
    size = statistics.mean(path.stat().st_size for path in paths)
    print(f"pictures: {len(paths)} JPEGs of {WIDTH} x {HEIGHT} px, {size / 1000:.0f} kB on average", flush=True)
    sizes = {"small": (None, None), "r50": (asked.min_size, asked.max_size)}
    needed = {*asked.model, *(["small"] * ("overload" in asked.only)), *(["r50"] * bool({"start", "peer"} & set(asked.only)))}
    packed = {name: bundle(name, folder, *sizes[name]) for name in sorted(needed)}
    if "latency" in asked.only:
        with fake_server() as url:
            for _ in range(asked.rounds):
                measure_latency("a model that takes no time", url, find, body, 100)
        if "small" in packed:
            from sightline.bundle.load import load_model

            with server(*sightline_serve(packed["small"])) as url:
                measure_latency("small", url, load_model(packed["small"]).predict, body, 50)
    if "throughput" in asked.only:
        for name in asked.model:
            measure_throughput(name, packed[name], paths, asked.rounds, asked.requests or REQUESTS[name])
    if "overload" in asked.only:
        measure_overload(packed["small"], paths, asked.overload_s)
    if "start" in asked.only:
        measure_start(packed["r50"], paths[0], asked.rounds)
    if "peer" in asked.only:
        requests = asked.requests or REQUESTS["r50"]
        measure_peer(asked.peer, packed["r50"], paths, asked.rounds, requests, sizes["r50"])


def main() -> None:
    kinds = ("latency", "throughput", "overload", "start", "peer")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=kinds, default=list(kinds))
    parser.add_argument("--model", nargs="+", choices=list(CONFIGURATIONS), default=["small"], help="of the throughput")
    parser.add_argument("--requests", type=int, help="of a round with many clients")
    parser.add_argument("--overload-s", type=float, default=30, help="how long there are too many clients")
    parser.add_argument("--min-size", type=int, default=800, help="of R50-FPN's input, pixels")
    parser.add_argument("--max-size", type=int, default=1333)
    parser.add_argument("--peer", default=sys.executable, help="the Python of an environment with FastAPI and torchvision")
    parser.add_argument("--serve-fake", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--load", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.serve_fake:
        serve_fake()
    elif asked.load:
        print(json.dumps(send_all(Load(**json.loads(asked.load)))))
    else:
        with tempfile.TemporaryDirectory() as folder:
            measure(asked, Path(folder))


if __name__ == "__main__":
    main()
