"""A model in three lines, and pictures to send it: the whole HTTP surface is tested without torch."""

import dataclasses
import http.client
import io
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image as Pillow

from sightline.geometry.masks import encode as encode_mask
from sightline.records import Detections, Image, ImageSize, Model
from sightline.serving.server import running


def predict(images: Sequence[Image]) -> list[Detections]:
    """Two detections per picture; their numbers depend on the size and on the first pixel, so answers cannot be mixed up."""
    return [
        Detections(
            size=ImageSize(*image.shape[:2]),
            boxes=np.float32([[0.1, 0.2, image.shape[1] / 3, image.shape[0] / 3], [1, 1, 2, 2]]),
            scores=np.float32([0.9, image[0, 0, 0] / 510]),
            labels=np.int64([1, 0]),
        )
        for image in images
    ]


def predict_masks(images: Sequence[Image]) -> list[Detections]:
    """The same with masks: an L in the first box, the second box's pixels."""
    found = []
    for boxes in predict(images):
        ell = np.zeros(boxes.size, dtype=bool)
        ell[: boxes.size.height // 3, : boxes.size.width // 8] = True
        ell[boxes.size.height // 5 : boxes.size.height // 3, : boxes.size.width // 3] = True
        dot = np.zeros(boxes.size, dtype=bool)
        dot[1:2, 1:2] = True
        found.append(dataclasses.replace(boxes, masks=(encode_mask(ell), encode_mask(dot))))
    return found


def picture(shade: int = 200, height: int = 30, width: int = 40) -> Image:
    return np.full((height, width, 3), shade, np.uint8)


def encode(image: Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, kind)
    return file.getvalue()


def request(
    url: str, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    """(status, headers with names in lower case, body) of one request on its own connection."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
    finally:
        connection.close()


@pytest.fixture(scope="session")
def model() -> Model:
    return Model(predict, ("bee", "wasp"), "fake", {"trained": {"steps": 20}})


@pytest.fixture(scope="session")
def masked(model: Model) -> Model:
    """The same model, finding masks too."""
    return dataclasses.replace(model, predict=predict_masks)


@pytest.fixture
def make_picture() -> Callable[..., Image]:
    return picture


@pytest.fixture
def as_bytes() -> Callable[..., bytes]:
    return encode


@pytest.fixture(scope="session")
def call() -> Callable[..., tuple[int, dict[str, str], bytes]]:
    return request


@pytest.fixture(scope="session")
def url(model: Model) -> Iterator[str]:
    """A server with its default settings, for every test that changes nothing about it."""
    with running(model) as address:
        yield address


@pytest.fixture
def ask(url: str) -> Callable[..., tuple[int, dict[str, str], bytes]]:
    """`call` to that server."""
    return partial(request, url)


@pytest.fixture
def png() -> bytes:
    return encode(picture())
