"""Every `sightline` command that prose, the changelog, a table or an error text names exists, with the options it is given."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
import typer

from docs import console
from docs.console import ROOT
from sightline.cli.main import app

PLACES = [*console.pages(), "CHANGELOG.md", "CONTRIBUTING.md"]
OPTION = re.compile(r"(?<![\w/.-])--[a-z][\w-]*")
NAMED = re.compile(r"(?<![\w/.@-])(?<!from )sightline((?: +[^\s`'\"().,;:]+(?![\w]))+)")

OTHERS = {
    *("--build-arg", "--output", "--provenance", "--no-deps", "--nproc-per-node", "--hypothesis-profile", "--data-binary"),
    *("--config-file", "--split-seed"),
}
"""Options of other programs (docker, pip, torchrun, pytest, curl, Detectron2) that pages name in prose; `--split-seed` is one
of `cloud train`, which takes those of label files beside its own."""

OF_OTHER_PROGRAMS = {
    "--role-name", "--assume-role-policy-document", "--policy-name", "--policy-document", "--stack-name", "--template-file",
    "--capabilities", "--file", "--layers", "--username", "--password-stdin", "--authfile",
}  # fmt: skip
"""Options that the package gives to programs it starts, or names for others (aws); of training in a container."""

ABOUT_OTHERS = ("docs/moving_from_", "docs/releasing", "docs/benchmarks/", "docs/recipes/")
"""Pages on other programs, or on scripts with options of their own: what stands alone between backticks there is not ours."""


@cache
def root() -> Any:
    return typer.main.get_command(app)


def follow(words: list[str]) -> tuple[Any, list[str]]:
    """(the command that `words` begin with, the words behind its name); a group where they end early."""
    at = root()
    while words and words[0] in getattr(at, "commands", {}):
        at, words = at.commands[words[0]], words[1:]
    if at.name == "benchmark" and words and not words[0].startswith("-") and hasattr(at, "commands"):
        at = at.commands["run"]  # `benchmark TARGET`
    return at, words


def options_of(command: Any) -> set[str]:
    """Of a command, or of all commands of a group."""
    own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
    return own.union(*(options_of(each) for each in getattr(command, "commands", {}).values()))


def accepted(command: Any) -> set[str]:
    """Its options, and those that it hands on to a training."""
    path = command.name
    handed_on = {"tune", "train"} if path in ("tune", "train") else set()
    return options_of(command).union(*(options_of(root().commands[name]) for name in handed_on))


def faults(text: str) -> Iterator[str]:
    """What is wrong with a command line, behind the word `sightline`."""
    words = text.replace("[", " ").replace("]", " ").replace("|", " ").split()
    command, rest = follow(words)
    group = hasattr(command, "commands")
    if group and rest and re.fullmatch(r"[a-z][a-z-]+", rest[0]) and command is root():
        yield f"there is no command {rest[0]!r}"
        return
    for option in OPTION.findall(" ".join(rest)) if command is not root() else ():
        if option not in accepted(command):
            yield f"`sightline {command.name}` has no {option}"


@pytest.mark.parametrize("page", PLACES)
def test_commands_between_backticks(page: str) -> None:
    wrong = [
        f"{page}:{line}: {text}: {fault}"
        for line, text in console.spans(page)
        if text.startswith("sightline ")
        for fault in faults(text.removeprefix("sightline "))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", PLACES)
def test_commands_in_blocks_of_output(page: str) -> None:
    """`Go on with:` and its like; and blocks that are not marked as what they are."""
    for block in console.blocks(page):
        for number, line in enumerate(block.lines, block.line):
            if (found := re.match(r"\s*(?:\$ )?sightline (.*)", line)) is not None:
                assert block.language in ("console", "bash", "sh"), f"{page}:{number}: mark the block as console"
                wrong = list(faults(console.without_comment(found[1])))
                assert not wrong, f"{page}:{number}: {wrong}"


@pytest.mark.parametrize("page", [page for page in PLACES if not page.startswith(ABOUT_OTHERS)])
def test_options_between_backticks(page: str) -> None:
    known = options_of(root()) | OTHERS
    wrong = [
        f"{page}:{line}: there is no {option}"
        for line, text in console.spans(page)
        if not re.match(r"(docker|pip|torchrun|curl|pytest|buildah|apt|git|npx|npm|cdk|aws|python|make)\b", text)
        for option in OPTION.findall(text)
        if option not in known
    ]
    assert not wrong, "\n".join(wrong)


def texts() -> Iterator[tuple[str, str]]:
    """(place, text) of every string of the package that is not a docstring; what is formatted in is `X`."""
    for path in sorted((ROOT / "src").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
        parts |= {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            place = f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.JoinedStr):
                yield place, "".join(str(one.value) if isinstance(one, ast.Constant) else "X" for one in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                yield place, node.value


def test_commands_and_options_in_the_packages_own_texts() -> None:
    """`Run: sightline ...`, and `--option` in what an error says is to be done."""
    known = options_of(root()) | OTHERS | OF_OTHER_PROGRAMS
    wrong = []
    for place, text in texts():
        for found in NAMED.finditer(text):
            wrong += [f"{place}: sightline{found[1]}: {fault}" for fault in faults(found[1])]
        told = [option for option in OPTION.findall(text) if option not in known and not option.endswith("X")]
        wrong += [f"{place}: there is no {option}" for option in told]
    assert not wrong, "\n".join(wrong)
