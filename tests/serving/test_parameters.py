"""What a request may ask for beside its picture: which detections come back, and in which form."""

import json
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from http_raw import error_of
from starlette.datastructures import Headers
from starlette.requests import Request

from sightline import wire
from sightline.geometry.masks import encode as encode_mask
from sightline.records import Detections, ImageSize, Model
from sightline.serving.asked import ATTRIBUTES, PARAMETERS, Asked
from sightline.serving.server import running
from sightline.serving.settings import Settings

PNG = {"Content-Type": "image/png"}
NAMES = ("bee", "wasp", "honey bee", "a,b|c", "7", "Käfer")
Call = Callable[..., tuple[int, dict[str, str], bytes]]


def five(images: object) -> list[Detections]:
    """One detection of each of five classes, the first the best, each with a mask."""
    mask = encode_mask(np.ones((30, 40), bool))
    scores = np.float32([0.9, 0.7, 0.5, 0.3, 0.1])
    boxes = np.tile(np.float32([0, 0, 9, 9]), (5, 1))
    return [Detections(ImageSize(30, 40), boxes, scores, np.arange(5), (mask,) * 5) for _ in images]


@pytest.fixture(scope="module")
def ask(call: Call) -> Iterator[Call]:
    with running(Model(five, NAMES, "fake")) as url:
        yield partial(call, url)


@pytest.mark.parametrize(
    ("query", "labels"),
    [
        pytest.param("", [0, 1, 2, 3, 4], id="all"),
        pytest.param("max_detections=2", [0, 1], id="the best two"),
        pytest.param("max_detections=0000003", [0, 1, 2], id="zeros before"),
        pytest.param("max_detections=" + "9" * 4000, [0, 1, 2, 3, 4], id="more than there are"),
        pytest.param("classes=wasp", [1], id="a name"),
        pytest.param("classes=wasp,bee", [0, 1], id="two names"),
        pytest.param("classes=wasp%7Choney%20bee", [1, 2], id="bars and spaces"),
        pytest.param("classes=a%2Cb%7Cc", [3], id="a name that has both"),
        pytest.param("classes=0,2", [0, 2], id="indices"),
        pytest.param("classes=7", [4], id="a name wins over an index"),
        pytest.param("classes=K%C3%A4fer", [], id="a class that was not found"),
        pytest.param("classes=1,2,3&threshold=0.4&max_detections=1", [1], id="together"),
        pytest.param("threshold=0.4", [0, 1, 2], id="threshold"),
    ],
)
def test_which_detections_come_back(query: str, labels: list[int], ask: Call, png: bytes) -> None:
    status, _, body = ask("POST", f"/invocations?{query}", png, PNG)
    answer = json.loads(body)
    assert (status, answer["pred_classes"]) == (200, labels)
    assert answer["class_names"] == [NAMES[label] for label in labels]
    assert len(answer["pred_masks_rle"]) == len(labels)


@pytest.mark.parametrize(
    ("header", "labels"),
    [
        pytest.param("classes=wasp|bee; max_detections=1", [0], id="bars"),
        pytest.param("classes=a%2Cb%7Cc", [3], id="percent-encoded"),
        pytest.param("classes = 1", [1], id="spaces"),
    ],
)
def test_the_same_in_sagemakers_header(header: str, labels: list[int], ask: Call, png: bytes) -> None:
    status, _, body = ask("POST", "/invocations", png, {**PNG, ATTRIBUTES: header})
    assert (status, json.loads(body)["pred_classes"]) == (200, labels)


@pytest.mark.parametrize("accept", [wire.JSON, wire.NPZ])
def test_masks_are_left_out_when_nobody_wants_them(accept: str, ask: Call, png: bytes) -> None:
    decode = wire.from_json_text if accept == wire.JSON else wire.from_npz
    for query, expected in (("", 5), ("masks=on", 5), ("masks=off", None)):
        masks = decode(ask("POST", f"/invocations?{query}", png, {**PNG, "Accept": accept})[2], "answer")[0].masks
        assert (None if masks is None else len(masks)) == expected


@pytest.mark.parametrize(
    ("query", "where", "what", "fix"),
    [
        pytest.param("max_detections=0", "max_detections", "is '0'", "Give a whole number from 1.", id="none"),
        pytest.param("max_detections=-1", "max_detections", "is '-1'", "Give a whole number", id="negative"),
        pytest.param("max_detections=1.5", "max_detections", "is '1.5'", "Give a whole number", id="half"),
        pytest.param("max_detections=%D9%A3", "max_detections", "is '٣'", "Give a whole number", id="other digits"),
        pytest.param("max_detections=", "max_detections", "is ''", "Give a whole number", id="empty number"),
        pytest.param("classes=bees", "classes", "has 'bees'", "Did you mean 'bee'?", id="near"),
        pytest.param("classes=bee,,wasp", "classes", "has ''", "Known: bee, wasp", id="a hole"),
        pytest.param("classes=6", "classes", "has '6'", "Known: bee", id="no such index"),
        pytest.param("classes=-1", "classes", "has '-1'", "Known: bee", id="not from the end"),
        pytest.param("masks=yes", "masks", "is 'yes'", "Give on (the default) or off.", id="yes"),
    ],
)
def test_refused(query: str, where: str, what: str, fix: str, ask: Call, png: bytes) -> None:
    status, _, body = ask("POST", f"/invocations?{query}", png, PNG)
    error = error_of(body)
    assert (status, error["where"]) == (400, where)
    assert what in error["what"]
    assert fix in error["fix"]


def test_a_thousand_classes_are_not_all_listed() -> None:
    names = tuple(f"class {number}" for number in range(1000))
    scope = {"type": "http", "query_string": b"classes=%F0%9F%90%9D", "headers": Headers({}).raw}
    with pytest.raises(Exception, match="GET /model lists all 1000") as caught:
        Asked.read(Request(scope), names)
    assert len(str(caught.value)) < 500


def test_two_classes_of_one_name_are_both_meant() -> None:
    scope = {"type": "http", "query_string": b"classes=bee", "headers": []}
    assert Asked.read(Request(scope), ("bee", "wasp", "bee")).labels == {0, 2}


def test_every_parameter_is_in_the_documentation(ask: Call) -> None:
    told = json.loads(ask("GET", "/openapi.json")[2])["paths"]["/invocations"]["post"]["parameters"]
    assert [parameter["name"] for parameter in told] == [*PARAMETERS, ATTRIBUTES]


def test_the_answers_type_can_be_chosen_for_clients_that_do_not(model: Model, call: Call, png: bytes) -> None:
    with running(model, settings=Settings.for_server(max_payload_mb=1, answer_type="application/x-npz")) as url:
        for accept, kind in ((None, wire.NPZ), ("*/*", wire.NPZ), (wire.JSON, wire.JSON)):
            headers = {**PNG, **({"Accept": accept} if accept else {})}
            assert call(url, "POST", "/invocations", png, headers)[1]["content-type"] == kind
        assert call(url, "POST", "/invocations", b"x" * (2**20 + 1), PNG)[0] == 413
