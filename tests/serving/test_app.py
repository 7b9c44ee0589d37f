"""The HTTP contract of docs/wire.md, over real sockets, around a three-line model."""

import dataclasses
import json
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from http_raw import Gate, error_of, eventually, raw, received

from sightline import wire
from sightline.images import Limits, decode_image
from sightline.records import Detections, Image, Model
from sightline.serving.server import running
from sightline.serving.settings import Settings

JPEG = {"Content-Type": "image/jpeg"}
Call = Callable[..., tuple[int, dict[str, str], bytes]]


def test_a_picture_comes_back_as_detections(model: Model, ask: Call, png: bytes) -> None:
    status, headers, body = ask("POST", "/invocations", png, JPEG)
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body) == wire.to_json(model.predict([decode_image(png, "sent")])[0], model.class_names)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        pytest.param(None, wire.JSON, id="none"),
        pytest.param("*/*", wire.JSON, id="any"),
        pytest.param("application/*", wire.JSON, id="any application"),
        pytest.param("Application/JSON; charset=utf-8", wire.JSON, id="json"),
        pytest.param("application/x-npz", wire.NPZ, id="npz"),
        pytest.param("text/html, application/x-npz;q=0.9, */*;q=0.1", wire.NPZ, id="npz preferred"),
        pytest.param("application/json;q=0, */*", wire.NPZ, id="anything but json"),
        pytest.param("application/json;q=odd", wire.JSON, id="malformed weight"),
    ],
)
def test_accept(accept: str | None, kind: str, model: Model, ask: Call, png: bytes) -> None:
    headers = {**JPEG, **({"Accept": accept} if accept else {})}
    status, answer_headers, body = ask("POST", "/invocations", png, headers)
    assert (status, answer_headers["content-type"]) == (200, kind)
    decode = wire.from_json_text if kind == wire.JSON else wire.from_npz
    detections, names = decode(body, "answer")
    np.testing.assert_array_equal(detections.boxes, model.predict([decode_image(png, "sent")])[0].boxes)
    assert names == ["wasp", "bee"]


def test_thresholds_of_the_model_count_where_none_is_asked_for(model: Model, png: bytes, call: Call) -> None:
    """0.9 of class 1 and 0.39 of class 0 are found; each class has its own."""
    for thresholds, query, expected in (
        ((0.0, 0.0), "", [1, 0]),
        ((0.5, 0.0), "", [1]),
        ((0.0, 0.95), "", [0]),
        ((0.5, 0.95), "", []),
        ((0.5, 0.95), "?threshold=0", [1, 0]),
        ((0.0, 0.95), "?threshold=0.5", [1]),
    ):
        with running(dataclasses.replace(model, thresholds=thresholds)) as url:
            status, _, body = call(url, "POST", f"/invocations{query}", png, JPEG)
            assert (status, json.loads(body)["pred_classes"]) == (200, expected)
            assert json.loads(call(url, "GET", "/model")[2])["thresholds"] == list(thresholds)


@pytest.mark.parametrize(
    ("path", "headers", "count"),
    [
        pytest.param("/invocations", {}, 2, id="all by default"),
        pytest.param("/invocations?threshold=0.5", {}, 1, id="query"),
        pytest.param("/invocations?threshold=1", {}, 0, id="one"),
        pytest.param("/invocations", {"X-Amzn-SageMaker-Custom-Attributes": "threshold=0.5"}, 1, id="sagemaker"),
        pytest.param("/invocations", {"X-Amzn-SageMaker-Custom-Attributes": "trace=a=b; threshold = 1"}, 0, id="with others"),
        pytest.param("/invocations", {"X-Amzn-SageMaker-Custom-Attributes": "c000b4f9-df62"}, 2, id="not for us"),
        pytest.param("/invocations?threshold=0.5", {"X-Amzn-SageMaker-Custom-Attributes": "threshold=1"}, 1, id="query wins"),
    ],
)
def test_threshold(path: str, headers: dict[str, str], count: int, ask: Call, png: bytes) -> None:
    status, _, body = ask("POST", path, png, {**JPEG, **headers})
    assert (status, len(json.loads(body)["scores"])) == (200, count)


@pytest.mark.parametrize(
    ("accept", "decode"), [(wire.JSON, wire.from_json_text), (wire.NPZ, wire.from_npz)], ids=["json", "npz"]
)
def test_masks_keep_to_their_detections(accept: str, decode: Callable[..., object], masked: Model, call: Call, png) -> None:
    first, second = masked.predict([decode_image(png, "sent")])[0].masks
    with running(masked) as url:
        for path, expected in (("", (first, second)), ("?threshold=0.5", (first,)), ("?threshold=1", ())):
            _, _, body = call(url, "POST", f"/invocations{path}", png, {**JPEG, "Accept": accept})
            assert decode(body, "answer")[0].masks == expected


