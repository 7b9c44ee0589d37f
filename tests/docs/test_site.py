"""The site: it builds without a warning, every link leads somewhere, no other host is asked, what it quotes is in the code."""

import ast
import re
import subprocess
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

import sightline

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "sightline"

FETCHED = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
"""What a browser fetches by itself, and the attribute that says from where."""

HELD_TOGETHER = {"canonical", "alternate"}
"""Values of `rel` that make a browser fetch nothing."""


@dataclass
class Page(HTMLParser):
    """What one page of the built site refers to."""

    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if given.get("id"):
            self.ids.add(str(given["id"]))
        if tag == "a" and given.get("href"):
            self.links.append(str(given["href"]))
        if tag in FETCHED and given.get(FETCHED[tag]) and given.get("rel") not in HELD_TOGETHER:
            self.fetched.append(str(given[FETCHED[tag]]))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. A warning fails the build."""
    for module in ("sphinx", "furo", "myst_parser"):
        pytest.importorskip(module, reason="the extra `docs` is not installed")
    target = tmp_path_factory.mktemp("site")
    doctrees = tmp_path_factory.mktemp("doctrees")
    words = ["-W", "--keep-going", "-q", "-c", DOCS / "site", "-d", doctrees, ROOT, target]
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", *map(str, words)], check=False, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def read(site: Path) -> dict[Path, Page]:
    """Every page of the site, read."""
    pages = {}
    for path in sorted(site.rglob("*.html")):
        pages[path] = Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return pages


def test_it_builds_without_a_warning_and_has_every_page(site: Path, read: dict[Path, Page]) -> None:
    sources = [path for path in DOCS.rglob("*.md") if "site" not in path.relative_to(DOCS).parts]
    assert sources
    assert all((site / path.relative_to(ROOT)).with_suffix(".html") in read for path in sources)


def test_every_page_is_in_the_table_of_contents(site: Path, read: dict[Path, Page]) -> None:
    first = site / "docs" / "index.html"
    listed = {(first.parent / urlsplit(link).path).resolve() for link in read[first].links if not urlsplit(link).scheme}
    made = {site / name for name in ("index.html", "search.html", "genindex.html")}
    assert [path for path in read if path not in listed | made | {first}] == []


def test_every_link_within_it_leads_somewhere(site: Path, read: dict[Path, Page]) -> None:
    broken = []
    for path, page in read.items():
        for link in page.links:
            address = urlsplit(link)
            if address.scheme or address.netloc:
                continue
            target = (path.parent / unquote(address.path)).resolve() if address.path else path
            anchor = unquote(address.fragment)
            if not target.is_file() or (anchor and target in read and anchor not in read[target].ids):
                broken.append(f"{path.relative_to(site)}: {link}")
    assert broken == []


def test_it_asks_no_other_host(site: Path, read: dict[Path, Page]) -> None:
    fetched = {link for page in read.values() for link in page.fetched}
    assert fetched
    assert [link for link in fetched if urlsplit(link).netloc or urlsplit(link).scheme not in {"", "data"}] == []
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()[^;)]*//", style.read_text(encoding="utf-8")), style


def test_the_python_page_has_every_public_name_with_its_docstring(read: dict[Path, Page], site: Path) -> None:
    path = site / "docs" / "api.html"
    ids = read[path].ids
    assert [name for name in sightline.PUBLIC if f"sightline.{name}" not in ids] == []
    assert "Errors are those of the stages" in path.read_text(encoding="utf-8")


def test_its_first_address_leads_to_the_first_page(site: Path) -> None:
    assert "url=docs/index.html" in (site / "index.html").read_text(encoding="utf-8")


def templates(source: str) -> set[str]:
    """Every text in a module; where a value is put in, `...` stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            found.add("".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
    return found


def says(text: str, message: str) -> bool:
    """Whether the fixed parts of a message stand in a text, in their order."""
    place = 0
    for part in message.split("..."):
        place = text.find(part.strip(), place)
        if place < 0:
            return False
        place += len(part.strip())
    return True


def test_troubleshooting_quotes_messages_that_the_code_still_has() -> None:
    said = {text for path in SOURCE.rglob("*.py") for text in templates(path.read_text(encoding="utf-8"))}
    quoted = re.findall(r"^### `(.*)`$", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert len(quoted) >= 40
    assert [message for message in quoted if not any(says(text, message) for text in said)] == []


@pytest.mark.parametrize(
    ("source", "there"),
    [
        ("f'is {x}, and was {y} when {z}'", True),
        ("'is ' + x + ', and was ' + y", False),
        ("f'was {y}, and is {x} when'", False),
    ],
)
def test_a_message_is_found_by_its_fixed_parts_in_their_order(source: str, there: bool) -> None:
    assert any(says(text, "is ..., and was ... when") for text in templates(source)) is there
