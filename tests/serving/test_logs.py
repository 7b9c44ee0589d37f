"""The log as JSON, and the server's options: from the command line, from SageMaker's variables, and which of them wins."""

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sightline.cli import main, serve
from sightline.errors import RequestError
from sightline.records import Model
from sightline.serving import server
from sightline.serving.logs import JsonLines, level_of

Call = Callable[..., tuple[int, dict[str, str], bytes]]


def test_a_request_is_a_line_of_json(url: str, ask: Call, caplog) -> None:
    caplog.set_level(logging.DEBUG, "sightline")
    ask("GET", "/ping", None, {"X-Request-Id": "trace-1"})
    ask("GET", "/ping")  # the line is written after the answer: by now it is there
    record = next(record for record in caplog.records if "trace-1" in record.getMessage())
    line = json.loads(JsonLines().format(record))
    assert line["time"].endswith("Z")
    assert line["ms"] >= 0
    assert {key: line[key] for key in ("level", "method", "path", "status", "request_id")} == {
        "level": "debug", "method": "GET", "path": "/ping", "status": 200, "request_id": "trace-1",
    }  # fmt: skip


def test_a_defect_is_one_line_with_its_stack() -> None:
    try:
        raise ValueError("one\ntwo")
    except ValueError:
        record = logging.LogRecord("sightline", logging.ERROR, "f.py", 1, "request %s failed", ("a\nb",), sys.exc_info())
    text = JsonLines().format(record)
    assert "\n" not in text
    assert json.loads(text)["message"] == "request a\nb failed"
    assert "ValueError: one\ntwo" in json.loads(text)["exception"]


@pytest.mark.parametrize(("given", "level"), [("debug", 10), ("INFO", 20), ("30", 30), (" error ", 40)])
def test_levels(given: str, level: int) -> None:
    assert level_of(given) == level


@pytest.mark.parametrize("given", ["loud", "-1", "1e3", "99", ""])
def test_no_levels(given: str) -> None:
    with pytest.raises(RequestError, match="Give one of debug, info, warning, error"):
        level_of(given)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, object]]:
    """started("MODEL", "--port", "1", NAME="value") -> what the server would be run with."""
    for name in list(os.environ):
        if name.startswith("SAGEMAKER_"):
            monkeypatch.delenv(name)
    told: dict[str, object] = {}
    monkeypatch.setattr(server, "serve", lambda model, **named: told.update(named, model=model))
    monkeypatch.setattr(server, "serve_many", lambda folder, **named: told.update(named, folder=folder))
    monkeypatch.setattr(serve, "begin_log", lambda form, level: told.update(form=form, level=level))

    def run(*arguments: str, **environment: str) -> dict[str, object]:
        done = CliRunner().invoke(main.app, ["serve", *arguments], env=environment, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return told

    return run


@pytest.mark.parametrize(
    ("variable", "value", "option", "given", "read"),
    [
        ("SAGEMAKER_BIND_TO_PORT", "9001", "--port", "9002", lambda told: told["port"]),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT", "9001", "--timeout", "9002", lambda told: told["settings"].timeout_s),
        ("SAGEMAKER_MODEL_SERVER_TIMEOUT_SECONDS", "9001", "--timeout", "9002", lambda told: told["settings"].timeout_s),
        ("SAGEMAKER_TS_RESPONSE_TIMEOUT", "9001", "--timeout", "9002", lambda told: told["settings"].timeout_s),
        (
            "SAGEMAKER_MAX_PAYLOAD_IN_MB",
            "9001",
            "--max-payload",
            "9002",
            lambda told: told["settings"].limits.max_bytes / 2**20,
        ),
        ("SAGEMAKER_TS_BATCH_SIZE", "9001", "--max-batch", "9002", lambda told: told["settings"].max_batch),
        ("SAGEMAKER_TS_MAX_BATCH_DELAY", "9001", "--max-delay", "9002", lambda told: told["settings"].max_wait_s * 1000),
    ],
)
def test_the_option_wins_over_the_variable(variable: str, value: str, option: str, given: str, read, started) -> None:
    usual = read(started("m"))
    assert read(started("m", **{variable: ""})) == usual  # empty is not set
    assert read(started("m", **{variable: value})) == 9001 != usual
    assert read(started("m", option, given, **{variable: value})) == 9002


def test_the_other_variables(started) -> None:
    told = started(
        SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_SAFE_PORT_RANGE="25000-25999", SAGEMAKER_CONTAINER_LOG_LEVEL="10",
        SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="application/x-npz", SAGEMAKER_MAX_PAYLOAD_IN_MB="0",
    )  # fmt: skip
    assert told["folder"] == Path("/opt/ml/models")
    assert told["free_ports"] == range(25000, 26000)
    assert told["level"] == logging.DEBUG
    assert told["settings"].answer_type == "application/x-npz"
    assert told["settings"].limits.max_bytes == 32 * 2**20
    assert started("models", "--multi-model")["folder"] == Path("models")
    assert started("m", SAGEMAKER_MULTI_MODEL="false")["model"] == "m"


@pytest.mark.parametrize("text", ["", "1", "9-8", "0-5", "70000-70001", "a-b", "1-2-3"])
def test_no_ranges(text: str) -> None:
    with pytest.raises(RequestError, match="Give FIRST-LAST"):
        serve.port_range(text)


def test_a_free_port_of_the_range_is_taken() -> None:
    with server.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with server.listen("127.0.0.1", 0, range(port, port + 20)) as listener:
            assert port < listener.getsockname()[1] < port + 20
        with pytest.raises(Exception, match="is already in use"):
            server.listen("127.0.0.1", 0, range(port, port + 1))


def test_uvicorns_lines_are_json_too(model: Model, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    for name in ("sightline", "uvicorn"):
        monkeypatch.setattr(logging.getLogger(name), "handlers", [])
        monkeypatch.setattr(logging.getLogger(name), "level", logging.WARNING)
    serve.begin_log("json", logging.INFO)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    logging.getLogger("sightline.serving").info("Ready")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["logger"], line["level"]) for line in lines] == [("uvicorn.error", "warning"), ("sightline.serving", "info")]
