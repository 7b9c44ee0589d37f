"""A served model as a local one: `connect("http://127.0.0.1:8080").predict(images)`.

Pictures travel without loss and numbers come back bit for bit, so the detections are those of the server's own model.
Connections are kept and shared between threads; a batch travels on several at once, and the server batches it again.
"""

import http.client
import json
import queue
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from sightline import wire
from sightline.errors import RequestError, RunError
from sightline.records import Detections, Image, Model

AT_ONCE = 8
"""Pictures of one batch under way at the same time; the server's default batch."""

DROPS = 3
"""New connections that may break on one request. A prediction changes nothing, so it can be sent again."""

SHORTEST_PAUSE_S, USUAL_PAUSE_S = 0.1, 1.0
"""Before a busy server is asked again: at least, and where it does not say."""


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
    max_bytes: of a picture, as the server told it; None: not known
    sleep:     how a pause is made; tests pass a fake
    path:      of a prediction, with its query
    """

    host: str
    port: int | None
    secure: bool
    prefix: str
    timeout_s: float
    max_bytes: int | None = None
    sleep: Callable[[float], None] = time.sleep
    path: str = "/invocations"
    idle: "queue.LifoQueue[http.client.HTTPConnection]" = field(default_factory=queue.LifoQueue)

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' * self.secure}://{host}{f':{self.port}' if self.port else ''}{self.prefix}"

    def call(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        """The server's answer. 503 is tried again after its Retry-After, as long as the pauses stay within `timeout_s`.

        No other refusal is: the same request would be refused again.

        Raises:
            RequestError: the server refused; its own where, what and fix.
            RunError: it cannot be reached, or does not answer in time.
        """
        paused_s = 0.0
        while True:
            reply = self.exchange(method, path, body, headers or {})
            if reply.status == 200:
                return reply
            paused_s += (pause_s := retry_after(reply))
            if reply.status != 503 or paused_s > self.timeout_s:
                raise refusal(self.address + path, reply)
            self.sleep(pause_s)

    def exchange(self, method: str, path: str, body: bytes, headers: Mapping[str, str]) -> Reply:
        """One request and its answer, again on a new connection when one breaks.

        An idle connection may have been closed by the server meanwhile, and then all of them have: they count as no failure.
        """
        drops_left = DROPS
        while True:
            connection, used = self.connection()
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
                drops_left -= not used
                if used or (drops_left and not isinstance(error, ConnectionRefusedError)):
                    continue
                raise RunError(
                    self.address, f"cannot be reached ({error!r})", "Check the address, and that it runs."
                ) from error
            if response.will_close:
                connection.close()
            else:
                self.idle.put(connection)
            return reply

    def connection(self) -> tuple[http.client.HTTPConnection, bool]:
        """An idle connection, or a new one that connects when used; and whether it was used before."""
        try:
            return self.idle.get_nowait(), True
        except queue.Empty:
            kind = http.client.HTTPSConnection if self.secure else http.client.HTTPConnection
            return kind(self.host, self.port, timeout=self.timeout_s), False

    def predict(self, images: Sequence[Image]) -> list[Detections]:
        """As any `Predict`: one `Detections` per picture, in order."""
        if len(images) < 2:
            return [self.predict_one(image) for image in images]
        with ThreadPoolExecutor(min(AT_ONCE, len(images)), thread_name_prefix="remote") as pool:
            return list(pool.map(self.predict_one, images))

    def predict_one(self, image: Image) -> Detections:
        """What the server finds in one picture.

        Raises:
            RequestError: the server refused it, it is too large to be sent, or the answer is about another picture.
            RunError: the server cannot be reached.
        """
        content_type, body = self.lossless(image)
        reply = self.call("POST", self.path, body, {"Content-Type": content_type, "Accept": wire.JSON})
        detections, _ = wire.from_json_text(reply.body, self.address)
        if detections.size != image.shape[:2]:
            raise RequestError(
                self.address,
                f"answered for a picture of {detections.size.width} x {detections.size.height} px"
                f" when sent one of {image.shape[1]} x {image.shape[0]} px",
                "Check what stands before the server: it may resize pictures or mix up answers.",
            )
        return detections

    def lossless(self, image: Image) -> tuple[str, bytes]:
        """(content type, body) with the very pixels: PNG, or WebP (smaller, slower to write) beyond what the server takes.

        Raises:
            RequestError: neither is small enough. Pixels are never changed to make them fit.
        """
        content_type, body = wire.lossless(image, self.max_bytes)
        if self.max_bytes is None or len(body) <= self.max_bytes:
            return content_type, body
        raise RequestError(
            self.address,
            f"takes {self.max_bytes:,} bytes,"
            f" and a picture of {image.shape[1]} x {image.shape[0]} px has {len(body):,} without loss",
            "Send its JPEG file itself (curl --data-binary, see docs/wire.md), scale it down, or use the model in process.",
            status=413,
        )


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
        chosen = told.get("thresholds")
        thresholds = None if chosen is None else tuple(map(float, chosen))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise RequestError(remote.address, f"is no Sightline server ({error!r})", "Check the address.") from error
    remote.max_bytes = told_limit(remote)
    remote.path += "" if thresholds is None else "?threshold=0"  # `predict` gives all; who serves on keeps to the thresholds
    return Model(remote.predict, class_names, remote.address, facts, proposes, thresholds)


def told_limit(remote: Remote) -> int | None:
    """Bytes that a request may have, as the server tells it; None where it does not."""
    try:
        return int(json.loads(remote.call("GET", "/execution-parameters").body)["MaxPayloadInMB"]) * 2**20
    except (RequestError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


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


def retry_after(reply: Reply) -> float:
    """Seconds to wait, from a tenth of one up; HTTP's other form, a date, counts as one second."""
    value = {name.lower(): value for name, value in reply.headers.items()}.get("retry-after", "")
    return max(float(value), SHORTEST_PAUSE_S) if value.isascii() and value.isdecimal() else USUAL_PAUSE_S


def refusal(where: str, reply: Reply) -> RequestError:
    """The server's own error; any other body is quoted."""
    try:
        error = json.loads(reply.body)["error"]
        return RequestError(str(error["where"]), str(error["what"]), str(error["fix"]), reply.status)
    except (ValueError, KeyError, TypeError, RecursionError):
        start = reply.body[:200].decode("utf-8", "replace")
        return RequestError(where, f"answered {reply.status}: {start!r}", "Check the address.", reply.status)
