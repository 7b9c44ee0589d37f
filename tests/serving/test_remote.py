"""A served model behaves as a local one: equal detections, the server's own errors, and patience where it helps."""

import dataclasses
import json
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager

import numpy as np
import pytest

from sightline.errors import RequestError, RunError
from sightline.images import Limits
from sightline.records import Detections, Image, Model
from sightline.serving.remote import Remote, Reply, connect, parse, retry_after
from sightline.serving.server import running
from sightline.serving.settings import Settings


def answer(status: int, value: object = None, headers: str = "") -> bytes:
    body = json.dumps(value).encode()
    return f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


def read_request(connection: socket.socket) -> bytes:
    """A whole request: closing with some of it unread would reset the connection under the answer."""
    request = b""
    while b"\r\n\r\n" not in request:
        request += connection.recv(65536)
    head, _, body = request.partition(b"\r\n\r\n")
    length = int(re.findall(rb"(?i)content-length: (\d+)", head)[0])
    while len(body) < length:
        body += connection.recv(65536)
    return head + body


@contextmanager
def scripted(*answers: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that gives one answer per connection, then closes it; b"" closes at once. With what it was asked."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)

        def work() -> None:
            for reply in answers:
                connection, _ = listener.accept()
                with connection:
                    asked.append(read_request(connection))
                    connection.sendall(reply)

        thread = threading.Thread(target=work)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", asked
        thread.join(20)


def remote(url: str, pauses: list[float], timeout_s: float = 20) -> Remote:
    return dataclasses.replace(parse(url, timeout_s), sleep=pauses.append)


def test_the_same_detections_as_in_process(model: Model, url: str, make_picture) -> None:
    served = connect(url)
    assert (served.class_names, served.origin, served.facts) == (model.class_names, url, model.facts)
    images = [make_picture(shade, height=20 + shade % 3) for shade in range(20)]
    for got, expected in zip(served.predict(images), model.predict(images), strict=True):
        assert got.size == expected.size
        np.testing.assert_array_equal(got.boxes, expected.boxes)
        np.testing.assert_array_equal(got.scores, expected.scores)
        np.testing.assert_array_equal(got.labels, expected.labels)
    assert served.predict([]) == []


def test_masks_come_through(masked: Model, make_picture) -> None:
    images = [make_picture(shade) for shade in (10, 200)]
    with running(masked) as url:
        got = connect(url).predict(images)
    assert [found.masks for found in got] == [found.masks for found in masked.predict(images)]


def test_a_model_that_proposes_is_one_from_afar_too(model: Model) -> None:
    with running(dataclasses.replace(model, class_names=("object", "x"), proposes=True)) as url:
        assert connect(url).proposes
    with running(model) as url:
        assert not connect(url).proposes


def test_pixels_arrive_as_they_are() -> None:
    seen: list[Image] = []

    def predict(images: Sequence[Image]) -> list[Detections]:
        seen.extend(images)
        empty = np.zeros(0, np.float32)
        return [Detections((1, 1), empty.reshape(0, 4), empty, empty.astype(np.int64)) for _ in images]

    noise = np.random.default_rng(0).integers(0, 256, (37, 53, 3)).astype(np.uint8)
    with running(Model(predict, (), "m")) as url:
        connect(url).predict([noise])
    np.testing.assert_array_equal(seen[-1], noise)


def test_it_waits_while_the_model_loads(model: Model) -> None:
    loading: Future[Model] = Future()

    def load_now(_: float) -> None:
        if not loading.done():
            loading.set_result(model)

    with running(loading) as url:
        patient = dataclasses.replace(parse(url, 20), sleep=load_now)
        assert patient.call("GET", "/model").status == 200


def test_connections_are_kept(url: str, make_picture) -> None:
    pauses: list[float] = []
    served = remote(url, pauses)
    for _ in range(3):
        served.predict([make_picture()])
    assert served.idle.qsize() == 1


def test_the_servers_refusal_in_its_own_words(model: Model, make_picture) -> None:
    with running(model, settings=Settings(limits=Limits(max_pixels=100))) as url:
        served = connect(url)
        with pytest.raises(RequestError, match=r"body: is 40 x 30 px, more than 100 pixels.*Use a smaller picture") as caught:
            served.predict([make_picture()])
    assert caught.value.status == 413


def test_busy_servers_are_asked_again_when_they_say() -> None:
    pauses: list[float] = []
    busy = answer(503, {"error": {"where": "queue", "what": "is full", "fix": "Wait."}}, "Retry-After: 2\r\n")
    with scripted(busy, busy, answer(200, {})) as (url, asked):
        assert remote(url, pauses).call("GET", "/model").body == b"{}"
    assert (pauses, len(asked)) == ([2, 2], 3)


def test_patience_ends() -> None:
    pauses: list[float] = []
    busy = answer(503, {"error": {"where": "queue", "what": "is full", "fix": "Wait."}}, "Retry-After: 2\r\n")
    with scripted(*[busy] * 3) as (url, _), pytest.raises(RequestError, match=r"queue: is full\. Wait\."):
        remote(url, pauses, timeout_s=3).call("GET", "/model")
    assert pauses == [2, 2]


def test_a_dropped_connection_is_tried_again() -> None:
    with scripted(b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", answer(200, {})) as (url, asked):
        assert remote(url, []).call("POST", "/invocations", b"picture").status == 200
    assert [request.endswith(b"picture") for request in asked] == [True] * 3


def test_a_connection_that_drops_forever_is_an_error() -> None:
    with scripted(b"", b"", b"") as (url, _), pytest.raises(RunError, match="cannot be reached") as caught:
        remote(url, []).call("GET", "/model")
    assert caught.value.exit_code == 1


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    with pytest.raises(RunError, match=f"{url}: cannot be reached .*refused.* Check the address"):
        connect(url)


def test_a_server_that_never_answers() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        pytest.raises(RunError, match=r"did not answer within 0\.05 s"),
    ):
        connect(f"http://127.0.0.1:{listener.getsockname()[1]}", timeout_s=0.05)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        pytest.param(answer(404, "gone"), "answered 404: .*gone.*Check the address", id="another server"),
        pytest.param(answer(200, [1]), "is no Sightline server", id="a list"),
        pytest.param(answer(200, {"class_names": 3, "facts": {}}), "is no Sightline server", id="other keys"),
        pytest.param(answer(302, None, "Location: http://elsewhere/\r\n"), "answered 302", id="redirects are not followed"),
    ],
)
def test_other_servers(reply: bytes, message: str) -> None:
    with scripted(reply) as (url, _), pytest.raises(RequestError, match=message):
        connect(url)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://host", "http://host"),
        ("http://host:8080/", "http://host:8080"),
        ("https://host/models/bees/", "https://host/models/bees"),
        ("http://host:8080/invocations", "http://host:8080"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_addresses(url: str, address: str) -> None:
    assert parse(url, 1).address == address


@pytest.mark.parametrize(
    "url", ["host:8080", "ftp://host", "http://", "http://h:99999", "http://h/?a=1", "http://me:pw@h", "http://[::1"]
)
def test_addresses_refused(url: str) -> None:
    with pytest.raises(RequestError, match="is no address"):
        parse(url, 1)


@pytest.mark.parametrize(
    ("value", "seconds"), [("2", 2), ("0", 0.1), ("9999", 5), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("", 1), ("²", 1)]
)
def test_retry_after(value: str, seconds: float) -> None:
    assert retry_after(Reply(503, {"Retry-After": value}, b"")) == seconds
