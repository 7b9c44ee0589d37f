"""S3 on loopback as far as a thousand pictures need it: PUT, GET, HEAD and lists of one bucket, quick, counted, and cut off."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

PAGE = 1000
"""Keys of one list, as S3 has it."""

MET_S = 10.0
"""For which the first request waits for another one to be under way beside it."""


@dataclass
class Shelf:
    """objects: key -> content; asked: (method, key) of every request that was answered.

    goes_on_for: requests for objects that are still answered, before the connection breaks; met: two were under way at once
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    goes_on_for: float = float("inf")
    met: threading.Event = field(default_factory=threading.Event)
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def keys(self, method: str) -> list[str]:
        return [key for asked, key in self.asked if asked == method and key]

    def admits(self, method: str, key: str) -> bool:
        """Whether a request is answered. The first one waits until another has come, so that one after the other is seen."""
        with self.lock:
            if key and self.goes_on_for <= 0:
                return False
            self.goes_on_for -= bool(key)
            self.asked.append((method, key))
            self.under_way += 1
            if self.under_way > 1:
                self.met.set()
        if key and method != "HEAD":
            self.met.wait(MET_S)
        return True

    def page(self, query: dict[str, list[str]]) -> bytes:
        prefix, after = query.get("prefix", [""])[0], query.get("continuation-token", [""])[0]
        keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
        shown, more = keys[: int(query.get("max-keys", [PAGE])[0])], ""
        if len(shown) < len(keys):
            more = f"<NextContinuationToken>{shown[-1]}</NextContinuationToken>"
        entries = "".join(
            f"<Contents><Key>{quote(key)}</Key><Size>{len(self.objects[key])}</Size><ETag>{etag(self.objects[key])}</ETag></Contents>"
            for key in shown
        )
        listed = f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>{more}{entries}"
        return f"<ListBucketResult><EncodingType>url</EncodingType>{listed}</ListBucketResult>".encode()


def etag(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


@contextmanager
def open_shelf() -> Iterator[tuple[Shelf, str]]:
    """(an empty shelf, the address of its server)."""
    shelf = Shelf()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_one(self) -> None:
            parts = urlsplit(self.path)
            key = unquote(parts.path).lstrip("/").partition("/")[2]
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if not shelf.admits(self.command, key):
                self.close_connection = True
                return
            try:
                self.reply(key, body, parts.query)
            finally:
                with shelf.lock:
                    shelf.under_way -= 1

        def reply(self, key: str, body: bytes, query: str) -> None:
            if self.command == "PUT":
                shelf.objects[key] = body
            content = shelf.page(parse_qs(query)) if not key else shelf.objects.get(key)
            self.send_response(200 if content is not None else 404)
            sent = content if self.command == "GET" and content is not None else b""
            known = content if content is not None else b""
            self.send_header("Content-Length", str(0 if self.command == "PUT" else len(known)))
            if key:
                self.send_header("ETag", etag(known))
                self.send_header("Last-Modified", "Sat, 21 Nov 2026 10:00:00 GMT")
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_PUT = do_HEAD = handle_one  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield shelf, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
