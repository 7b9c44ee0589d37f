"""Connections that decent clients never make: slow, idle, many, endless. The server stays there for the others."""

import json
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from http_raw import eventually, posted, raw, received

from sightline.records import Model
from sightline.serving import server
from sightline.serving.server import running
from sightline.serving.settings import Settings

Call = Callable[..., tuple[int, dict[str, str], bytes]]
SOON_S = 0.2
FILES = 4096


@contextmanager
def drip(connection: socket.socket, text: bytes) -> Iterator[bytes]:
    """What the server answers to `text`, sent byte by byte until the server has had enough."""
    connection.settimeout(0.01)
    answer = b""
    with suppress(ConnectionError):
        for byte in text:
            connection.sendall(bytes([byte]))
            with suppress(TimeoutError):
                answer = connection.recv(65536)
                break
    yield answer


def test_a_header_that_trickles_in_is_given_up(model: Model, call: Call) -> None:
    with running(model, settings=Settings(header_timeout_s=SOON_S)) as url, raw(url) as connection:
        with drip(connection, b"GET /ping HTTP/1.1\r\nHost: h\r\nX-Long: " + b"x" * 2000) as answer:
            assert answer.startswith(b"HTTP/1.1 408 ")
        connection.settimeout(30)
        assert received(connection) == b""  # closed
        assert call(url, "GET", "/ping")[0] == 200


