"""What an ended process had to say, in as many letters as the platform shows."""

import signal
from collections.abc import Sequence
from pathlib import Path

from sightline.storage import write_text

MOST = 1024
"""Letters of `/opt/ml/output/failure` that the platform shows."""

LAST_LINES = 5

SECONDARY = ("lost the others", "cannot find the others")
"""What a process says whose peer has failed: the peer knows more."""


def reason(lines: Sequence[str], code: int) -> str:
    """The useful lines of what a process wrote on stderr before it ended with `code`.

    Our own errors say where, what and how to fix it; of others the exception with its place; else the end.
    """
    for found in (own_error(lines), exception(lines)):
        if found:
            return found
    if code < 0:
        return killed(-code)
    last = [line for line in lines if line.strip()][-LAST_LINES:]
    return "\n".join([f"ended with exit code {code}", *last])


def own_error(lines: Sequence[str]) -> str:
    """`error: WHERE: WHAT. FIX`, and the problems on the lines below."""
    begins = [number for number, line in enumerate(lines) if line.startswith("error: ")]
    return "\n".join(lines[begins[-1] :]).removeprefix("error: ") if begins else ""


def exception(lines: Sequence[str]) -> str:
    """The last exception of a stack trace: its own lines, then where it was raised."""
    begins = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if not begins:
        return ""
    trace = lines[begins[-1] + 1 :]
    told = next((number for number, line in enumerate(trace) if line and not line.startswith(" ")), None)
    if told is None:
        return ""
    place = next((line.strip() for line in reversed(trace[:told]) if line.startswith('  File "')), "")
    return "\n".join([*trace[told:], place]).strip()


def killed(number: int) -> str:
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    if number == signal.SIGKILL:
        return "was killed (SIGKILL), most likely for its memory. Take a larger instance, fewer workers or smaller batches."
    return f"was ended by {name}"


def primary(reasons: Sequence[str]) -> str:
    """The one that tells most of several processes' reasons, in the order in which they ended."""
    return next((text for text in reasons if not any(words in text for words in SECONDARY)), reasons[0])


def write_failure(path: Path, text: str) -> None:
    """The first letters of `text`, for the platform."""
    write_text(path, text.strip()[:MOST])
