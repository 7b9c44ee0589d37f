"""A packed bundle behind AWS's real inference toolkit: its `code/`, found as containers find it, answers as our server does."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders import a_config, a_detector

from sightline import wire
from sightline.bundle.load import load_model
from sightline.bundle.pack import pack_files
from sightline.config.yaml_dialect import dump
from sightline.errors import RequestError
from sightline.records import Image
from sightline.serving import toolkit

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


@dataclass
class Processor:
    """One request, as TorchServe's `RequestProcessor` has it."""

    headers: dict[str, str]

    def get_request_properties(self) -> dict[str, str]:
        return self.headers


@dataclass
class Context:
    """What TorchServe's `Context` has of it: the worker's properties, the request, and what is set of the answer."""

    system_properties: dict[str, object]
    request_processor: list[Processor] = field(default_factory=list)
    status: int = 200
    phrase: str = ""
    content_type: str = ""
    model_name: str = "model"

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        self.status, self.phrase = code, phrase

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.content_type = value


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """/opt/ml/model of a container: a bundle that finds boxes and masks, unpacked."""
    folder = tmp_path_factory.mktemp("container")
    changes = ("MODEL.MASK_ON", "True", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "TEST.DETECTIONS_PER_IMAGE", "5")
    torch.save({"model": a_detector(*changes).state_dict()}, folder / "w.pth")
    (folder / "c.yaml").write_text(dump(a_config(*changes)), encoding="utf-8")
    packed = pack_files(folder / "w.pth", folder / "c.yaml", folder / "model.tar.gz", ["Käfer", "wasp"])
    with tarfile.open(packed.path) as archive:
        archive.extractall(folder / "model", filter="data")
    return folder / "model"


SERVICES = {
    "sagemaker-inference": ("sagemaker_inference.default_handler_service", "DefaultHandlerService"),
    "sagemaker-pytorch-inference": ("sagemaker_pytorch_serving_container.handler_service", "HandlerService"),
}
"""Of each toolkit, what its model server calls. They contain the same files, so an installation has one of the two."""


@pytest.fixture(scope="module", params=SERVICES)
def service(request: pytest.FixtureRequest, unpacked: Path) -> Iterator[Callable[..., tuple[Context, Any]]]:
    """Ask the toolkit's handler service: (headers, body) -> (context with the answer's status and type, body)."""
    module, name = SERVICES[request.param]
    handlers = pytest.importorskip(module, reason=f"needs {request.param}")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(unpacked / "code"))
        patch.setenv("PYTHONPATH", "")  # the service adds to it
        made = getattr(handlers, name)()
        context = Context({"model_dir": str(unpacked), "gpu_id": 0})  # what a worker is told even where there is no GPU
        made.initialize(context)

        def ask(headers: dict[str, str], body: bytes | None) -> tuple[Context, Any]:
            context.request_processor = [Processor(headers)]  # the model server changes the one context of its worker
            context.status, context.phrase, context.content_type = 200, "", ""
            (answer,) = made.handle([{"body": None if body is None else bytearray(body)}], context)
            return context, answer

        yield ask
        sys.modules.pop("inference", None)


@pytest.fixture
def image() -> Image:
    return np.random.default_rng(3).integers(0, 256, (48, 64, 3)).astype(np.uint8)


def as_npy(pixels: Image) -> bytes:
    file = io.BytesIO()
    np.save(file, pixels)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "npy", "npy in RGB"])
def test_the_answer_is_the_models_own(service, unpacked: Path, image: Image, as_bytes, kind: str) -> None:
    headers, sent = {"Content-Type": f"image/{kind.lower()}"}, as_bytes(image, kind) if kind in ("JPEG", "PNG") else b""
    if kind == "npy":
        headers, sent = {"Content-Type": wire.NPY}, as_npy(np.ascontiguousarray(image[:, :, ::-1]))
    if kind == "npy in RGB":
        headers, sent = {"content-type": wire.NPY, ATTRIBUTES: "npy_format=RGB"}, as_npy(image)
    context, answer = service(headers, sent)
    assert (context.status, context.content_type) == (200, wire.JSON)
    model = load_model(unpacked, device="cpu")
    seen = wire.decode_picture(sent, "image/jpeg") if kind == "JPEG" else image
    expected = wire.to_json(model.predict([seen])[0], model.class_names)
    assert json.loads(answer) == expected
    assert expected["scores"] and expected[wire.MASKS]


def test_a_numpy_archive_by_accept(service, image: Image, as_bytes) -> None:
    context, answer = service({"Content-Type": "image/png", "Accept": wire.NPZ}, as_bytes(image))
    assert (context.status, context.content_type) == (200, wire.NPZ)
    _, as_json = service({"Content-Type": "image/png", "Accept": "*/*"}, as_bytes(image))
    archived, names = wire.from_npz(answer, "answer")
    assert wire.to_json(archived, ("Käfer", "wasp")) == json.loads(as_json)
    assert set(names) <= {"Käfer", "wasp"}


