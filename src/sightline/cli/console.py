"""What every command shares: results to stdout, everything else to stderr, errors as one clear message and an exit code."""

import json
import logging
import sys
from pathlib import Path

LOG = logging.getLogger("sightline")


def show(text: str, as_json: bool, value: object) -> None:
    """The result on stdout: `text` for people, `value` as JSON for machines."""
    print(json.dumps(value, ensure_ascii=False) if as_json else text, flush=True)


def note(text: str) -> None:
    """A line about what is happening, on stderr."""
    print(text, file=sys.stderr, flush=True)


class StderrHandler(logging.Handler):
    """Writes to what `sys.stderr` is at that moment: a server's thread may outlive the stream that it began with."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except ValueError:  # the stream is closed: the process, or the test that called the command, is ending
            return


def log_to_stderr(verbose: bool = False) -> None:
    """Sightline's log lines on stderr, once per process."""
    if not LOG.handlers:
        handler = StderrHandler()
        handler.setFormatter(logging.Formatter("%(message)s"))
        LOG.addHandler(handler)
    LOG.setLevel(logging.DEBUG if verbose else logging.INFO)


def here(path: str) -> Path:
    """A path of this machine, for options that s3:// addresses make no sense for: `typer.Option(parser=here)`.

    Raises:
        SightlineError: it is an s3:// address.
    """
    from sightline.storage import here_only

    return here_only(path, "this option")


def split_names(given: str | None) -> list[str] | None:
    """`--class-names "bee, wasp"` as names; None where none are given, so that the model's own count."""
    return [name.strip() for name in given.split(",")] if given else None
