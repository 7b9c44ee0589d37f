"""Errors say where, what and how to fix it; many problems are one error; exit codes and suggestions."""

import pickle
import subprocess
import sys

import pytest

from sightline import errors
from sightline.errors import (
    MAX_LISTED,
    Interrupted,
    LabelError,
    Problem,
    RequestError,
    RunError,
    SightlineError,
    nearest,
)

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SightlineError)]


def some_problems(count: int) -> list[Problem]:
    return [Problem(f"file: line {number}", "is wrong", "Correct it.") for number in range(1, count + 1)]


def test_three_parts_and_one_sentence() -> None:
    error = LabelError("a.json: line 3", "has no box", "Add one.")
    assert str(error) == "a.json: line 3: has no box. Add one."
    assert (error.where, error.what, error.fix) == ("a.json: line 3", "has no box", "Add one.")
    assert error.problems == (Problem("a.json: line 3", "has no box", "Add one."),)
    assert error.problems[0].as_dict() == {"where": "a.json: line 3", "what": "has no box", "fix": "Add one."}


def test_many_problems_are_one_error_with_a_line_each() -> None:
    error = LabelError.collected(some_problems(3))
    assert type(error) is LabelError
    assert str(error).splitlines() == [f"file: line {number}: is wrong. Correct it." for number in (1, 2, 3)]
    assert (error.where, len(error.problems)) == ("file: line 1", 3)


@pytest.mark.parametrize(
    ("count", "lines", "last"),
    [
        (MAX_LISTED, MAX_LISTED, f"file: line {MAX_LISTED}: is wrong. Correct it."),
        (MAX_LISTED + 1, MAX_LISTED + 1, "... and 1 more problems."),
        (100_000, MAX_LISTED + 1, f"... and {100_000 - MAX_LISTED} more problems."),
    ],
)
def test_a_hundred_thousand_problems_do_not_fill_a_terminal(count: int, lines: int, last: str) -> None:
    error = LabelError.collected(some_problems(count))
    assert len(str(error).splitlines()) == lines
    assert str(error).splitlines()[-1] == last
    assert len(error.problems) == count


@pytest.mark.parametrize("kind", KINDS)
def test_exit_codes(kind: type[SightlineError]) -> None:
    """1: the work failed. 143: SIGTERM ended it. 2: asked wrongly, or given something broken."""
    assert kind("where", "what", "Fix.").exit_code == {RunError: 1, Interrupted: 143}.get(kind, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tree_in_the_docstring_names_every_kind(kind: type[SightlineError]) -> None:
    assert errors.__doc__ is not None
    assert f"{kind.__name__} " in errors.__doc__


@pytest.mark.parametrize("kind", KINDS)
def test_errors_travel_between_processes_with_all_their_problems(kind: type[SightlineError]) -> None:
    error = kind.collected(some_problems(3))
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert (again.problems, str(again), again.exit_code) == (error.problems, str(error), error.exit_code)


def test_a_request_keeps_its_status_on_the_way() -> None:
    error = RequestError("body", "is too large", "Send less.", status=413)
    assert pickle.loads(pickle.dumps(error)).status == 413
    assert RequestError("body", "is empty", "Send more.").status == 400


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("trian", ["train", "test"], "Did you mean 'train'?"),
        ("zzz", ["train", "test"], "Known: train, test."),
        ("train", [], "Known: ."),
    ],
)
def test_nearest(name: str, known: list[str], expected: str) -> None:
    assert nearest(name, known) == expected


def test_errors_stand_on_nothing_of_ours() -> None:
    code = "import sys, sightline.errors; print(sorted(name for name in sys.modules if name.startswith('sightline')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['sightline', 'sightline.errors']"
