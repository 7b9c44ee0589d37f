"""Bodies that are meant to hurt: bombs, torn pictures, arrays that lie. Each is a 4xx, and the next picture is answered."""

import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from http_raw import error_of, raw
from mutations import KINDS, mutated, pictures

from sightline import wire
from sightline.images import Limits
from sightline.records import Model
from sightline.serving.server import running
from sightline.serving.settings import Settings

Call = Callable[..., tuple[int, dict[str, str], bytes]]
MANY_PIXELS = 9_000


def peak(anew: bool = False) -> int:
    """Bytes that this process, in which the server runs, has had at most. anew: since now."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024


def png_bomb() -> bytes:
    """20,000 x 20,000 pixels of nothing: 400 megapixels, 1.2 GB decoded, in some 10 kB that are honest about it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10_000_000), 9))
        + chunk(b"IEND", b"")
    )


def png_text_bomb(as_bytes: Callable[..., bytes], image: np.ndarray) -> bytes:
    """A good picture with a compressed comment of 100 MB."""
    good = as_bytes(image)
    data = b"c\x00\x00" + zlib.compress(bytes(100_000_000), 9)
    chunk = struct.pack(">I", len(data)) + b"zTXt" + data + struct.pack(">I", zlib.crc32(b"zTXt" + data))
    return good[:33] + chunk + good[33:]


def webp_bomb() -> bytes:
    """A lossless WebP's header with the largest size that it can tell, and nothing behind it."""
    bits = (16383) | (16383 << 14)
    data = b"\x2f" + struct.pack("<I", bits) + bytes(40)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + b"\x00" * (len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def tiff(width: int, height: int, offset: int = 8) -> bytes:
    """A TIFF's header with these sizes; its strip is at the file's end. offset: of the directory."""
    entries = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1),
               (273, 4, 1, 200), (277, 3, 1, 1), (278, 4, 1, height), (279, 4, 1, 10)]  # fmt: skip
    directory = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\x00" + struct.pack("<I", offset) + directory + struct.pack("<I", offset) + bytes(100)


def bmp(width: int, height: int) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 100, 0, 0, 54, 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(46)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        pytest.param(png_bomb(), 413, id="png"),
        pytest.param(webp_bomb(), 413, id="webp"),
        pytest.param(tiff(100_000, 100_000), 413, id="tiff"),
        pytest.param(tiff(2**31, 2**31), 413, id="tiff, absurd"),
        pytest.param(tiff(10, 10), 400, id="tiff without its pixels"),
        pytest.param(tiff(10, 10, 2**32 - 9), 400, id="tiff whose directory is nowhere"),
        pytest.param(bmp(40_000, 2), 413, id="bmp, one long side"),
        pytest.param(bmp(2, -40_000), 413, id="bmp, upside down"),
        pytest.param(bmp(0, 0), 400, id="bmp of nothing"),
    ],
)
def test_size_is_checked_before_decoding(body: bytes, status: int, ask: Call, png: bytes) -> None:
    before = peak(anew=True)
    got, _, answer = ask("POST", "/invocations", body, {"Content-Type": "image/png"})
    assert (got, error_of(answer)["where"]) == (status, "body")
    assert peak() - before < 50 * 2**20
    assert ask("POST", "/invocations", png, {"Content-Type": "image/png"})[0] == 200


def test_a_comment_that_explodes(ask: Call, make_picture, as_bytes) -> None:
    body = png_text_bomb(as_bytes, make_picture())
    before = peak(anew=True)
    status = ask("POST", "/invocations", body, {"Content-Type": "image/png"})[0]
    assert status == 413
    assert peak() - before < 50 * 2**20


@pytest.fixture(scope="module")
def small(model: Model) -> Iterator[str]:
    with running(model, settings=Settings(limits=Limits(max_pixels=MANY_PIXELS, max_side=100))) as url:
        yield url


@pytest.mark.parametrize("kind", [*KINDS.values(), "NPY"])
@pytest.mark.parametrize(("height", "width", "status"), [(90, 100, 200), (91, 100, 413), (2, 101, 413), (101, 2, 413)])
def test_limits_to_the_pixel(kind: str, height: int, width: int, status: int, small: str, call: Call, as_bytes, make_picture):
    image = make_picture(height=height, width=width)
    body = npy(shape=(height, width, 3)) if kind == "NPY" else as_bytes(image, kind)
    header = wire.NPY if kind == "NPY" else "image/jpeg"
    assert call(small, "POST", "/invocations", body, {"Content-Type": header})[0] == status


