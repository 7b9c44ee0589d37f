"""`/openapi.json` is true: every operation is asked with hundreds of generated requests, good and bad, and keeps its word."""

import io
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.failures import Failure, FailureGroup

from sightline import wire
from sightline.records import Model
from sightline.serving.openapi import MULTI, SINGLE, document, template_of
from sightline.serving.server import create_many, running, running_app

Call = Callable[..., tuple[int, dict[str, str], bytes]]
load_all_checks()
KEPT = [
    check
    for check in CHECKS.get_all()
    if check.__name__ not in ("positive_data_acceptance", "ignored_auth", "use_after_free", "ensure_resource_availability")
]
"""All checks but those of logins and of resources; and not that every text is a picture because the type would allow it."""


@cache
def a_picture(kind: str) -> bytes:
    file = io.BytesIO()
    Pillow.fromarray(np.full((30, 40, 3), 90, np.uint8)).save(file, kind)
    return file.getvalue()


def an_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.full((4, 5, 3), 90, np.uint8))
    return file.getvalue()


for kind in wire.PICTURE_TYPES:
    schemathesis.openapi.media_type(kind, st.sampled_from([a_picture(kind.removeprefix("image/")), b"no picture"]))
schemathesis.openapi.media_type(wire.NPY, st.sampled_from([an_array(), an_array()[:-1]]))


@contextmanager
def many(folder: Path, model: Model) -> Iterator[str]:
    (folder / "bees").write_text("a model")
    with running_app(create_many(folder, lambda path: model)) as url:
        yield url


@pytest.mark.parametrize(
    ("single", "operation"),
    [(True, operation) for operation in SINGLE] + [(False, operation) for operation in MULTI],
    ids=lambda value: value if isinstance(value, bool) else f"{value.method} {value.path}",
)
def test_the_document_is_true(single: bool, operation, masked: Model, tmp_path: Path, call: Call) -> None:
    with running(masked) if single else many(tmp_path, masked) as url:
        if not single:
            call(url, "POST", "/models", b'{"model_name": "bees", "url": "bees"}')
        told = schemathesis.openapi.from_url(f"{url}/openapi.json")
        chosen = told[operation.path][operation.method]

        @settings(max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
        @given(case=chosen.as_strategy())
        def ask(case: schemathesis.Case) -> None:
            if "name" in case.path_parameters:
                case.path_parameters["name"] = "bees"
            case.call_and_validate(checks=KEPT)

        ask()
        assert call(url, "GET", "/ping")[0] == 200


@pytest.mark.parametrize("lie", ["400", "schema"])
def test_a_lie_would_be_found(lie: str, url: str) -> None:
    told = json.loads(json.dumps(document(SINGLE, "1.0"))) | {"servers": [{"url": url}]}
    responses = told["paths"]["/invocations"]["post"]["responses"]
    if lie == "400":
        del responses["400"]
    else:
        responses["200"]["content"]["application/json"]["schema"]["required"].append("pred_keypoints")
    operation = schemathesis.openapi.from_dict(told)["/invocations"]["POST"]

    @settings(max_examples=50, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy())
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=url, checks=KEPT)

    with pytest.raises((FailureGroup, Failure), match=r"Undocumented status code|pred_keypoints"):
        ask()


@pytest.mark.parametrize(("operations", "path"), [(SINGLE, "/invocations"), (MULTI, "/models/{name}/invoke")])
def test_it_is_valid_openapi(operations, path: str) -> None:
    validator = pytest.importorskip("openapi_spec_validator")
    told = json.loads(json.dumps(document(operations, "1.0")))
    validator.validate(told)
    assert set(told["paths"][path]["post"]["requestBody"]["content"]) == set(wire.REQUEST_TYPES)
    assert {operation.path for operation in operations} == set(told["paths"])


def test_paths_are_counted_under_their_template() -> None:
    template = template_of(MULTI)
    assert [template(path) for path in ("/models/a/invoke", "/models/a", "/models", "/models/a/b", "/metrics", "/")] == [
        "/models/{name}/invoke", "/models/{name}", "/models", "other", "/metrics", "other",
    ]  # fmt: skip
