"""The server's addresses in two tables, and `/openapi.json` (OpenAPI 3.1) made from them.

The routes of the app are built from the same tables, and the parameters come from the table that the reader of requests has
(`asked.PARAMETERS`), so the document cannot tell of anything that is not there.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sightline import wire
from sightline.serving.asked import ATTRIBUTES, PARAMETERS

Handler = Callable[[Request], Awaitable[Response]]
Schema = dict[str, object]

STATUSES = {
    400: "A parameter or the body is wrong.",
    403: "The address is outside the models' folder.",
    404: "There is no such model.",
    406: "Accept wants neither JSON nor npz.",
    408: "The body did not arrive in time.",
    409: "A model of this name is loaded, or being loaded.",
    413: "Too many bytes or pixels.",
    415: "The Content-Type is missing or unknown.",
    500: "The model broke.",
    503: "The model is loading, or the queue is full; Retry-After says when to try again.",
    504: "The model did not answer in time.",
    507: "There is not enough memory for the model.",
}
"""What an error status means."""

PREDICTION_ERRORS = (400, 406, 408, 413, 415, 500, 503, 504)
JSON_ERRORS = (400, 408, 413)


@dataclass(frozen=True, slots=True)
class Operation:
    """One address and method.

    name:       of the handler, and the document's operationId
    answers:    content type -> schema of a 200
    body:       content type -> schema of the request's body
    errors:     statuses beside 200
    parameters: in the query: name -> (meaning, schema)
    predicts:   takes the parameters and headers of a prediction
    """

    method: str
    path: str
    name: str
    summary: str
    answers: Mapping[str, Schema]
    body: Mapping[str, Schema] | None = None
    errors: tuple[int, ...] = ()
    parameters: Mapping[str, tuple[str, Schema]] | None = None
    predicts: bool = False


def object_of(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


TEXT: Schema = {"type": "string"}
WHOLE: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "number"}
BINARY: Schema = {"type": "string", "format": "binary"}
SIZE: Schema = {"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 2, "description": "[height, width]"}
BOX: Schema = {"type": "array", "items": NUMBER, "minItems": 4, "maxItems": 4, "description": "[x1, y1, x2, y2] in pixels"}
ERROR = object_of(error=object_of(where=TEXT, what=TEXT, fix=TEXT))
DETECTIONS: Schema = {
    "type": "object",
    "required": ["image_size", "pred_boxes", "scores", "pred_classes", "class_names"],
    "properties": {
        "image_size": SIZE,
        "pred_boxes": list_of(BOX),
        "scores": list_of({"type": "number", "minimum": 0, "maximum": 1}),
        "pred_classes": list_of(WHOLE),
        "class_names": list_of(TEXT),
        "pred_masks_rle": list_of(object_of(size=SIZE, counts=TEXT)),
    },
}
MODEL_ENTRY = object_of(modelName=TEXT, modelUrl=TEXT)
MODEL_FACTS = object_of(class_names=list_of(TEXT), origin=TEXT, facts={"type": "object"})

ANSWERS = {wire.JSON: DETECTIONS, wire.NPZ: BINARY}
PICTURES = dict.fromkeys(wire.REQUEST_TYPES, BINARY)


def common(ping_errors: tuple[int, ...]) -> tuple[Operation, ...]:
    """What every server has. ping_errors: the statuses of a server that is not well."""
    limits = object_of(MaxConcurrentTransforms=WHOLE, BatchStrategy=TEXT, MaxPayloadInMB=WHOLE)
    return (
        Operation("GET", "/ping", "ping", "Whether it can predict.", {wire.JSON: object_of(status=TEXT)}, errors=ping_errors),
        Operation("GET", "/execution-parameters", "execution_parameters", "How batch transform may call.", {wire.JSON: limits}),
        Operation("GET", "/metrics", "show_metrics", "Counters and latencies for Prometheus.", {"text/plain": TEXT}),
        Operation("GET", "/openapi.json", "show_openapi", "This document.", {wire.JSON: {"type": "object"}}),
    )


SINGLE = (
    Operation(
        "POST", "/invocations", "invocations", "The detections in the picture that is the body.",
        ANSWERS, PICTURES, PREDICTION_ERRORS, predicts=True,
    ),
    Operation("GET", "/model", "facts", "What is told of the model.", {wire.JSON: MODEL_FACTS}, errors=(500, 503)),
    *common((500, 503)),
    Operation("GET", "/", "show_page", "A page: drop a picture, see the boxes and masks.", {"text/html": TEXT}),
)  # fmt: skip
"""A server of one model."""

MULTI = (
    Operation(
        "POST", "/models", "load", "Load a model.", {wire.JSON: MODEL_ENTRY},
        {wire.JSON: object_of(model_name={"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,255}$"}, url=TEXT)},
        (*JSON_ERRORS, 403, 404, 409, 500, 507),
    ),
    Operation(
        "GET", "/models", "list_models", "The loaded models.",
        {wire.JSON: {**object_of(models=list_of(MODEL_ENTRY)), "description": "nextPageToken is there when more follow"}},
        errors=(400,),
        parameters={
            "next_page_token": ("nextPageToken of the page before.", TEXT),
            "limit": ("Models on a page.", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100}),
        },
    ),
    Operation("GET", "/models/{name}", "show_model", "A loaded model.", {wire.JSON: MODEL_ENTRY}, errors=(404,)),
    Operation("DELETE", "/models/{name}", "unload", "Unload a model.", {wire.JSON: MODEL_ENTRY}, errors=(404,)),
    Operation(
        "POST", "/models/{name}/invoke", "invoke", "The detections that a model finds in the picture that is the body.",
        ANSWERS, PICTURES, (404, *PREDICTION_ERRORS, 507), predicts=True,
    ),
    *common((500,)),
)  # fmt: skip
"""A server of many models, as SageMaker's multi-model endpoints call it."""