def test_npy_in_either_colour_order(ask: Call) -> None:
    bodies = {}
    pixels = np.zeros((4, 5, 3), np.uint8)
    pixels[:, :, 2] = 255  # red, as BGR
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (4, 5, 3), }".ljust(117) + "\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + pixels.tobytes()
    for order in ("", "?npy_format=BGR", "?npy_format=RGB"):
        _, _, bodies[order] = ask("POST", f"/invocations{order}", npy, {"Content-Type": wire.NPY})
    assert {order: round(json.loads(body)["scores"][1], 3) for order, body in bodies.items()} == {
        "": 0.5,
        "?npy_format=BGR": 0.5,
        "?npy_format=RGB": 0.0,
    }


@pytest.fixture(scope="module")
def small(model: Model, call: Call) -> Iterator[Call]:
    """Calls to a server that takes 5,000 bytes."""
    with running(model, settings=Settings(limits=Limits(max_bytes=5000))) as url:
        yield partial(call, url)


@pytest.mark.parametrize(
    ("path", "body", "headers", "expected"),
    [
        pytest.param("/invocations", b"", JPEG, (400, "body", "is empty"), id="empty"),
        pytest.param("/invocations", b"hello", JPEG, (400, "body", "is no picture"), id="text"),
        pytest.param("/invocations", b"x" * 5001, JPEG, (413, "body", "more than 5,000 bytes"), id="large"),
        pytest.param(
            "/invocations", iter([b"x" * 3000] * 2), JPEG, (413, "body", "more than 5,000 bytes"), id="large, chunked"
        ),
        pytest.param(
            "/invocations", b"x", {"Content-Type": "application/pdf"}, (415, "Content-Type", "'application/pdf'"), id="pdf"
        ),
        pytest.param("/invocations", b"x", {}, (415, "Content-Type", "'none'"), id="no type"),
        pytest.param("/invocations", b"x", {**JPEG, "Accept": "text/html"}, (406, "Accept", "'text/html'"), id="accept"),
        pytest.param("/invocations?threshold=2", b"x", JPEG, (400, "threshold", "is '2'"), id="threshold 2"),
        pytest.param("/invocations?threshold=nan", b"x", JPEG, (400, "threshold", "is 'nan'"), id="threshold nan"),
        pytest.param("/invocations?threshold=", b"x", JPEG, (400, "threshold", "is ''"), id="threshold empty"),
        pytest.param("/invocations?treshold=1", b"x", JPEG, (400, "query parameter 'treshold'", "is unknown"), id="misspelt"),
        pytest.param(
            "/invocations?threshold=1&threshold=0", b"x", JPEG, (400, "query parameter 'threshold'", "2 times"), id="twice"
        ),
        pytest.param("/invocations?npy_format=rgb", b"x", JPEG, (400, "npy_format", "is 'rgb'"), id="npy_format"),
    ],
)
def test_refused(path: str, body: object, headers: dict[str, str], expected: tuple[int, str, str], small: Call) -> None:
    status, answer_headers, answer = small("POST", path, body, headers)
    where, what = expected[1:]
    assert status == expected[0]
    assert error_of(answer)["where"] == where
    assert what in error_of(answer)["what"]
    assert answer_headers["x-request-id"]
    assert small("GET", "/ping")[0] == 200


def test_a_misspelt_parameter_is_suggested(ask: Call) -> None:
    assert error_of(ask("POST", "/invocations?treshold=1", b"x", JPEG)[2])["fix"] == "Did you mean 'threshold'?"


def test_a_declared_length_is_refused_before_the_body_comes(url: str) -> None:
    with raw(url) as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Type: image/jpeg\r\nContent-Length: 99999999999\r\n\r\n"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_a_slow_body_is_given_up(model: Model, call: Call) -> None:
    with running(model, settings=Settings(body_timeout_s=0.05)) as url, raw(url) as connection:
        connection.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Type: image/jpeg\r\nContent-Length: 100\r\n\r\nonly this"
        )
        answer = received(connection)  # ends: the server closes
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.05 s" in answer
        assert call(url, "GET", "/ping")[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        pytest.param("GET", "/nowhere", 404, None, id="nowhere"),
        pytest.param("GET", "/ping/", 404, None, id="no redirects"),
        pytest.param("GET", "/../../etc/passwd", 404, None, id="traversal"),
        pytest.param("GET", "/invocations", 405, {"POST"}, id="invocations by GET"),
        pytest.param("POST", "/ping", 405, {"GET", "HEAD"}, id="ping by POST"),
        pytest.param("BREW", "/", 405, {"GET", "HEAD"}, id="no such method"),
    ],
)
def test_not_here(method: str, path: str, status: int, allow: set[str] | None, ask: Call) -> None:
    got, headers, body = ask(method, path)
    assert got == status
    assert error_of(body)["where"] == path
    assert {name.strip() for name in headers["allow"].split(",")} == allow if allow else "allow" not in headers


