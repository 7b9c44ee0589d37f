"""Log lines as JSON, one object a line, as log collectors read them: `sightline serve --log-format json`."""

import json
import logging
import time

from sightline.errors import RequestError

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class JsonLines(logging.Formatter):
    """`{"time", "level", "logger", "message"}`, the facts of a request beside them, and a defect's stack trace as text."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        event = getattr(record, "event", None)
        if isinstance(event, dict):
            line |= event
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def level_of(given: str) -> int:
    """A log level by its name or, as SageMaker's variables have it, by Python's number.

    Raises:
        RequestError: it is neither.
    """
    text = given.strip().lower()
    if text in LEVELS:
        return LEVELS[text]
    if text.isascii() and text.isdecimal() and int(text) <= logging.CRITICAL:
        return int(text)
    raise RequestError("--log-level", f"is {given!r}", f"Give one of {', '.join(LEVELS)}.")
