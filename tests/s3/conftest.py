"""S3 over HTTP on loopback: moto's server for what S3 does, and a server of our own for what goes wrong on the way."""

import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from moto.server import ThreadedMotoServer

from sightline import storage

BUCKET = "parts"


@pytest.fixture(scope="session")
def moto_address() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody who is logged in, with nothing of this machine's own configuration."""
    for name in (
        "AWS_PROFILE",
        "AWS_SESSION_TOKEN",
        "AWS_ENDPOINT_URL_S3",
        "SIGHTLINE_S3_REQUESTER_PAYS",
        "SIGHTLINE_S3_ANONYMOUS",
    ):
        monkeypatch.delenv(name, raising=False)
    settings = {
        "AWS_ACCESS_KEY_ID": "id",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": "/no/such/file",
        "AWS_SHARED_CREDENTIALS_FILE": "/no/such/file",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_MAX_ATTEMPTS": "2",
        "SIGHTLINE_CACHE": str(tmp_path / "cache"),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


@dataclass
class Bucket:
    """An empty bucket, and the requests that were sent since `asked` was cleared."""

    client: Any
    asked: list[str] = field(default_factory=list)

    def put(self, key: str, content: bytes = b"") -> str:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)
        return f"s3://{BUCKET}/{key}"

    def get(self, key: str) -> bytes:
        content: bytes = self.client.get_object(Bucket=BUCKET, Key=key)["Body"].read()
        return content

    def keys(self, prefix: str = "") -> list[str]:
        found = self.client.list_objects_v2(Bucket=BUCKET, Prefix=prefix).get("Contents", [])
        return [entry["Key"] for entry in found]


@pytest.fixture
def bucket(moto_address: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto_address)
    urllib.request.urlopen(urllib.request.Request(f"{moto_address}/moto-api/reset", method="POST")).close()
    client = storage.store().client
    client.create_bucket(Bucket=BUCKET)
    made = Bucket(client)

    def note(model: Any, **_: object) -> None:
        made.asked.append(model.name)

    client.meta.events.register("before-call.s3", note)
    yield made
    client.meta.events.unregister("before-call.s3", note)


@dataclass
class Answer:
    """What a server says to one request. cut: bytes of the body after which the connection breaks."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


@dataclass
class Server:
    """Answers as `say(method, key, range)` tells; `asked` has (method, key, Range header)."""

    say: Callable[[str, str, str | None], Answer] = lambda method, key, wanted: Answer()
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    address: str = ""

    def holds(
        self, content: bytes, etag: str = '"one"', cut: Callable[[int, int], int | None] = lambda begin, number: None
    ) -> None:
        """One object under any key. cut: from (first byte, number of the request) the bytes after which the answer breaks."""

        def say(method: str, key: str, wanted: str | None) -> Answer:
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted or "")
            begin, end = (int(found[1]), int(found[2]) + 1) if found else (0, len(content))
            headers = {"ETag": etag, "Content-Length": str(end - begin), "Last-Modified": "Sat, 21 Nov 2026 10:00:00 GMT"}
            if found:
                headers["Content-Range"] = f"bytes {begin}-{end - 1}/{len(content)}"
            return Answer(206 if found else 200, content[begin:end], headers, cut(begin, len(self.asked)))

        self.say = say

    def fails(self, status: int, code: str, message: str = "", headers: dict[str, str] | None = None) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()
        self.say = lambda method, key, wanted: Answer(status, body, headers or {})

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        key, wanted = unquote(urlsplit(handler.path).path), handler.headers.get("Range")
        self.asked.append((handler.command, key, wanted))
        self.headers.append(dict(handler.headers))
        answer = self.say(handler.command, key, wanted)
        handler.send_response(answer.status)
        for name, value in ({"Content-Length": str(len(answer.body))} | answer.headers).items():
            handler.send_header(name, value)
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(answer.body if answer.cut is None else answer.body[: answer.cut])
        if answer.cut is not None:
            handler.close_connection = True


@pytest.fixture(scope="session")
def listening() -> Iterator[dict[str, Server]]:
    """One server for all tests, so that they share a client; what it says is each test's own."""
    state: dict[str, Server] = {}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            state["now"].answer(self)

        def do_HEAD(self) -> None:
            state["now"].answer(self)

        def do_PUT(self) -> None:
            state["now"].answer(self)

        def log_message(self, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    threading.Thread(target=http.serve_forever, daemon=True).start()
    state["address"] = Server(address=f"http://127.0.0.1:{http.server_port}")
    yield state
    http.shutdown()
    http.server_close()


@pytest.fixture
def server(listening: dict[str, Server], monkeypatch: pytest.MonkeyPatch) -> Server:
    address = listening["address"].address
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    listening["now"] = Server(address=address)
    return listening["now"]
