"""Every command of README and docs/ does what its page says, copied word for word by a reader who has what `things` makes.

What is not run stands in NOT_RUN with its reason. The tables of what is different here are in `world` and `shortened`.
"""

import json
import re
import traceback
from typing import Any

import pytest

from docs import console
from docs.console import Command
from docs.world import CHECKED, Outcome, World

NOT_RUN = {
    r"^torchrun ": "tests/training/test_processes.py starts several processes",
    r"^python benchmarks/": "figures for a quiet machine, minutes each",
    r"^sightline benchmark prices refresh": "asks AWS itself; tests/benchmarking/test_price_list.py does it on loopback",
    r"^sightline benchmark models/r101": "needs the R101 model of the line before, which takes minutes",
}
"""Commands (a regular expression) that no test here runs, and why. Their options are looked up all the same."""

OTHER_OUTPUT = {"cannot be held: 3 crowd regions were left out"}
"""Lines of output that other labels than these have."""

COMMANDS = [command for page in console.pages() for command in console.commands(page)]


def reason(command: Command) -> str | None:
    """Why `command` is not run."""
    return next((why for pattern, why in NOT_RUN.items() if re.search(pattern, command.text)), None)


def outcome(world: World, command: Command) -> Outcome:
    """What `command` does after all that stand before it on its page."""
    page = world.page(command.page)
    for each in (one for one in COMMANDS if one.page == command.page and one.line <= command.line):
        if each.line in page.outcomes or reason(each):
            continue
        try:
            page.outcomes[each.line] = page.run_python(each) if each.language == "python" else page.run(each)
        except Exception:
            page.outcomes[each.line] = Outcome(1, "", traceback.format_exc())
    return page.outcomes[command.line]


def shape(line: str) -> Any:
    """What stays of a line of output when numbers and digests are others; of JSON its keys."""
    try:
        value = json.loads(line)
    except ValueError:
        return re.sub(
            r"\b[0-9a-f]{12,}\b|[-+]?\d[\d,.]*(?:e-?\d+)?|\s+", lambda found: " " if found[0].isspace() else "#", line.strip()
        )
    return sorted(value) if isinstance(value, dict) else str(type(value))


@pytest.mark.parametrize("command", [one for one in COMMANDS if not reason(one)], ids=lambda one: one.place)
def test_it_does_what_the_page_says(world: World, command: Command) -> None:
    done = outcome(world, command)
    fails = any(line.startswith("error:") for line in command.shown)
    assert bool(done.code) == fails, f"{command}\nexit code {done.code}\n{done.written[-4000:]}"
    if command.text.split()[0] in CHECKED:
        return
    written = [shape(line) for line in [*done.out.splitlines(), *done.err.splitlines()]]
    for line in command.shown:
        if "..." not in line and line not in OTHER_OUTPUT:
            assert shape(line) in written, f"{command} does not show\n{line}\nbut\n{done.written[-4000:]}"


def test_the_list_of_what_is_not_run_is_short_and_true() -> None:
    for pattern in NOT_RUN:
        assert any(re.search(pattern, command.text) for command in COMMANDS), f"{pattern} is on no page any more"
    assert sum(reason(command) is not None for command in COMMANDS) <= 12