def test_parameters_in_the_custom_attributes(service, image: Image, as_bytes) -> None:
    _, everything = service({"Content-Type": "image/png"}, as_bytes(image))
    scores = json.loads(everything)["scores"]
    middle = sorted(scores)[len(scores) // 2]
    headers = {"Content-Type": "image/png", ATTRIBUTES.lower(): f"trace=1;threshold={middle!r}"}  # HTTP/2 writes names so
    _, fewer = service(headers, as_bytes(image))
    assert json.loads(fewer)["scores"] == [score for score in scores if score >= middle]
    assert 0 < len(json.loads(fewer)["scores"]) < len(scores)


@pytest.mark.parametrize(
    ("headers", "body", "status", "where"),
    [
        pytest.param({"Content-Type": "image/png"}, b"no picture", 400, "body", id="no picture"),
        pytest.param({"Content-Type": "image/png"}, b"", 400, "body", id="empty"),
        pytest.param({"Content-Type": "image/png"}, None, 400, "body", id="no body"),
        pytest.param({"Content-Type": "application/json"}, b"{}", 415, "Content-Type", id="text type, given as str"),
        pytest.param({}, b"\xff\xd8", 415, "Content-Type", id="no type"),
        pytest.param({"Content-Type": wire.NPY}, as_npy(np.zeros((2, 40_000, 3), np.uint8)), 413, "body", id="too large"),
        pytest.param(
            {"Content-Type": wire.NPY}, as_npy(np.zeros((2, 2, 3), np.float64)), 400, "body", id="an array of another type"
        ),
        pytest.param({"Content-Type": "image/png", ATTRIBUTES: "threshold=7"}, b"x", 400, "threshold", id="a parameter"),
        pytest.param({"Content-Type": "image/png", "Accept": "text/csv"}, b"x", 406, "Accept", id="another answer"),
    ],
)
def test_errors_are_our_json_and_status(service, headers, body, status: int, where: str) -> None:
    context, answer = service(headers, body)
    assert (context.status, context.content_type) == (status, wire.JSON)
    error = json.loads(answer)["error"]  # all of the answer: no stack trace behind it
    assert error["where"] == where
    assert error["fix"]
    assert "\n" not in context.phrase


def test_the_next_request_is_answered(service, image: Image, as_bytes) -> None:
    service({"Content-Type": "image/png"}, b"no picture")
    context, answer = service({"Content-Type": "image/png"}, as_bytes(image))
    assert context.status == 200
    assert json.loads(answer)["image_size"] == [48, 64]


def test_what_breaks_inside_is_told_to_the_log_only(model, image: Image, as_bytes, caplog) -> None:
    def broken(_: object) -> Any:
        raise ValueError("secret")

    context = Context({}, [Processor({})])
    posted = toolkit.input_fn(as_bytes(image), "image/png", context)
    refusal = toolkit.predict_fn(posted, type(model)(broken, model.class_names, "m"), context)
    body, kind = toolkit.output_fn(refusal, "application/json", context)
    assert (context.status, kind) == (500, wire.JSON)
    assert b"secret" not in body
    assert "secret" in caplog.text


def test_a_toolkit_without_context_gets_the_exception(model) -> None:
    """Its functions have as many arguments as it gives; it says 500 and the message."""
    refusal = toolkit.predict_fn(toolkit.input_fn(b"", "image/png"), model)
    with pytest.raises(RequestError, match="body: is empty") as caught:
        toolkit.output_fn(refusal, "application/json")
    assert caught.value.status == 400


def test_gpus_that_are_not_there_are_not_asked_for() -> None:
    expected = "cuda:1" if torch.cuda.is_available() else "auto"
    assert (toolkit.device_of(1), toolkit.device_of(None), toolkit.device_of(-1)) == (expected, "auto", "auto")


def test_without_torch_a_gpus_number_means_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle with a graph in a model server of images without torch."""
    monkeypatch.setattr(toolkit.importlib.util, "find_spec", lambda name: None)
    assert toolkit.device_of(0) == "auto"


INSTALLED_THERE = """
import sys
for name in ("typer", "rich", "click", "hotcoco", "shapely", "jinja2", "uvicorn", "boto3", "botocore"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1] + "/code")
import inference, sightline
model = inference.model_fn(sys.argv[1])
posted = inference.input_fn(open(sys.argv[2], "rb").read(), "image/png")
body, kind = inference.output_fn(inference.predict_fn(posted, model), "application/json")
print(sightline.__file__)
print(body.decode())
"""


def test_the_bundle_brings_sightline_itself(unpacked: Path, image: Image, as_bytes, tmp_path: Path) -> None:
    """In a new process, the code beside the model is what runs, with nothing else than its requirements.txt installed."""
    (tmp_path / "picture.png").write_bytes(as_bytes(image))
    command = [sys.executable, "-c", INSTALLED_THERE, str(unpacked), str(tmp_path / "picture.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    origin, answer = done.stdout.splitlines()
    assert origin.startswith(str(unpacked / "code" / "sightline-"))
    model = load_model(unpacked, device="cpu")
    assert json.loads(answer) == wire.to_json(model.predict([image])[0], model.class_names)
