"""Clients that are not ours: AWS's SDK as docs/wire.md shows it, and people's notebooks for Detectron2 on SageMaker."""

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest
from pycocotools import mask as mask_util

from sightline.records import Model
from sightline.serving.server import running

WIRE = Path(__file__).parents[2] / "docs" / "wire.md"


@contextmanager
def runtime_endpoint(call: Callable[..., Any], url: str) -> Iterator[str]:
    """SageMaker's runtime before a container: its addresses, the headers it hands through, its ModelError."""

    class Runtime(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            assert self.path == "/endpoints/bees/invocations"
            through = ("Content-Type", "Accept", "X-Amzn-SageMaker-Custom-Attributes")
            headers = {name: self.headers[name] for name in through if name in self.headers}
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answered, content = call(url, "POST", "/invocations", body, headers)
            if status == 200:
                self.give(200, {"Content-Type": answered["content-type"]}, content)
                return
            told = {
                "ErrorCode": "CLIENT_ERROR_FROM_MODEL",
                "Message": f"Received client error ({status}) from primary",
                "OriginalMessage": content.decode(),
                "OriginalStatusCode": status,
            }
            kind = {"Content-Type": "application/json", "x-amzn-ErrorType": "ModelError"}
            self.give(424, kind, json.dumps(told).encode())

        def give(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Runtime) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def aws(call, url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The environment of somebody whose endpoint is the server under test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with runtime_endpoint(call, url) as endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", endpoint)
        yield


def test_the_sdks_example_as_it_is_written(
    aws: None, model: Model, make_picture, as_bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", WIRE.read_text("utf-8"), re.DOTALL) if "boto3" in block]
    (tmp_path / "picture.jpg").write_bytes(as_bytes(make_picture(100), "JPEG"))
    monkeypatch.chdir(tmp_path)
    left: dict[str, Any] = {}
    exec(example, left)
    expected = model.predict([make_picture(100)])[0].above(0.5)
    assert (left["detections"].size, left["names"]) == ((30, 40), ["wasp"])
    np.testing.assert_array_equal(left["detections"].boxes, expected.boxes)
    np.testing.assert_array_equal(left["detections"].scores, expected.scores)


def test_a_refusal_is_the_sdks_model_error(aws: None, png: bytes) -> None:
    client = boto3.client("sagemaker-runtime")
    with pytest.raises(client.exceptions.ModelError) as caught:
        client.invoke_endpoint(EndpointName="bees", Body=png, ContentType="image/png", CustomAttributes="threshold=7")
    assert caught.value.response["OriginalStatusCode"] == 400
    assert json.loads(caught.value.response["OriginalMessage"])["error"]["where"] == "threshold"


class Instances:
    """The rule of Detectron2's `Instances` that old clients lean on: every field has one entry a detection."""

    def __init__(self, image_size: tuple[int, int], **fields: Any) -> None:
        self.image_size, self.fields = image_size, fields
        assert len({len(value) for value in fields.values()}) == 1


def as_old_notebooks(answer: dict[str, Any]) -> Instances:
    """An answer to `Instances(image_size, **everything else)`; some read float64 and uint8, some go by the keys one by one."""
    for key, value in answer.items():
        if key == "pred_boxes":
            answer[key] = np.array(value, dtype=np.float32).reshape(-1, 4)
        if key == "scores":
            answer[key] = np.array(value)
        if key == "pred_classes":
            answer[key] = np.array(value).astype(np.uint8)
        if key == "pred_masks_rle":
            answer[key] = np.stack([mask_util.decode(entry) for entry in value]).astype(bool)
    height, width = answer.pop("image_size")
    return Instances((height, width), **answer)


def test_notebooks_for_detectron2_decode_the_answer(masked: Model, make_picture, as_bytes, call) -> None:
    image = make_picture(100, height=60, width=80)
    with running(masked) as url:
        _, _, body = call(url, "POST", "/invocations", as_bytes(image), {"Content-Type": "image/png"})
    decoded = as_old_notebooks(json.loads(body))
    (expected,) = masked.predict([image])
    assert decoded.image_size == (60, 80)
    np.testing.assert_array_equal(decoded.fields["pred_boxes"], expected.boxes)
    np.testing.assert_array_equal(decoded.fields["scores"], expected.scores)
    np.testing.assert_array_equal(decoded.fields["pred_classes"], expected.labels)
    masks = decoded.fields["pred_masks_rle"]
    assert masks.shape == (2, 60, 80)
    assert (masks[0].sum(), masks[1].sum(), masks[1][1, 1]) == (328, 1, True)


def test_notebooks_read_an_answer_without_detections(model: Model, call, url: str, png: bytes) -> None:
    _, _, body = call(url, "POST", "/invocations?threshold=1", png, {"Content-Type": "image/png"})
    decoded = as_old_notebooks(json.loads(body))
    assert [len(decoded.fields[key]) for key in ("pred_boxes", "scores", "pred_classes")] == [0, 0, 0]
