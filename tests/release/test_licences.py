"""docs/licences.md: every package that Sightline names is on it, and none that would bind a user's own code."""

import re

import pytest
from packaging.utils import canonicalize_name
from release_scripts import load

ROW = re.compile(r"^\| \[([^]]+)\]\((https?://[^)]+)\) \| ([^|]+) \| ([^|]+) \|", re.MULTILINE)


licences = load("licences")


@pytest.fixture(scope="module")
def listed() -> dict[str, str]:
    """{package: licence}"""
    text = licences.PAGE.read_text(encoding="utf-8")
    return {canonicalize_name(name): licence for name, _, _, licence in ROW.findall(text)}


def test_every_package_that_is_named_is_listed(listed: dict[str, str]) -> None:
    named = {canonicalize_name(r.name) for wanted in licences.requirements().values() for r in wanted}
    assert sorted(named - listed.keys()) == [], "run: python release/licences.py"


def test_no_package_asks_for_a_users_own_code(listed: dict[str, str]) -> None:
    """Nor does one say nothing of itself."""
    assert len(listed) > 50
    assert {name: licence for name, licence in listed.items() if re.search(r"GPL|SSPL|\?", licence)} == {}


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        pytest.param({"License-Expression": "MIT OR Apache-2.0", "License": "MIT"}, "MIT OR Apache-2.0", id="expression"),
        pytest.param({"Classifier": "License :: OSI Approved :: Apache Software License"}, "Apache-2.0", id="classifier"),
        pytest.param(
            {"Classifier": "License :: OSI Approved", "License": "Apache-2.0"}, "Apache-2.0", id="no classifier's name"
        ),
        pytest.param({"License": "BSD 3\nCopyright ..."}, "BSD-3-Clause", id="text"),
        pytest.param({}, "?", id="nothing"),
    ],
)
def test_a_licence_is_read_where_it_stands(facts: dict[str, str], expected: str) -> None:
    from email.message import Message

    found = Message()
    for key, value in {"Name": "some-package", **facts}.items():
        found[key] = value
    assert licences.licence_of(found) == expected


def test_the_tables_can_be_made_again() -> None:
    """As far as packages are installed here."""
    rows: dict[str, object] = {}
    missing: set[str] = set()
    licences.add(rows, licences.requirements()["core"], "core", named=True, missing=missing)
    text = "\n".join(licences.table(rows.values(), needed=True))
    assert "| [numpy](https://github.com/numpy/numpy) |" in text
    assert {canonicalize_name(name) for name, *_ in ROW.findall(text)} == rows.keys()
