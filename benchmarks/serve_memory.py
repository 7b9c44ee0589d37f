"""Memory of the server over thousands of mixed requests, good and bad.

    python benchmarks/serve_memory.py [--requests 10000] [--mutated 10000] [--clients 8]

A server whose model only makes answers of ten masks runs in its own process. First come good pictures of many sizes and
formats, answered as JSON and npz, with refusals between them; then mutated requests (tests/mutations.py). Prints the server's
resident memory on the way, and what was answered; ends with 1 when there was a 5xx or /ping is not 200 at the end.
"""

import argparse
import http.client
import io
import os
import random
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image as Pillow

from sightline.geometry.masks import encode
from sightline.records import Detections, Image, ImageSize, Model
from sightline.serving.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
QUERIES = ("", "?threshold=0.5", "?classes=a", "?masks=off", "?max_detections=3", "?no=1")


def find(images: Sequence[Image]) -> list[Detections]:
    """Ten detections with masks in every picture."""
    found = []
    for image in images:
        size = ImageSize(*image.shape[:2])
        mask = encode(image[:, :, 0] > 100)
        scores = np.linspace(0.9, 0.1, 10, dtype=np.float32)
        found.append(Detections(size, np.ones((10, 4), np.float32), scores, np.arange(10) % 2, (mask,) * 10))
    return found


def serve_here() -> None:
    """The server's process; it tells its address on stdout."""
    import logging
    import warnings

    from sightline.serving.server import running

    warnings.simplefilter("ignore")
    logging.disable()
    with running(Model(find, ("a", "b"), "fake"), settings=Settings(header_timeout_s=1, body_timeout_s=1)) as url:
        print(url, flush=True)
        sys.stdin.read()


@contextmanager
def server() -> Iterator[tuple[str, int]]:
    """(address, process id) of a server in its own process."""
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdin is not None
        yield process.stdout.readline().strip(), process.pid
        process.stdin.close()


def resident_mib(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def bodies() -> list[bytes]:
    """Pictures of 40 sizes up to 1920 x 1080 in five formats, and five that are none."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(40):
        height, width = 120 + 24 * number, 160 + 44 * number
        pixels = np.repeat(np.repeat(rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8), 8, 0), 8, 1)
        file = io.BytesIO()
        Pillow.fromarray(pixels).save(file, FORMATS[number % len(FORMATS)])
        made.append(file.getvalue())
    return [*made, b"", b"hello", made[0][:200], made[1][:500], os.urandom(10_000)]


def ask_mixed(url: str, pictures: list[bytes], number: int) -> int:
    rng = random.Random(number)
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    accept = rng.choice(("application/json", "application/x-npz", "*/*"))
    headers = {"Content-Type": "image/jpeg", "Accept": accept}
    with suppress(ConnectionError):
        connection.request("POST", "/invocations" + rng.choice(QUERIES), rng.choice(pictures), headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status
    return 0


def ask_mutated(url: str, number: int) -> int:
    """0: the connection was closed without an answer."""
    from mutations import mutated

    with socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=30) as connection:
        with suppress(ConnectionError):
            connection.sendall(mutated(number))
        with suppress(ConnectionError):
            answer = connection.recv(65536)
            while answer.startswith(b"HTTP/1.1 100 "):
                answer = answer.partition(b"\r\n\r\n")[2] or connection.recv(65536)
            return int(answer.split()[1]) if answer else 0
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--mutated", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve_here()
        return 0
    sys.path.insert(0, str(ROOT / "tests"))
    total: Counter[int] = Counter()
    with server() as (url, pid), ThreadPoolExecutor(given.clients) as pool:
        for name, ask, count in (
            ("mixed", partial(ask_mixed, url, bodies()), given.requests),
            ("mutated", partial(ask_mutated, url), given.mutated),
        ):
            statuses: Counter[int] = Counter()
            step = max(count // 10, 1)
            for start in range(0, count, step):
                statuses.update(pool.map(ask, range(start, min(start + step, count))))
                print(f"{name} {min(start + step, count):>6}: {resident_mib(pid):7.1f} MiB", flush=True)
            print(f"{name}: {dict(sorted(statuses.items()))}", flush=True)
            total += statuses
        well = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        well.request("GET", "/ping")
        status = well.getresponse().status
    print(f"/ping {status}")
    return int(status != 200 or any(status >= 500 and status != 501 for status in total))


if __name__ == "__main__":
    sys.exit(main())
