"""A server between the command line and moto: what AWS answers, except where a test says otherwise for an operation."""

import http.client
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

LOST = None
"""In place of an answer: the connection breaks."""

Answer = tuple[int, dict[str, str], bytes]
Change = Callable[[Answer], Answer | None]
"""moto's answer -> the one that is given."""

S3 = {"HEAD": "HeadBucket", "PUT": "CreateBucket", "GET": "ListObjectsV2"}
S3_OBJECT = {"HEAD": "HeadObject", "PUT": "PutObject", "GET": "GetObject", "DELETE": "DeleteObject"}


@dataclass
class Between:
    """wrong: operation -> what becomes of its answers, one after the other, the last of them again and again.

    asked: the operations in their order; address: of this server
    """

    wrong: dict[str, list[Change | Answer | None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    moto: str = ""
    address: str = ""

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer | None:
        operation = operation_of(method, path, headers, body)
        self.asked.append(operation)
        script = self.wrong.get(operation) or self.wrong.get("*")
        step = (script.pop(0) if len(script) > 1 else script[0]) if script else as_it_is
        if not callable(step):
            return step
        connection = http.client.HTTPConnection(urlsplit(self.moto).netloc, timeout=30)
        try:
            connection.request(method, path, body, headers)
            told = connection.getresponse()
            return step((told.status, dict(told.getheaders()), told.read()))
        finally:
            connection.close()


def as_it_is(answer: Answer) -> Answer:
    return answer


def operation_of(method: str, path: str, headers: dict[str, str], body: bytes) -> str:
    """AWS's name for what is asked, as each of its protocols says it."""
    target = next((value for name, value in headers.items() if name.lower() == "x-amz-target"), "")
    action = re.search(rb"(?:^|&)Action=(\w+)", body)
    if target or action:
        return target.rpartition(".")[2] or (action[1].decode() if action else "")
    return (S3_OBJECT if urlsplit(path).path.strip("/").count("/") else S3).get(method, method)


def refused(code: str, message: str = "", status: int = 400) -> Answer:
    """An error as SageMaker and CloudWatch tell it."""
    told = json.dumps({"__type": code, "message": message}).encode()
    return status, {"Content-Type": "application/x-amz-json-1.1", "x-amzn-ErrorType": code}, told


def refused_in_xml(code: str, message: str = "", status: int = 403, **headers: str) -> Answer:
    """An error as STS, IAM and S3 tell it."""
    error = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "text/xml", **named}, f"<ErrorResponse>{error}</ErrorResponse>".encode()


def with_fields(**fields: object) -> Change:
    """The answer with other values, as of a job that goes on."""

    def change(answer: Answer) -> Answer:
        status, headers, body = answer
        if status != 200:
            return answer
        return status, headers, json.dumps({**json.loads(body), **fields}).encode()

    return change


class Quiet(ThreadingHTTPServer):
    """Connections that the other side breaks are no news here."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def between(moto: str) -> Iterator[Between]:
    """One server; what it does is each test's own."""
    state = Between(moto=moto)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer = state.answer(self.command, self.path, dict(self.headers), body)
            if answer is None:
                self.close_connection = True
                return
            status, headers, content = answer
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            sent = b"" if self.command == "HEAD" else content
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        do_GET = do_POST = do_PUT = do_HEAD = do_DELETE = pass_on  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    server = Quiet(("127.0.0.1", 0), Handler)
    state.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
