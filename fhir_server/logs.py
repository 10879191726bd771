"""The log: one JSON object a line on stderr, without health data.

A traceback is logged as places in our code, never with the values of variables, and an exception by its type,
never by its text: both may hold names or an INS.
"""

import json
import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any

import structlog


def configure(level: str) -> None:
    """Set up structlog and the standard library's logging once, at start."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            without_values,
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    of_libraries = logging.StreamHandler(sys.stderr)
    of_libraries.setFormatter(_OfLibraries())
    logging.basicConfig(level=logging.WARNING, handlers=[of_libraries])
    for chatty in ("procrastinate", "httpx", "pyhanko", "pyhanko_certvalidator", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


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
        event = {"event": record.getMessage()} if error is None else {"event": "an exception", **_described(error)}
        return json.dumps({**event, "level": record.levelname.lower(), "logger": record.name}, ensure_ascii=False)


def _described(error: BaseException) -> dict[str, Any]:
    places = traceback.extract_tb(error.__traceback__)
    cause = {"cause": type(error.__cause__).__qualname__} if error.__cause__ is not None else {}
    return {
        "exception": type(error).__qualname__,
        "at": [f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in places],
        **cause,
    }
