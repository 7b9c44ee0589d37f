"""A result on disk: read as it was written, refused where it is none."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sightline.benchmarking.results import NAME, Clients, Start, read, write
from sightline.benchmarking.spread import spread
from sightline.errors import SightlineError

Make = Callable[..., Any]


def test_it_is_read_as_it_was_written(make_result: Make, make_batch: Make, make_cost: Make, tmp_path: Path) -> None:
    result = make_result(
        stages={"model": spread([0.5] * 30)},
        batches=(make_batch(4, 1.0, 4.0), replace(make_batch(8, 1.0, 8.0), seconds=None, failed="not enough memory")),
        clients=(Clients(2, None, 0.0, 3.0, busy=4, errors={"status 500": 1}),),
        start=Start(spread([3.0, 4.0]), spread([1.0, 2.0])),
        costs=(make_cost(),),
        notes=("a note",),
    )
    path = write(result, tmp_path)
    assert path == tmp_path / NAME
    assert read(path) == read(tmp_path) == result


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        pytest.param({"format": 2}, "has format 2", id="newer"),
        pytest.param({"latency": {"count": "many", "mean": 1.0}}, r"is no result .*latency\.count", id="a wrong type"),
        pytest.param({"latency": None}, "is no result", id="no latency"),
        pytest.param({"batches": {}}, "is no result", id="no list"),
    ],
)
def test_what_is_no_result(changed: dict[str, object], error: str, make_result: Make, tmp_path: Path) -> None:
    path = write(make_result(), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    with pytest.raises(SightlineError, match=error):
        read(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000], ids=["empty", "a list", "no format", "deep"])
def test_files_that_are_something_else(text: str, tmp_path: Path) -> None:
    (tmp_path / "other.json").write_text(text)
    with pytest.raises(SightlineError, match=r"other\.json: is no result of a benchmark"):
        read(tmp_path / "other.json")


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(SightlineError, match=r"cannot be read .*Give the benchmark\.json"):
        read(tmp_path / "none.json")