def test_the_small_answers(ask: Call) -> None:
    assert json.loads(ask("GET", "/ping")[2]) == {"status": "ready"}
    assert json.loads(ask("GET", "/execution-parameters")[2]) == {
        "MaxConcurrentTransforms": 3,
        "BatchStrategy": "SINGLE_RECORD",
        "MaxPayloadInMB": 32,
    }
    assert json.loads(ask("GET", "/model")[2]) == {
        "class_names": ["bee", "wasp"],
        "origin": "fake",
        "facts": {"trained": {"steps": 20}},
    }
    status, headers, body = ask("GET", "/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["content-security-policy"]
    assert b"<html" in body


@pytest.mark.parametrize(("megabytes", "together"), [(1, 64), (6, 16), (32, 3), (500, 1)])
def test_execution_parameters_stay_within_sagemakers_product(megabytes: int, together: int) -> None:
    told = Settings(limits=Limits(max_bytes=megabytes * 2**20)).execution_parameters()
    assert told["MaxConcurrentTransforms"] == together
    assert told["MaxConcurrentTransforms"] * told["MaxPayloadInMB"] <= 100


def test_while_the_model_loads_everything_says_503(model: Model, make_picture, as_bytes, call: Call) -> None:
    loading: Future[Model] = Future()
    with running(loading) as url:
        for method, path in (("GET", "/ping"), ("GET", "/model"), ("POST", "/invocations")):
            status, headers, body = call(url, method, path, None, JPEG)
            assert (status, headers["retry-after"]) == (503, "1")
            assert error_of(body)["what"] == "is still loading"
        assert call(url, "GET", "/")[0] == 200
        loading.set_result(model)
        assert call(url, "GET", "/ping")[0] == 200
        assert call(url, "POST", "/invocations", as_bytes(make_picture()), JPEG)[0] == 200


def test_a_model_that_cannot_be_loaded_is_never_well(call: Call) -> None:
    failed: Future[Model] = Future()
    failed.set_exception(ValueError("secret path"))
    with running(failed) as url:
        status, _, body = call(url, "GET", "/ping")
    assert status == 500
    assert b"secret" not in body


def test_a_defect_is_500_without_its_cause_and_logged_with_its_id(
    model: Model, make_picture, as_bytes, call: Call, caplog
) -> None:
    def fail_on_black(images: Sequence[Image]) -> list[Detections]:
        if any(image[0, 0, 0] == 0 for image in images):
            raise ValueError("a secret of the model")
        return model.predict(images)

    with running(dataclasses.replace(model, predict=fail_on_black)) as url:
        status, headers, body = call(url, "POST", "/invocations", as_bytes(make_picture(0)), JPEG)
        assert status == 500
        assert b"secret" not in body
        assert b"Traceback" not in body
        assert headers["x-request-id"] in error_of(body)["fix"]
        assert any(headers["x-request-id"] in record.getMessage() and record.exc_info for record in caplog.records)
        assert call(url, "POST", "/invocations", as_bytes(make_picture(9)), JPEG)[0] == 200
        assert call(url, "GET", "/ping")[0] == 200  # one bad picture is not a broken model


def test_ping_tells_when_the_model_is_broken_and_when_it_has_recovered(
    model: Model, make_picture, as_bytes, call: Call
) -> None:
    broken = threading.Event()

    def predict(images: Sequence[Image]) -> list[Detections]:
        if broken.is_set():
            raise RuntimeError("CUDA error")
        return model.predict(images)

    with running(dataclasses.replace(model, predict=predict)) as url:
        assert call(url, "GET", "/ping")[0] == 200
        broken.set()
        assert call(url, "POST", "/invocations", as_bytes(make_picture()), JPEG)[0] == 500
        eventually(lambda: call(url, "GET", "/ping")[0] == 500)  # the self-test runs beside
        assert b"sightline_ready 0" in call(url, "GET", "/metrics")[2]
        broken.clear()
        eventually(lambda: call(url, "GET", "/ping")[0] == 200)


def test_a_full_queue_refuses_at_once(model: Model, make_picture, as_bytes, call: Call) -> None:
    gate = Gate(model)
    with running(gate.model, settings=Settings(max_waiting=1)) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, url, "POST", "/invocations", as_bytes(make_picture()), JPEG)
        gate.entered.acquire()
        status, headers, body = call(url, "POST", "/invocations", as_bytes(make_picture()), JPEG)
        assert (status, headers["retry-after"]) == (503, "1")
        assert error_of(body)["where"] == "queue"
        assert b"sightline_waiting 1" in call(url, "GET", "/metrics")[2]
        assert call(url, "GET", "/ping")[0] == 200  # busy is not ill
        gate.open.set()
        assert first.result()[0] == 200