@pytest.mark.parametrize("kind", sorted(pictures()))
@pytest.mark.parametrize("kept", [0.01, 0.3, 0.9])
def test_torn_pictures(kind: str, kept: float, ask: Call) -> None:
    body = pictures()[kind]
    status, _, answer = ask("POST", "/invocations", body[: int(len(body) * kept)], {"Content-Type": kind})
    assert status == 400, answer
    assert error_of(answer)["where"] == "body"


def npy(header: str | None = None, shape: object = (4, 5, 3), kind: str = "|u1", data: bytes | None = None) -> bytes:
    """A .npy file that says what it is told to."""
    text = header if header is not None else f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape!r}, }}"
    text = text.ljust(117) + "\n"
    pixels = bytes(int(np.prod(shape))) if data is None and isinstance(shape, tuple) else data or b""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1") + pixels


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("/tmp/sightline-was-unpickled"),)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(npy(kind="|O", data=b"cos\nsystem\n(S'true'\ntR."), id="objects"),
        pytest.param(npy(kind="|V3"), id="raw bytes"),
        pytest.param(npy(kind="<f4"), id="floats"),
        pytest.param(npy(shape=(2**40, 2**40, 3), data=b""), id="absurd sides"),
        pytest.param(npy(shape=(-1, 5, 3), data=b"x" * 60), id="a negative side"),
        pytest.param(npy(shape=(4, 5, 3), data=b"x"), id="fewer pixels than told"),
        pytest.param(npy(shape=(4, 5, 3), data=b"x" * 61), id="more pixels than told"),
        pytest.param(npy(shape=(4, 5), data=b"x" * 20), id="grey"),
        pytest.param(npy(header="(" * 9000), id="a deep header"),
        pytest.param(npy(header="9" * 9000), id="a header of digits"),
        pytest.param(npy(header="{'descr': '|u1', 'fortran_order': False, 'shape': (True, True, 3)}"), id="truths as sides"),
        pytest.param(npy(header="{'descr': [], 'fortran_order': 0, 'shape': {}}"), id="other types"),
        pytest.param(npy(header="__import__('os').abort()"), id="code"),
        pytest.param(npy(header="-" * 9000 + "1"), id="signs"),
        pytest.param(npy(header="1" + "**9" * 2000), id="powers"),
        pytest.param(b"\x93NUMPY\x02\x00\xff\xff\xff\xff", id="a header of 4 GiB"),
        pytest.param(b"\x93NUMPY\x09\x00\x10\x00", id="version 9"),
    ],
)
def test_arrays_that_lie(body: bytes, ask: Call) -> None:
    before = peak(anew=True)
    status, _, answer = ask("POST", "/invocations", body, {"Content-Type": wire.NPY})
    assert status in (400, 413)
    assert len(answer) < 20_000
    assert b"Traceback" not in answer
    assert peak() - before < 50 * 2**20


def test_nothing_is_ever_unpickled(ask: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "trap.npy", np.array([Trap()], dtype=object), allow_pickle=True)
    body = (tmp_path / "trap.npy").read_bytes()
    assert b"touch" in body
    Path("/tmp/sightline-was-unpickled").unlink(missing_ok=True)
    assert ask("POST", "/invocations", body, {"Content-Type": wire.NPY})[0] == 400
    assert not Path("/tmp/sightline-was-unpickled").exists()


def status_of(url: str, number: int) -> int:
    """What a mutated request is answered; 0: the connection was closed."""
    with raw(url) as connection, suppress(ConnectionError):
        with suppress(ConnectionError):
            connection.sendall(mutated(number))
        answer = connection.recv(65536)
        while answer.startswith(b"HTTP/1.1 100 "):
            answer = answer.partition(b"\r\n\r\n")[2] or connection.recv(65536)
        assert b"Traceback" not in answer, number
        return int(answer.split()[1]) if answer else 0
    return 0


def test_mutated_requests(masked: Model, call: Call) -> None:
    """600 of them: no 5xx, no stack trace, and still well. `python benchmarks/serve_memory.py --mutated 10000` sends more."""
    settings = Settings(header_timeout_s=0.3, body_timeout_s=0.3)  # some tell of more bytes than they have
    with running(masked, settings=settings) as url, ThreadPoolExecutor(16) as pool:
        statuses = Counter(pool.map(partial(status_of, url), range(600)))
        assert call(url, "GET", "/ping")[0] == 200
        assert json.loads(call(url, "GET", "/model")[2])["class_names"] == ["bee", "wasp"]
    assert all(status < 500 or status == 501 for status in statuses), statuses  # 501: a transfer encoding
    assert min(statuses[200], statuses[400]) > 100, statuses  # they are nearly right, and some are
    assert statuses[0] < 60, statuses


def test_the_mutations_are_the_same_everywhere() -> None:
    assert mutated(7) == mutated(7)
    assert len({mutated(number) for number in range(50)}) > 45
