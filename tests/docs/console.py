"""A reader of Markdown: the commands and the Python of a page, each with its line, and what the page shows of their output.

Commands stand in blocks marked `console` (behind `$ `; everything else is output) and `bash` or `sh` (every line). A command
goes on over lines that end with a backslash, to the end of a loop, and to the end of a here-document.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

FENCE = re.compile(r"^(?P<indent>\s*)(?P<ticks>`{3,})\s*(?P<language>[\w+-]*)[^`]*$")
SHELLS = ("bash", "sh", "shell")
HERE_DOCUMENT = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?")
LOOPS = {"for": "done", "while": "done", "until": "done", "if": "fi", "case": "esac"}
SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """What stands between two fences. line: of its first line, from 1."""

    page: str
    line: int
    language: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines) + "\n"


@dataclass(frozen=True, slots=True)
class Command:
    """One thing that a page tells its reader to do. text: as it is copied; shown: the lines of output that follow it.

    language: `console`, `bash` or `python`
    """

    page: str
    line: int
    language: str
    text: str
    shown: tuple[str, ...] = field(default=())

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    def __str__(self) -> str:
        return f"{self.place}: {self.text.splitlines()[0]}"


def pages() -> list[str]:
    """README and all pages below docs/ as paths from the repository's root; recipes have tests of their own."""
    found = sorted((ROOT / "docs").rglob("*.md"))
    names = [path.relative_to(ROOT).as_posix() for path in found]
    return ["README.md", *(name for name in names if not name.startswith("docs/recipes/"))]


def blocks(page: str, text: str | None = None) -> Iterator[Block]:
    """The fenced blocks of `page`. text: the page's own, where it is at hand."""
    lines = (text if text is not None else (ROOT / page).read_text(encoding="utf-8")).splitlines()
    number = 0
    while number < len(lines):
        opened = FENCE.match(lines[number])
        number += 1
        if opened is None:
            continue
        first, width = number, len(opened["indent"])
        while number < len(lines) and lines[number].strip() != opened["ticks"]:
            number += 1
        body = tuple(line[width:] if not line[:width].strip() else line for line in lines[first:number])
        yield Block(page, first + 1, opened["language"], body)
        number += 1


def commands(page: str, text: str | None = None) -> Iterator[Command]:
    """Everything in `page` that can be run, in its order."""
    for block in blocks(page, text):
        if block.language == "python":
            yield Command(page, block.line, "python", block.text)
        elif block.language == "console":
            yield from of_console(block)
        elif block.language in SHELLS:
            yield from of_script(block)


def of_console(block: Block) -> Iterator[Command]:
    number = 0
    while number < len(block.lines):
        if not block.lines[number].startswith("$ "):
            number += 1
            continue
        first = number
        number = end_of_command([block.lines[number][2:], *block.lines[number + 1 :]]) + number
        text = "\n".join([block.lines[first][2:], *block.lines[first + 1 : number]])
        beginning = number
        while number < len(block.lines) and not block.lines[number].startswith("$ "):
            number += 1
        shown = tuple(line for line in block.lines[beginning:number] if line.strip() and not line.startswith("# "))
        if not text.strip().startswith("#"):
            yield Command(block.page, block.line + first, "console", without_comment(text), shown)


def of_script(block: Block) -> Iterator[Command]:
    number = 0
    while number < len(block.lines):
        line = block.lines[number]
        if not line.strip() or line.lstrip().startswith("#"):
            number += 1
            continue
        first = number
        number = end_of_command(block.lines[number:]) + number
        text = "\n".join(block.lines[first:number])
        yield Command(block.page, block.line + first, "bash", without_comment(text))


def end_of_command(lines: Sequence[str]) -> int:
    """How many of `lines` the command at their beginning has."""
    word = lines[0].split(maxsplit=1)[0] if lines[0].strip() else ""
    here = HERE_DOCUMENT.search(lines[0])
    if here is not None:
        return next((number + 1 for number, line in enumerate(lines) if line.strip() == here[1] and number), len(lines))
    if word in LOOPS and not re.search(rf"\b{LOOPS[word]}\b", lines[0]):
        return next((number + 1 for number, line in enumerate(lines) if line.split()[:1] == [LOOPS[word]]), len(lines))
    count = 1
    while lines[count - 1].endswith("\\") and count < len(lines):
        count += 1
    return count


def without_comment(text: str) -> str:
    """`text` without what stands behind a ` #` outside of quotes; here-documents are left alone."""
    if "<<" in text:
        return text
    kept, quote, comment = [], "", False
    for before, letter in zip([" ", *text], text, strict=False):
        if comment:
            comment = letter != "\n"
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in "'\"":
            quote = letter
        else:
            comment = letter == "#" and before.isspace()
        if not comment:
            kept.append(letter)
    return "\n".join(line.rstrip() for line in "".join(kept).splitlines())


def spans(page: str) -> Iterator[tuple[int, str]]:
    """(line, text) of everything between backticks in the prose of `page`."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines, number = text.splitlines(), 0
    fenced = set()
    for block in blocks(page, text):
        fenced |= set(range(block.line - 1, block.line + len(block.lines) + 1))
    paragraph: list[str] = []
    start = 1
    for number, line in enumerate([*lines, ""], 1):
        if line.strip() and number not in fenced:
            start = start if paragraph else number
            paragraph.append(line)
            continue
        whole = "\n".join(paragraph)
        for found in SPAN.finditer(whole):
            yield start + whole.count("\n", 0, found.start()), " ".join(found[2].split())
        paragraph = []
