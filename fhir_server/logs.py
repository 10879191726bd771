"""The log: one JSON object a line on stderr, without health data.

A traceback is logged as places in our code, never with the values of variables, and an exception by its type,
never by its text: both may hold names or an INS.
"""

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
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s", stream=sys.stderr)
    for chatty in ("procrastinate", "httpx", "pyhanko", "pyhanko_certvalidator", "uvicorn.access"):
        logging.getLogger(chatty).setLevel(logging.CRITICAL)


def without_values(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace `exc_info` by the type of the exception and the places that it came through."""
    if not event.pop("exc_info", None):
        return event
    kind, error, trace = sys.exc_info()
    if kind is not None:
        event["exception"] = kind.__qualname__
        event["at"] = [f"{f.filename.rpartition('/')[2]}:{f.lineno} {f.name}" for f in traceback.extract_tb(trace)]
        if error is not None and error.__cause__ is not None:
            event["cause"] = type(error.__cause__).__qualname__
    return event
