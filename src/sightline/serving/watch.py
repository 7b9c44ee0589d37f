"""Around every request: its id, its log line, its count, and errors as JSON `{"error": {"where", "what", "fix"}}`.

What breaks inside becomes a 500 that tells nothing but the request's id; the log has the rest under it.
"""

import logging
import re
import time
import uuid
from collections.abc import Callable

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sightline.errors import Problem, RequestError
from sightline.serving.metrics import Metrics

LOG = logging.getLogger(__name__)

QUIET = ("/ping", "/metrics")  # asked every few seconds by machines; logged at debug level only
RETRY_AFTER_S = 1
CLIENT_GONE = 499  # nginx's number; only ever seen in the log and the metrics
TARGET_MODEL = "x-amzn-sagemaker-target-model"  # which model a multi-model endpoint's client named: for the log only


def error_response(problem: Problem, status: int) -> Response:
    """The one shape of an error. 503 says when to try again; after 408 the rest of the body is not worth waiting for."""
    headers = {503: {"Retry-After": str(RETRY_AFTER_S)}, 408: {"Connection": "close"}}.get(status)
    return JSONResponse({"error": problem.as_dict()}, status, headers)


def refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)  # registered for nothing else
    return error_response(error.problems[0], error.status)


def no_such_route(request: Request, error: Exception) -> Response:
    """404 and 405, which the router raises."""
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 404:
        response = error_response(Problem(path, "is not here", "GET /openapi.json lists what is."), 404)
    else:
        allowed = (error.headers or {}).get("Allow", "")
        response = error_response(Problem(path, f"does not take {request.method[:40]}", f"Use {allowed}."), error.status_code)
    response.headers.update(error.headers or {})
    return response


class Watch:
    """Around the whole app. template: a request's path -> the one it is counted under."""

    def __init__(self, app: ASGIApp, metrics: Metrics, template: Callable[[str], str]) -> None:
        self.app, self.metrics, self.template = app, metrics, template

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = request_id_of(Request(scope))
        status, began = 0, time.perf_counter()

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except ClientDisconnect:
            status = CLIENT_GONE
        except Exception:
            LOG.exception("request %s failed", request_id, extra={"event": {"request_id": request_id}})
            if not status:
                await broken_response(request_id)(scope, receive, answer)
        finally:
            status = status or CLIENT_GONE
            template = self.template(scope["path"])
            self.metrics.requests[template, status] += 1
            tell(Request(scope), template, status, (time.perf_counter() - began) * 1000, request_id)


def tell(request: Request, template: str, status: int, took_ms: float, request_id: str) -> None:
    """The request's line in the log; as JSON (`--log-format json`) each fact is a field."""
    method, path = request.method[:40], request.scope["path"][:200]
    event = {"method": method, "path": path, "status": status, "ms": round(took_ms, 1), "request_id": request_id}
    if target := request.headers.get(TARGET_MODEL):
        event["target_model"] = target[:200]
    level = logging.DEBUG if template in QUIET else logging.INFO
    LOG.log(level, "%s %r %d %.0f ms %s", method, path, status, took_ms, request_id, extra={"event": event})


def request_id_of(request: Request) -> str:
    """The client's `x-request-id` when it is harmless, so that logs of several systems can be joined; else a new one."""
    given = request.headers.get("x-request-id", "")
    return given if re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", given) else uuid.uuid4().hex


def broken_response(request_id: str) -> Response:
    """What a client learns of a defect: nothing but the id under which the log tells all."""
    return error_response(Problem("model", "could not answer", f"The server's log tells why, under request {request_id}."), 500)