def routes(operations: Sequence[Operation], handlers: Mapping[str, Handler]) -> list[Route]:
    """One route an address; starlette tells 405 with the right Allow only so, and HEAD goes with GET."""
    paths: dict[str, dict[str, Handler]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = handlers[operation.name]
    return [Route(path, by_method(methods), methods=list(methods)) for path, methods in paths.items()]


def by_method(handlers: Mapping[str, Handler]) -> Handler:
    """One endpoint for the methods of an address."""

    async def endpoint(request: Request) -> Response:
        handler = handlers["GET" if request.method == "HEAD" else request.method]
        return await handler(request)

    return endpoint


def template_of(operations: Sequence[Operation]) -> Callable[[str], str]:
    """A request's path -> the path of its operation, `other` for all that are nowhere: a log or a counter stays small."""
    patterns = {re.compile(re.sub(r"\{\w+\}", "[^/]+", operation.path)): operation.path for operation in operations}
    return lambda path: next((template for pattern, template in patterns.items() if pattern.fullmatch(path)), "other")


def document(operations: Sequence[Operation], version: str) -> Schema:
    """The OpenAPI document."""
    paths: dict[str, Schema] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Sightline",
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
            "description": "Pictures in, detections out.",
        },
        "paths": paths,
        "components": {
            "schemas": {"Error": ERROR},
            "headers": {"RequestId": {"description": "The id that the log has, too.", "required": True, "schema": TEXT}},
        },
    }


def described(operation: Operation) -> Schema:
    given: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "responses": {
            "200": answer("Done.", operation.answers),
            **{str(status): answer(STATUSES[status], {wire.JSON: reference("schemas/Error")}) for status in operation.errors},
        },
    }
    if parameters := parameters_of(operation):
        given["parameters"] = parameters
    if operation.body:
        given["requestBody"] = {"required": True, "content": content(operation.body)}
    return given


def answer(meaning: str, kinds: Mapping[str, Schema]) -> Schema:
    return {"description": meaning, "headers": {"x-request-id": reference("headers/RequestId")}, "content": content(kinds)}


def content(kinds: Mapping[str, Schema]) -> Schema:
    return {kind: {"schema": schema} for kind, schema in kinds.items()}


def reference(name: str) -> Schema:
    return {"$ref": f"#/components/{name}"}


def parameters_of(operation: Operation) -> list[Schema]:
    """Of the path, of the query, and SageMaker's header with the same inside."""
    told = {**(operation.parameters or {}), **(PARAMETERS if operation.predicts else {})}
    listed: list[Schema] = [
        {"name": name, "in": "path", "required": True, "schema": TEXT} for name in re.findall(r"\{(\w+)\}", operation.path)
    ]
    listed += [
        {"name": name, "in": "query", "description": meaning, "schema": schema} for name, (meaning, schema) in told.items()
    ]
    if operation.predicts:
        meaning = f"The query's parameters as `threshold=0.5; masks=off`: {', '.join(PARAMETERS)}. The query wins."
        listed.append({"name": ATTRIBUTES, "in": "header", "description": meaning, "schema": TEXT, "example": "threshold=0.5"})
    return listed
