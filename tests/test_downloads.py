"""Downloads from a real server on loopback: once, resumed, checked, and never half there."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from sightline.downloads import cache_folder, fetch, is_address
from sightline.errors import RunError, SightlineError

BODY = bytes(range(256)) * 5000
DIGEST = hashlib.md5(BODY).hexdigest()[:6]


@dataclass
class Server:
    """Serves BODY under any name. cut: bytes after which the next answer breaks off; ranges: whether it can continue."""

    url: str = ""
    cut: int | None = None
    ranges: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        if "missing" in handler.path:
            handler.send_error(404)
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.ranges else 0
        if start >= len(BODY):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(BODY) - start))
        handler.end_headers()
        rest = BODY[start:]
        handler.wfile.write(rest if self.cut is None else rest[: self.cut])
        self.cut = None


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{http.server_port}/"
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def test_a_file_is_fetched_once(server: Server, tmp_path: Path) -> None:
    address = f"{server.url}a/model_final_{DIGEST}.pkl"
    first = fetch(address, tmp_path)
    assert first.read_bytes() == BODY
    assert fetch(address, tmp_path) == first
    assert len(server.asked) == 1
    assert not list(tmp_path.rglob("*.partial"))


def test_zoo_addresses_lead_to_the_zoo(server: Server, tmp_path: Path) -> None:
    assert fetch("detectron2://ImageNetPretrained/MSRA/R-50.pkl", tmp_path, zoo=server.url).read_bytes() == BODY
    assert server.asked == [("/ImageNetPretrained/MSRA/R-50.pkl", None)]


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on(ranges: bool, server: Server, tmp_path: Path) -> None:
    server.cut, server.ranges = 300_000, ranges
    address = f"{server.url}model_final_{DIGEST}.pkl"
    with pytest.raises(RunError, match=r"cannot be downloaded .* give a local file with --weights"):
        fetch(address, tmp_path)
    assert not list(tmp_path.rglob("*.pkl"))
    assert fetch(address, tmp_path).read_bytes() == BODY
    assert server.asked[1][1] == "bytes=300000-"


def test_another_file_than_promised_is_refused_and_removed(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"its name promises abcdef"):
        fetch(f"{server.url}model_final_abcdef.pkl", tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_server_without_the_file(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="the server answers 404"):
        fetch(f"{server.url}missing.pkl", tmp_path)


def test_no_server_at_all(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"http://127\.0\.0\.1:9/x\.pkl: cannot be downloaded") as caught:
        fetch("http://127.0.0.1:9/x.pkl", tmp_path)
    assert caught.value.exit_code == 1


def test_addresses_cannot_climb_out_of_the_cache(server: Server, tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match="climbs out of the cache"):
        fetch(f"{server.url}../../../x.pkl", tmp_path / "cache")


def test_cache_folder() -> None:
    assert cache_folder({"SIGHTLINE_CACHE": "/somewhere"}) == Path("/somewhere")
    assert cache_folder({"XDG_CACHE_HOME": "/home/u/.cache"}) == Path("/home/u/.cache/sightline")
    assert cache_folder({}) == Path.home() / ".cache" / "sightline"


@pytest.mark.parametrize(("reference", "expected"), [("detectron2://a", True), ("https://a", True), ("a/b.pth", False)])
def test_is_address(reference: str, expected: bool) -> None:
    assert is_address(reference) is expected
