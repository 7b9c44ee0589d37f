"""Talking to a server below the level of decent clients: bare sockets, and a model that stops until it is let go."""

import dataclasses
import json
import socket
import threading
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from sightline.records import Detections, Image, Model


def raw(url: str) -> socket.socket:
    """A bare connection, for requests that no decent client sends."""
    return socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), timeout=30)


def received(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    chunks = []
    while chunk := connection.recv(65536):
        chunks.append(chunk)
    return b"".join(chunks)


def posted(body: bytes, *headers: bytes, path: bytes = b"/invocations", length: int | None = None) -> bytes:
    """A POST as it goes over the wire. length: what Content-Length says, when it shall lie."""
    told = len(body) if length is None else length
    lines = [b"POST %b HTTP/1.1" % path, b"Host: h", b"Content-Type: image/png", b"Content-Length: %d" % told, *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def error_of(body: bytes) -> dict[str, str]:
    error = json.loads(body)["error"]
    assert set(error) == {"where", "what", "fix"}
    return error


def eventually(check: Callable[[], bool]) -> None:
    """Ask until it is so; what is asked is a request each time, so this ends."""
    assert any(check() for _ in range(5000))


class Gate:
    """A model that stops inside `predict` until it is opened."""

    def __init__(self, model: Model) -> None:
        self.entered, self.open = threading.Semaphore(0), threading.Event()
        self.pictures: list[int] = []
        self.inner = model
        self.model = dataclasses.replace(model, predict=self.predict)

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        self.pictures += [int(image[0, 0, 0]) for image in images]
        self.entered.release()
        self.open.wait(20)  # a failed test must not leave its server waiting
        return self.inner.predict(images)
