"""The log: one event a line on stderr, JSON where a machine reads it, plain words in a terminal; without health data.

A traceback is logged as places in our code, never with the values of variables, and an exception by its type,
never by its text: both may hold names or an INS.
"""

import json
import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import Processor

Form = Literal["auto", "json", "text"]
_PLACE = re.compile(r'File "(?:[^"]*/)?([^"/]+)", line (\d+), in (\w+)')


class _Stderr:
    """Writes to what stderr is at that moment."""

    def __init__(self, *_names: Any) -> None:
        self.debug = self.info = self.warning = self.error = self.critical = self.msg

    def msg(self, line: str) -> None:
        sys.stderr.write(line + "\n")


def configure(level: str, form: Form = "auto") -> None:
    """Set up structlog and the standard library's logging at start; `auto` is text exactly where stderr is a terminal.

    Doing it again with the same arguments changes nothing.
    """
    in_words = form == "text" or (form == "auto" and sys.stderr.isatty())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            without_values,
            _words() if in_words else structlog.processors.JSONRenderer(serializer=_as_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_Stderr,
        cache_logger_on_first_use=True,
    )
    of_libraries = logging.StreamHandler(sys.stderr)
    of_libraries.setFormatter(_OfLibraries())
    logging.basicConfig(level=logging.WARNING, handlers=[of_libraries])
    for chatty in ("procrastinate", "httpx", "pyhanko", "pyhanko_certvalidator", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def _words() -> Processor:
    render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())

    def in_one_line(logger: Any, method: str, event: MutableMapping[str, Any]) -> str:
        """The renderer takes `exception` for a traceback, which it would put on lines of its own."""
        if kind := event.pop("exception", None):
            event["error"] = kind
        return render(logger, method, event)

    return in_one_line


def _as_json(event: Any, **_options: Any) -> str:
    try:
        return orjson.dumps(event, default=str).decode()
    except TypeError:  # a file name that is no UTF-8 is still worth a line
        return json.dumps(event, default=str)


def without_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace `exc_info` by the type of the exception and the places that it came through."""
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event.update(_described(error))
    return event


class _OfLibraries(logging.Formatter):
    """What libraries log, in our form. With an exception the text goes too: asyncio quotes the exception in it."""

    def format(self, record: logging.LogRecord) -> str:
        error = record.exc_info[1] if record.exc_info else None
        text = record.getMessage()
        if error is not None:
            event = {"event": "an exception", **_described(error)}
        elif "Traceback (most recent call last)" in text:  # a server tells so that an application did not start
            event = {
                "event": "an exception",
                "at": [f"{file}:{line} {name}" for file, line, name in _PLACE.findall(text)],
            }
        else:
            event = {"event": text}
        return _as_json({**event, "level": record.levelname.lower(), "logger": record.name})


def _described(error: BaseException) -> dict[str, Any]:
    places = traceback.extract_tb(error.__traceback__)
    cause = {"cause": type(error.__cause__).__qualname__} if error.__cause__ is not None else {}
    return {
        "exception": type(error).__qualname__,
        "at": [f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in places],
        **cause,
    }
