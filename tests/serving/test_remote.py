"""A served model behaves as a local one: equal detections, the server's own errors, and patience where it helps."""

import dataclasses
import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import numpy as np
import pytest

from sightline.errors import RequestError, RunError
from sightline.images import Limits
from sightline.records import Detections, Image, ImageSize, Model
from sightline.serving.remote import AT_ONCE, Remote, Reply, connect, parse, retry_after
from sightline.serving.server import running
from sightline.serving.settings import Settings
from sightline.wire import as_png, as_webp


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


def test_thresholds_are_known_from_afar_and_predict_gives_all(model: Model, make_picture) -> None:
    """As in process: an evaluation over HTTP must see what lies below them."""
    with running(dataclasses.replace(model, thresholds=(0.99, 0.95))) as url:
        remote = connect(url)
        assert remote.thresholds == (0.99, 0.95)
        assert len(remote.predict([make_picture(10)])[0]) == 2


def test_pixels_arrive_as_they_are() -> None:
    seen: list[Image] = []

    def predict(images: Sequence[Image]) -> list[Detections]:
        seen.extend(images)
        empty = np.zeros(0, np.float32)
        return [Detections(ImageSize(*image.shape[:2]), empty.reshape(0, 4), empty, empty.astype(np.int64)) for image in images]

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


@contextmanager
def counted(url: str) -> Iterator[tuple[str, list[socket.socket]]]:
    """A relay before a server, with the connections it has accepted."""
    accepted: list[socket.socket] = []
    there = urlsplit(url)

    def pump(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while chunk := source.recv(65536):
                target.sendall(chunk)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept(listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                here, _ = listener.accept()
                accepted.append(here)
                beyond = socket.create_connection((there.hostname, there.port))
                for ends in ((here, beyond), (beyond, here)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", accepted
        listener.shutdown(socket.SHUT_RDWR)


def test_one_connection_carries_one_picture_after_the_other(url: str, make_picture) -> None:
    with counted(url) as (relay, accepted):
        served = connect(relay)
        for shade in range(10):
            served.predict([make_picture(shade)])
        assert len(accepted) == 1


def test_a_batch_uses_no_more_connections_than_pictures_under_way(url: str, make_picture) -> None:
    with counted(url) as (relay, accepted):
        served = connect(relay)
        for _ in range(3):
            served.predict([make_picture(shade) for shade in range(30)])
        assert 1 <= len(accepted) <= AT_ONCE


def test_connections_that_a_restarted_server_has_closed_are_no_failure(url: str, make_picture) -> None:
    """All idle ones break at once, and there are more of them than a request may lose."""
    served = parse(url, 20)
    lost = []
    for _ in range(AT_ONCE):
        connection = http.client.HTTPConnection(urlsplit(url).netloc)
        connection.connect()
        connection.sock.shutdown(socket.SHUT_RDWR)
        served.idle.put(connection)
        lost.append(connection)
    assert len(served.predict([make_picture()])) == 1
    assert served.idle.qsize() == 1
    assert all(connection.sock is None for connection in lost)


def test_an_answer_about_another_picture_is_an_error(make_picture) -> None:
    found = {"image_size": [15, 20], "pred_boxes": [], "scores": [], "pred_classes": []}
    with scripted(answer(200, found)) as (url, _), pytest.raises(RequestError) as caught:
        remote(url, []).predict([make_picture()])
    assert caught.value.what == "answered for a picture of 20 x 15 px when sent one of 40 x 30 px"


def pastel(height: int, width: int) -> Image:
    """A picture that WebP writes much smaller than PNG does: smooth, with a little noise that is the same in all colours."""
    noise = np.random.default_rng(0).integers(0, 8, (height, width, 1))
    slope = np.arange(width)[None, :, None] // 4 + np.arange(height)[:, None, None] // 4
    return np.repeat((noise + slope) % 256, 3, axis=2).astype(np.uint8)


def test_a_picture_beyond_the_servers_limit_travels_as_webp() -> None:
    seen: list[Image] = []

    def predict(images: Sequence[Image]) -> list[Detections]:
        seen.extend(images)
        empty = np.zeros(0, np.float32)
        return [Detections(ImageSize(*image.shape[:2]), empty.reshape(0, 4), empty, empty.astype(np.int64)) for image in images]

    picture = pastel(1400, 1400)
    assert len(as_webp(picture)) < 2**20 < len(as_png(picture))
    with running(Model(predict, (), "m"), settings=Settings(limits=Limits(max_bytes=2**20))) as url:
        connect(url).predict([picture])
    np.testing.assert_array_equal(seen[-1], picture)


def test_a_picture_that_no_lossless_format_makes_small_enough_is_not_sent() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3)).astype(np.uint8)
    served = dataclasses.replace(parse("http://127.0.0.1:9", 1), max_bytes=2**20)
    with pytest.raises(
        RequestError, match=r"takes 1,048,576 bytes, and a picture of 700 x 700 px has 1,4\d\d,\d+ without.*JPEG file itself"
    ) as caught:
        served.predict([noise])
    assert caught.value.status == 413


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
    with scripted(*[busy] * 2) as (url, _), pytest.raises(RequestError, match=r"queue: is full\. Wait\."):
        remote(url, pauses, timeout_s=3).call("GET", "/model")
    assert pauses == [2]


@pytest.mark.parametrize("status", [400, 404, 406, 408, 413, 415, 429, 500, 502])
def test_other_refusals_are_not_repeated(status: int) -> None:
    pauses: list[float] = []
    refused = answer(status, {"error": {"where": "body", "what": "is wrong", "fix": "Right it."}}, "Retry-After: 1\r\n")
    with scripted(refused) as (url, asked), pytest.raises(RequestError, match=r"body: is wrong") as caught:
        remote(url, pauses).call("POST", "/invocations", b"picture")
    assert (caught.value.status, len(asked), pauses) == (status, 1, [])


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
    ("value", "seconds"), [("2", 2), ("0", 0.1), ("9999", 9999), ("Wed, 21 Oct 2026 07:28:00 GMT", 1), ("", 1), ("²", 1)]
)
def test_retry_after(value: str, seconds: float) -> None:
    assert retry_after(Reply(503, {"Retry-After": value}, b"")) == seconds