def test_a_second_header_that_trickles_in_is_given_up_too(model: Model) -> None:
    with running(model, settings=Settings(header_timeout_s=SOON_S)) as url, raw(url) as connection:
        connection.sendall(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n")
        first = b""
        while not first.endswith(b"}"):
            first += connection.recv(65536)
        assert first.startswith(b"HTTP/1.1 200 ")
        with drip(connection, b"GET /ping HTTP/1.1\r\nX-Long: " + b"x" * 2000) as answer:
            assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_slow_but_sufficient_header_is_served(model: Model, png: bytes) -> None:
    """The deadline ends with the header: prediction and body have their own."""
    with running(model, settings=Settings(header_timeout_s=20)) as url, raw(url) as connection:
        text = posted(png, b"Connection: close")
        for start in range(0, len(text), 7):
            connection.sendall(text[start : start + 7])
        assert received(connection).startswith(b"HTTP/1.1 200 ")


def test_a_refused_body_does_not_go_on_for_ever(model: Model) -> None:
    """The answer comes with the header; what follows is thrown away for a while, and then nobody listens any more."""
    with running(model, settings=Settings(body_timeout_s=SOON_S)) as url, raw(url) as connection:
        connection.sendall(b"POST /invocations?no=1 HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        connection.settimeout(0.01)
        ended = False
        for _ in range(3000):
            try:
                connection.sendall(b"1\r\nx\r\n")
                ended = connection.recv(100) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                ended = True
            if ended:
                break
        assert ended


def test_a_client_that_does_not_fetch_its_answers_is_cut(model: Model, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_S", SOON_S)
    with running(model) as url, raw(url) as connection:
        connection.setblocking(False)
        with suppress(BlockingIOError):
            while True:  # until the server stops reading: its own buffers are full of answers
                connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: h\r\n\r\n" * 500)
        eventually(lambda: b"\nsightline_connections 1\n" in call(url, "GET", "/metrics")[2])  # that of the asking itself


def test_hundreds_of_idle_connections_make_way(model: Model, call: Call, png: bytes) -> None:
    """The oldest are closed for the newest; everyone who asks is answered."""
    with running(model, settings=Settings(max_connections=50)) as url, ExitStack() as stack:
        opened = [stack.enter_context(raw(url)) for _ in range(300)]
        for connection in opened[::2]:
            with suppress(ConnectionError):  # closed already
                connection.sendall(b"GET /ping HTTP/1.1\r\nHost:")  # half a header
        eventually(lambda: call(url, "GET", "/ping")[0] == 200)
        assert call(url, "POST", "/invocations", png, {"Content-Type": "image/png"})[0] == 200
        metrics = call(url, "GET", "/metrics")[2].decode()
        assert int(metrics.partition("\nsightline_connections ")[2].split()[0]) <= 50
        with suppress(ConnectionError):
            assert opened[0].recv(10) == b""


@pytest.fixture
def many_files() -> Iterator[None]:
    """As many open files as thousands of connections take, both ends of them in this process."""
    before, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= most < FILES:
        pytest.skip(f"this user may have {most} files open, not {FILES}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(before, FILES), most))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (before, most))


@pytest.mark.usefixtures("many_files")
def test_thousands_of_connections_leave_room_for_who_asks(model: Model, call: Call, png: bytes) -> None:
    """Against the usual limits: a quarter says nothing, one begins a header, one a body, and one has asked before."""
    texts = (b"", b"GET /ping HTTP/1.1\r\nHost:", posted(b"", length=1000), b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n")
    with running(model) as url, ExitStack() as stack:
        opened = []
        for number in range(2000):
            opened.append(stack.enter_context(raw(url)))
            with suppress(ConnectionError):  # it is one too many: refused
                opened[-1].sendall(texts[number % 4])
            if number % 500 == 499:
                assert call(url, "GET", "/ping")[0] == 200
                assert call(url, "POST", "/invocations", png, {"Content-Type": "image/png"})[0] == 200
        told = opened[-1].recv(65536)
        assert told.startswith(b"HTTP/1.1 200 ")
        metrics = call(url, "GET", "/metrics")[2].decode()
        assert 900 < int(metrics.partition("\nsightline_connections ")[2].split()[0]) <= Settings().max_connections


def test_when_all_are_at_work_a_new_one_is_told_to_come_again(model: Model, call: Call, png: bytes) -> None:
    with running(model, settings=Settings(max_connections=2)) as url, raw(url) as first, raw(url) as second:
        for busy in (first, second):
            busy.sendall(posted(b"", b"Expect: 100-continue", length=len(png)))
            assert busy.recv(65536).startswith(b"HTTP/1.1 100 ")  # it is read from
        with raw(url) as third:
            assert received(third).startswith(b"HTTP/1.1 503 ")
        for busy in (first, second):
            busy.sendall(png)
            assert busy.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert call(url, "GET", "/ping")[0] == 200  # in the place of one that is idle now


@pytest.mark.parametrize(
    "parts",
    [
        pytest.param([b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\nhello\r\n0\r\n\r\n"], id="a chunk without a length"),
        pytest.param([b"Transfer-Encoding: chunked\r\n\r\n", b"-1\r\nx\r\n0\r\n\r\n"], id="a negative chunk"),
        pytest.param([b"Transfer-Encoding: chunked\r\n\r\n", b"F" * 30 + b"\r\n"], id="an absurd chunk"),
        pytest.param([b"Transfer-Encoding: gzip\r\n\r\n", b"x"], id="another encoding"),
        pytest.param([b"Content-Length: -5\r\n\r\n", b"x"], id="a negative length"),
        pytest.param([b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", b"hello"], id="two lengths"),
        pytest.param([b"Content-Length: 99999999999999999999999999\r\n\r\n", b"x"], id="an absurd length"),
        pytest.param([b"X: " + b"y" * 70_000 + b"\r\n\r\n"], id="a header of 70 kB"),
        pytest.param([b"X\x00Y: z\r\n\r\n"], id="a NUL in a name"),
        pytest.param([b"X: a\x00b\r\n\r\n"], id="a NUL in a value"),
        pytest.param([b" folded: yes\r\n\r\n"], id="a folded first line"),
    ],
)
def test_malformed_framing_is_a_4xx_on_its_own_connection(parts: list[bytes], url: str, ask: Call) -> None:
    with raw(url) as connection:
        with suppress(ConnectionError):
            connection.sendall(b"POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\n" + b"".join(parts))
        status = int(connection.recv(65536).split()[1])
    assert 400 <= status < 502 and status != 500  # 501: an encoding that the server does not have
    assert ask("GET", "/ping")[0] == 200


def test_bytes_beyond_the_length_are_no_part_of_the_picture(url: str, png: bytes) -> None:
    with raw(url) as connection:
        connection.sendall(posted(png + b"garbage\r\n\r\n", length=len(png)))
        answer = received(connection)  # ends: what follows is no HTTP
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"HTTP/1.1 400 " in answer


def test_two_requests_in_one_packet_are_two_answers(url: str, png: bytes) -> None:
    with raw(url) as connection:
        connection.sendall(posted(png) + posted(png, b"Connection: close"))
        assert received(connection).count(b"HTTP/1.1 200 ") == 2


@pytest.mark.parametrize("name", [b"Accept", b"X-Amzn-SageMaker-Custom-Attributes", b"X-Request-Id", b"X-Other"])
def test_headers_of_odd_bytes(name: bytes, url: str, png: bytes) -> None:
    odd = bytes(byte for byte in range(0x80, 0x100))
    with raw(url) as connection:
        connection.sendall(posted(png, name + b": " + odd, b"Connection: close"))
        answer = received(connection)
    assert answer.split()[1] == (b"406" if name == b"Accept" else b"200")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert odd not in head
    assert json.loads(body)
