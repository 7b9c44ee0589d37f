"""Write the table of docs/licences.md from what is installed here.

    pip install -e '.[test,toolkit,infra,docs]' && python release/licences.py

Every package that the core or an extra names, and all that those bring along, with the licence that it states of itself.
Of the tools for tests and documentation only those that are named: nothing of them reaches a user.
"""

import importlib.metadata
import re
import sys
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "docs" / "licences.md"
BEGIN, END = "<!-- begin: python release/licences.py -->", "<!-- end -->"
TOOLS = ("test", "toolkit", "docs")
"""Extras for those who work on Sightline."""

BY_HAND = {
    "faster-coco-eval": "Apache-2.0",
    "torchvision": "BSD-3-Clause",
    "iterative-stratification": "BSD-3-Clause",
    "pycocotools": "BSD-2-Clause",
    "matplotlib": "PSF-based (matplotlib's own)",
    "cuda-toolkit": "none stated; names NVIDIA's packages",
}
"""Of packages whose metadata say nothing, or not exactly; read in the licence files that they install."""

SPDX = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "ISC License (ISCL)": "ISC",
}
WORDS = {
    "Apache License 2.0": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
    "BSD 3": "BSD-3-Clause",
    "PSFL": "PSF-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
}


@dataclass(slots=True)
class Row:
    """One package. needed_by: extras that name it or bring it along, "core" among them; named: whether one of them does."""

    name: str
    version: str
    licence: str
    link: str
    needed_by: set[str] = field(default_factory=set)
    named: bool = False


def requirements() -> dict[str, list[Requirement]]:
    """{"core" or extra: what it names}, extras of Sightline's own left out."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    named = {"core": project["dependencies"], **project["optional-dependencies"]}
    return {extra: [r for r in map(Requirement, texts) if r.name != "sightline"] for extra, texts in named.items()}


def licence_of(found: importlib.metadata.PackageMetadata) -> str:
    """As an SPDX expression where one is stated or known."""
    name = canonicalize_name(found["Name"])
    stated = found.get("License-Expression") or BY_HAND.get(name)
    if stated:
        return str(stated)
    classifiers = [text.rpartition(" :: ")[2] for text in found.get_all("Classifier") or () if text.startswith("License ::")]
    classifiers = [text for text in classifiers if text not in ("DFSG approved", "OSI Approved")]  # these name none
    if classifiers:
        return " and ".join(SPDX.get(text, text) for text in classifiers)
    text = (found.get("License") or "").strip()
    first = text.splitlines()[0] if text else "?"
    return WORDS.get(first, first)[:60]


def link_of(found: importlib.metadata.PackageMetadata) -> str:
    addresses = dict(reversed([word.strip() for word in text.split(",", 1)]) for text in found.get_all("Project-URL") or ())
    wanted = [
        address for address, label in addresses.items() if re.search("source|repository|code|github", label, re.IGNORECASE)
    ]
    return next(iter([*wanted, *addresses, found.get("Home-page") or ""]), "")


def add(rows: dict[str, Row], wanted: Iterable[Requirement], extra: str, *, named: bool, missing: set[str]) -> None:
    """`wanted`, and, unless they are tools, all that they bring along."""
    for requirement in wanted:
        key = canonicalize_name(requirement.name)
        try:
            found = importlib.metadata.metadata(key)
        except importlib.metadata.PackageNotFoundError:
            if named:
                missing.add(requirement.name)
            continue
        row = rows.setdefault(key, Row(found["Name"], found["Version"], licence_of(found), link_of(found)))
        row.named |= named
        if extra in row.needed_by:
            continue
        row.needed_by.add(extra)
        if extra not in TOOLS:
            inner = [Requirement(text) for text in importlib.metadata.requires(key) or ()]
            scopes = [{"extra": name} for name in requirement.extras] or [{"extra": ""}]
            inner = [r for r in inner if r.marker is None or any(r.marker.evaluate(scope) for scope in scopes)]
            add(rows, inner, extra, named=False, missing=missing)


def table(rows: Iterable[Row], *, needed: bool) -> list[str]:
    head = ["| package | version | licence |" + (" for |" if needed else ""), "|---|---|---|" + ("---|" if needed else "")]
    lines = []
    for row in sorted(rows, key=lambda row: row.name.lower()):
        extras = "core" if "core" in row.needed_by else ", ".join(sorted(row.needed_by - set(TOOLS)))
        name = f"[{row.name}]({row.link})" if row.link else row.name
        lines.append(f"| {name} | {row.version} | {row.licence} |" + (f" {extras} |" if needed else ""))
    return [*head, *lines]


def tables() -> str:
    """Named packages, what they bring along, and tools."""
    rows: dict[str, Row] = {}
    missing: set[str] = set()
    for extra, wanted in requirements().items():
        add(rows, wanted, extra, named=True, missing=missing)
    if missing:
        raise SystemExit(
            f"error: not installed here: {', '.join(sorted(missing))}. Run: pip install -e '.[test,toolkit,infra,docs]'"
        )
    own = [row for row in rows.values() if row.needed_by - set(TOOLS)]
    parts = {
        "### Named by Sightline": table([row for row in own if row.named], needed=True),
        "### Brought along by them": table([row for row in own if not row.named], needed=True),
        "### Tools for tests and documentation": table(
            [row for row in rows.values() if not row.needed_by - set(TOOLS)], needed=False
        ),
    }
    return "\n\n".join("\n".join([heading, "", *lines]) for heading, lines in parts.items())


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"error: {PAGE} has lost the lines {BEGIN!r} and {END!r}")
    PAGE.write_text(f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}", encoding="utf-8")
    print(f"{PAGE.relative_to(REPOSITORY)}: written on Python {sys.version_info.major}.{sys.version_info.minor}")


if __name__ == "__main__":
    main()
