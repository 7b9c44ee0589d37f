"""One request to `/invocations`, read and checked: its parameters, its Accept header, its body; refused with `RequestError`."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self
from urllib.parse import unquote

import numpy as np
from starlette.datastructures import QueryParams
from starlette.requests import Request

from sightline.errors import RequestError, nearest
from sightline.records import Detections
from sightline.wire import ANSWER_TYPES, JSON, media_type

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"

PARAMETERS: dict[str, tuple[str, dict[str, object]]] = {
    "threshold": (
        "Least score of a detection in the answer. Default: the model's own, which may be one for each class.",
        {"type": "number", "minimum": 0, "maximum": 1},
    ),
    "max_detections": ("At most so many detections, the best ones.", {"type": "integer", "minimum": 1}),
    "classes": (
        "Detections of these classes only: names, or indices into /model's class_names, with | or , between them.",
        {"type": "string", "minLength": 1},
    ),
    "masks": ("Whether masks are in the answer, where the model finds them.", {"type": "string", "enum": ["on", "off"]}),
    "npy_format": ("Colour order of an application/x-npy body.", {"type": "string", "enum": ["BGR", "RGB"]}),
}
"""Every parameter of a prediction: what it means, and its schema as `/openapi.json` tells it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the client wants.

    answer_type:    JSON or NPZ, `sightline.wire`'s content types
    content_type:   of the body, as sent
    threshold:      least score of a detection in the answer; 0: all that the model found; None: as was chosen for the model
    max_detections: the best so many; None: all
    labels:         only detections of these classes; None: of all
    masks:          whether the answer shall have the masks that the model found
    npy_format:     colour order of an `application/x-npy` body
    """

    answer_type: str
    content_type: str
    threshold: float | None
    max_detections: int | None
    labels: frozenset[int] | None
    masks: bool
    npy_format: Literal["BGR", "RGB"]

    @classmethod
    def read(cls, request: Request, class_names: Sequence[str], preferred: str = JSON) -> Self:
        """From the headers and the query, before the body is read.

        preferred: the content type of the answer where Accept leaves the choice

        Raises:
            RequestError: 406 for Accept, 400 naming the parameter that is unknown, repeated or out of range.
        """
        parameters = {**from_attributes(request.headers.get(ATTRIBUTES, "")), **from_query(request.query_params)}
        return cls(
            answer_type=choose_answer(request.headers.get("accept", ""), preferred),
            content_type=request.headers.get("content-type", ""),
            threshold=read_threshold(parameters),
            max_detections=read_max_detections(parameters),
            labels=read_classes(parameters, class_names),
            masks=read_choice(parameters, "masks", ("on", "off")) == "on",
            npy_format="RGB" if read_choice(parameters, "npy_format", ("BGR", "RGB")) == "RGB" else "BGR",
        )

    def of(self, found: Detections, thresholds: Sequence[float] | None = None) -> Detections:
        """What of `found` goes into the answer. Masks that are not wanted go first: they cost nothing more.

        thresholds: least score of each class, if no other was asked for
        """
        own = np.zeros(1) if thresholds is None else np.array(thresholds)[found.labels]
        wanted = found.scores >= (own if self.threshold is None else self.threshold)
        if self.labels is not None:
            wanted &= np.isin(found.labels, list(self.labels))
        return (found if self.masks else replace(found, masks=None)).take(np.flatnonzero(wanted)[: self.max_detections])


def from_query(query: QueryParams) -> dict[str, str]:
    """The query's parameters; a misspelt or repeated one is refused, it would silently change the answer."""
    for name, count in ((name, len(query.getlist(name))) for name in query):
        if name not in PARAMETERS:
            raise RequestError(f"query parameter {name!r:.80}", "is unknown", nearest(name[:80], list(PARAMETERS)))
        if count > 1:
            raise RequestError(f"query parameter {name!r}", f"is given {count} times", "Give it once.")
    return dict(query)


def from_attributes(header: str) -> dict[str, str]:
    """`threshold=0.5, trace=abc` -> {"threshold": "0.5"}. SageMaker hands anything through here: other entries are ignored.

    Values may be percent-encoded, as in a query: the header is ASCII, and classes have names like `Käfer`.
    """
    pairs = (entry.partition("=") for entry in header.replace(";", ",").split(","))
    return {name.strip(): unquote(value.strip()) for name, _, value in pairs if name.strip() in PARAMETERS}


def read_threshold(parameters: Mapping[str, str]) -> float | None:
    text = parameters.get("threshold")
    if text is None:
        return None
    try:
        threshold = float(text)
    except ValueError:
        threshold = float("nan")
    if not 0 <= threshold <= 1:  # also refuses nan
        raise RequestError("threshold", f"is {text!r}", "Give a number from 0 to 1.")
    return threshold


def read_max_detections(parameters: Mapping[str, str]) -> int | None:
    text = parameters.get("max_detections")
    if text is None:
        return None
    if not (text.isascii() and text.isdecimal() and text.strip("0")):
        raise RequestError("max_detections", f"is {text!r:.40}", "Give a whole number from 1.")
    return int(text[-18:]) if len(text.lstrip("0")) <= 18 else None  # more than any picture holds is all of them


def read_classes(parameters: Mapping[str, str], class_names: Sequence[str]) -> frozenset[int] | None:
    """The labels that `classes` names; a class may be told by its name or its index, and a name wins.

    Raises:
        RequestError: 400 for a class that the model does not know, with the nearest names.
    """
    text = parameters.get("classes")
    if text is None:
        return None
    given = [text] if text in class_names else [part.strip() for part in text.replace("|", ",").split(",")]
    return frozenset(label for name in given for label in labels_of(name, class_names))


def labels_of(name: str, class_names: Sequence[str]) -> list[int]:
    """The labels whose class has this name (a model may have two of one name), or the index it is."""
    labels = [label for label, known in enumerate(class_names) if known == name]
    if not labels and name.isascii() and name.isdecimal() and len(name) <= 9 and int(name) < len(class_names):
        return [int(name)]
    if not labels:
        raise RequestError("classes", f"has {name!r:.80}, which the model does not know", nearest_class(name, class_names))
    return labels


def nearest_class(name: str, class_names: Sequence[str]) -> str:
    """A sentence that suggests a class; a model may have a thousand, so not all of them are listed."""
    advice = nearest(name[:80], class_names)
    return advice if len(advice) <= 300 else f"{advice[:300]} ... GET /model lists all {len(class_names)}."


def read_choice(parameters: Mapping[str, str], name: str, choices: tuple[str, str]) -> str:
    """The value of a parameter that has two; the first is the default."""
    value = parameters.get(name, choices[0])
    if value not in choices:
        raise RequestError(name, f"is {value!r:.40}", f"Give {choices[0]} (the default) or {choices[1]}.")
    return value


def choose_answer(accept: str, preferred: str = JSON) -> str:
    """The content type to answer with: the most wanted of those there are, then `preferred`. A missing header accepts all."""
    wanted = {kind: quality(entry) for entry in accept.split(",") if (kind := media_type(entry))} or {"*/*": 1.0}
    offers = {
        kind: wanted.get(kind, wanted.get("application/*", wanted.get("*/*", 0.0)))  # the most specific entry counts
        for kind in ANSWER_TYPES
    }
    best = max(offers, key=lambda kind: (offers[kind], kind == preferred))
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
