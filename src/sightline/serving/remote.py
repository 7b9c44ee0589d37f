"""A served model as a local one: `connect("http://127.0.0.1:8080").predict(images)`.

Pictures travel as lossless PNG and numbers come back bit for bit, so the detections are those of the server's own model.
Connections are kept and shared between threads; a batch travels on several at once, and the server batches it again.
"""

import http.client
import io
import json
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from PIL import Image as Pillow

from sightline import wire
from sightline.errors import RequestError, RunError
from sightline.records import Detections, Image, Model

AT_ONCE = 8
"""Pictures of one batch under way at the same time; the server's default batch."""

DROPS = 3
"""Connections that may break on one request. A prediction changes nothing, so it can be sent again."""

LONGEST_PAUSE_S = 5.0


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer, complete."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(slots=True, eq=False)
class Remote:
    """An address and the idle connections to it.

    prefix:    path before `/invocations`
    timeout_s: for one answer, and in all for a server that is loading or busy
    sleep:     how a pause is made; tests pass a fake
    """

    host: str
    port: int | None
    secure: bool
    prefix: str
    timeout_s: float
    sleep: Callable[[float], None] = time.sleep
    idle: "queue.LifoQueue[http.client.HTTPConnection]" = field(default_factory=queue.LifoQueue)

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' * self.secure}://{host}{f':{self.port}' if self.port else ''}{self.prefix}"

    def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """The server's answer. 503 is tried again after its Retry-After, until `timeout_s` has been spent on pauses.

        Raises:
            RequestError: the server refused; its own where, what and fix.
            RunError: it cannot be reached, or does not answer in time.
        """
        paused_s = 0.0
        while True:
            reply = self.exchange(method, path, body, headers or {})
            if reply.status == 503 and paused_s < self.timeout_s:
                pause_s = retry_after(reply)
                self.sleep(pause_s)
                paused_s += pause_s
            elif reply.status != 200:
                raise refusal(self.address + path, reply)
            else:
                return reply

    def exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """One request and its answer, again on a new connection when the old one breaks (a server closes idle ones)."""
        for drops_left in reversed(range(DROPS)):
            connection = self.connection()
            try:
                with suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before all is sent
                    connection.request(method, self.prefix + path, body, dict(headers))
                response = connection.getresponse()
                reply = Reply(response.status, dict(response.getheaders()), response.read())
            except TimeoutError as error:
                connection.close()
                raise RunError(
                    self.address, f"did not answer within {self.timeout_s:g} s", "Give it more time, or see its log."
                ) from error
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                if drops_left and not isinstance(error, ConnectionRefusedError):
                    continue
                raise RunError(
                    self.address, f"cannot be reached ({error!r})", "Check the address, and that it runs."
                ) from error
            if response.will_close:
                connection.close()
            else:
                self.idle.put(connection)
            return reply
        raise AssertionError("the last round returns or raises")

    def connection(self) -> http.client.HTTPConnection:
        """An idle connection, or a new one that connects when used."""
        try:
            return self.idle.get_nowait()
        except queue.Empty:
            kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
            return kind(self.host, self.port, timeout=self.timeout_s)

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """As any `Predict`: one `Detections` per picture, in order."""
        if len(images) < 2:
            return [self.predict_one(image) for image in images]
        with ThreadPoolExecutor(min(AT_ONCE, len(images)), thread_name_prefix="remote") as pool:
            return list(pool.map(self.predict_one, images))

    def predict_one(self, image: Image) -> Detections:
        headers = {"Content-Type": "image/png", "Accept": wire.JSON}
        reply = self.call("POST", "/invocations", as_png(image), headers)
        detections, _ = wire.from_json_text(reply.body, self.address)
        return detections


def connect(url: str, *, timeout_s: float = 60.0) -> Model:
    """The model that is served at `url`; waits for it while it loads.

    >>> model = connect("http://127.0.0.1:8080")
    >>> model.predict([image])[0].boxes
    """
    remote = parse(url, timeout_s)
    reply = remote.call("GET", "/model")
    try:
        told = json.loads(reply.body)
        class_names, facts = tuple(map(str, told["class_names"])), dict(told["facts"])
        proposes = told.get("proposes") is True
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RequestError(remote.address, f"is no Sightline server ({error!r})", "Check the address.") from error
    return Model(remote.predict, class_names, remote.address, facts, proposes)


def parse(url: str, timeout_s: float) -> Remote:
    """The pieces of `http://host:port/prefix`; a trailing `/invocations` is understood too."""
    how = "Give http://HOST:PORT."
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise RequestError(url, f"is no address ({error})", how) from error
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise RequestError(url, "is no address of a server", how)
    prefix = parts.path.rstrip("/").removesuffix("/invocations")
    return Remote(parts.hostname, port, parts.scheme == "https", prefix, timeout_s)


def as_png(image: Image) -> bytes:
    """Lossless, with little time spent on size: level 1 is about five times as fast as Pillow's default."""
    file = io.BytesIO()
    Pillow.fromarray(image).save(file, "PNG", compress_level=1)
    return file.getvalue()


def retry_after(reply: Reply) -> float:
    """Seconds to wait, from a tenth of one up; HTTP's other form, a date, counts as one second."""
    value = {name.lower(): value for name, value in reply.headers.items()}.get("retry-after", "")
    return min(max(float(value), 0.1), LONGEST_PAUSE_S) if value.isascii() and value.isdecimal() else 1.0


def refusal(where: str, reply: Reply) -> RequestError:
    """The server's own error; any other body is quoted."""
    try:
        error = json.loads(reply.body)["error"]
        return RequestError(str(error["where"]), str(error["what"]), str(error["fix"]), reply.status)
    except (ValueError, KeyError, TypeError, RecursionError):
        start = reply.body[:200].decode("utf-8", "replace")
        return RequestError(where, f"answered {reply.status}: {start!r}", "Check the address.", reply.status)