def test_a_client_that_has_gone_costs_no_model_time(model: Model, make_picture, as_bytes, call: Call) -> None:
    gate = Gate(model)
    with running(gate.model, settings=Settings(max_batch=1)) as url, ThreadPoolExecutor(1) as pool:
        first = pool.submit(call, url, "POST", "/invocations", as_bytes(make_picture(1)), JPEG)
        gate.entered.acquire()
        body = as_bytes(make_picture(2))
        with raw(url) as leaver:
            leaver.sendall(
                b"POST /invocations HTTP/1.1\r\nHost: h\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(body)
            )
            leaver.sendall(body)
            eventually(lambda: b"sightline_waiting 2" in call(url, "GET", "/metrics")[2])
        eventually(lambda: b"sightline_waiting 1" in call(url, "GET", "/metrics")[2])
        gate.open.set()
        assert first.result()[0] == 200
        assert call(url, "POST", "/invocations", as_bytes(make_picture(3)), JPEG)[0] == 200
    assert gate.pictures == [1, 3]


def test_many_at_once_each_get_their_own_answer(model: Model, make_picture, as_bytes, call: Call) -> None:
    with running(model) as url, ThreadPoolExecutor(16) as pool:

        def ask(number: int) -> tuple[int, list[int], float]:
            picture = make_picture(number, height=20 + number % 3)
            status, _, body = call(url, "POST", "/invocations", as_bytes(picture), JPEG)
            answer = json.loads(body)
            return status, answer["image_size"], round(answer["scores"][1] * 510)

        assert list(pool.map(ask, range(64))) == [(200, [20 + number % 3, 40], number) for number in range(64)]


def test_metrics(model: Model, make_picture, as_bytes, call: Call) -> None:
    with running(model) as url:
        call(url, "POST", "/invocations", as_bytes(make_picture()), JPEG)
        call(url, "POST", "/invocations", b"hello", JPEG)
        call(url, "GET", "/wp-login.php")
        status, headers, body = call(url, "GET", "/metrics")
    lines = body.decode().splitlines()
    assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    for line in (
        'sightline_requests_total{path="/invocations",status="200"} 1',
        'sightline_requests_total{path="/invocations",status="400"} 1',
        'sightline_requests_total{path="other",status="404"} 1',
        'sightline_seconds_bucket{stage="all",le="+Inf"} 1',
        'sightline_seconds_count{stage="decode"} 1',
        *(f'sightline_seconds_count{{stage="{stage}"}} 1' for stage in ("all", "queue", "model", "encode")),
        'sightline_seconds_count{stage="read"} 2',
        'sightline_batch_size_bucket{le="1"} 1',
        "sightline_batch_size_count 1",
        "sightline_queue 0",
        "sightline_models 1",
        "sightline_waiting 0",
        "sightline_ready 1",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("given", "kept"),
    [("trace-1:a.b", True), ("x" * 65, False), ("a b", False), ('{"a"}', False)],
    ids=["good", "long", "space", "odd"],
)
def test_request_ids(given: str, kept: bool, ask: Call, caplog) -> None:
    caplog.set_level(logging.DEBUG, "sightline")
    headers = ask("GET", "/ping", None, {"X-Request-Id": given})[1]
    assert ask("GET", "/ping")[1]["x-request-id"] != ask("GET", "/ping")[1]["x-request-id"]
    assert (headers["x-request-id"] == given) is kept
    assert any(headers["x-request-id"] in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("junk", [b"\x00\xff\xfe garbage\r\n\r\n", b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: abc\r\n\r\n"])
def test_what_is_not_http_ends_its_own_connection_only(junk: bytes, url: str, ask: Call) -> None:
    with raw(url) as connection:
        connection.sendall(junk)
        assert received(connection).startswith(b"HTTP/1.1 400 ")
    assert ask("GET", "/ping")[0] == 200
