"""One request to `/invocations`, read and checked: its parameters, its Accept header, its body; refused with `RequestError`."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from starlette.datastructures import QueryParams
from starlette.requests import Request

from sightline.errors import RequestError, nearest
from sightline.wire import ANSWER_TYPES, media_type

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
PARAMETERS = ("threshold", "npy_format")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the client wants.

    answer_type:  JSON or NPZ, `sightline.wire`'s content types
    content_type: of the body, as sent
    threshold:    least score of a detection in the answer; 0: all that the model found
    npy_format:   colour order of an `application/x-npy` body
    """

    answer_type: str
    content_type: str
    threshold: float
    npy_format: Literal["BGR", "RGB"]

    @classmethod
    def read(cls, request: Request) -> Self:
        """From the headers and the query, before the body is read.

        Raises:
            RequestError: 406 for Accept, 400 naming the parameter that is unknown, repeated or out of range.
        """
        parameters = {**from_attributes(request.headers.get(ATTRIBUTES, "")), **from_query(request.query_params)}
        return cls(
            answer_type=choose_answer(request.headers.get("accept", "")),
            content_type=request.headers.get("content-type", ""),
            threshold=read_threshold(parameters),
            npy_format=read_npy_format(parameters),
        )


def from_query(query: QueryParams) -> dict[str, str]:
    """The query's parameters; a misspelt or repeated one is refused, it would silently change the answer."""
    for name, count in ((name, len(query.getlist(name))) for name in query):
        if name not in PARAMETERS:
            raise RequestError(f"query parameter {name!r}", "is unknown", nearest(name, PARAMETERS))
        if count > 1:
            raise RequestError(f"query parameter {name!r}", f"is given {count} times", "Give it once.")
    return dict(query)


def from_attributes(header: str) -> dict[str, str]:
    """`threshold=0.5, trace=abc` -> {"threshold": "0.5"}. SageMaker hands anything through here: other entries are ignored."""
    pairs = (entry.partition("=") for entry in header.replace(";", ",").split(","))
    return {name.strip(): value.strip() for name, _, value in pairs if name.strip() in PARAMETERS}


def read_threshold(parameters: Mapping[str, str]) -> float:
    text = parameters.get("threshold", "0")
    try:
        threshold = float(text)
    except ValueError:
        threshold = float("nan")
    if not 0 <= threshold <= 1:  # also refuses nan
        raise RequestError("threshold", f"is {text!r}", "Give a number from 0 to 1.")
    return threshold


def read_npy_format(parameters: Mapping[str, str]) -> Literal["BGR", "RGB"]:
    match parameters.get("npy_format", "BGR"):
        case "BGR":
            return "BGR"
        case "RGB":
            return "RGB"
        case other:
            raise RequestError("npy_format", f"is {other!r}", "Give BGR (the default) or RGB.")


def choose_answer(accept: str) -> str:
    """The content type to answer with: the most wanted of those there are, JSON first. A missing header accepts all."""
    wanted = {kind: quality(entry) for entry in accept.split(",") if (kind := media_type(entry))} or {"*/*": 1.0}
    offers = {
        kind: wanted.get(kind, wanted.get("application/*", wanted.get("*/*", 0.0)))  # the most specific entry counts
        for kind in ANSWER_TYPES
    }
    best = max(offers, key=offers.__getitem__)
    if offers[best] <= 0:
        raise RequestError("Accept", f"{accept!r} is not offered", f"Accept one of {', '.join(ANSWER_TYPES)}.", status=406)
    return best


def quality(entry: str) -> float:
    """`application/json; q=0.5` -> 0.5; 1 when absent or malformed."""
    for parameter in entry.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                return min(max(float(value), 0.0), 1.0)
            except ValueError:
                return 1.0
    return 1.0


async def read_body(request: Request, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body, of which never more than `max_bytes` are held.

    Raises:
        RequestError: 413 as soon as the length is declared or found too large, 408 when it takes too long, 400 when empty.
        ClientDisconnect: the client has gone.
    """
    too_large = RequestError("body", f"has more than {max_bytes:,} bytes", "Send a smaller picture.", status=413)
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large
    chunks: list[bytes] = []
    length = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                length += len(chunk)
                if length > max_bytes:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError as error:
        raise RequestError(
            "body", f"did not arrive within {timeout_s:g} s", "Send it faster, or a smaller picture.", status=408
        ) from error
    if not length:
        raise RequestError("body", "is empty (0 bytes)", "Send a picture.")
    return b"".join(chunks)
