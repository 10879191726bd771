"""HTTP in, HTTP out: what a FHIR interaction sees of a request, what it answers, and how failures look.

https://hl7.org/fhir/R4/http.html - plain ASGI: a framework route costs more than reading a resource does.
"""

import re
import secrets
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import BadSyntax, Failure, Issue, Throttled, TooLarge
from mappings.elements import concept
from terminology.systems import DELIVERY_REASON

FHIR_JSON = b"application/fhir+json; charset=utf-8"
UNKNOWN = "unknown"
_REQUEST_ID = re.compile(r"[A-Za-z0-9\-]{1,64}")

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back: `body` is bytes, or chunks that are made while they are sent."""

    status: int
    body: bytes | AsyncIterator[bytes] = b""
    headers: Sequence[Header] = ()
    media_type: bytes = FHIR_JSON


class Exchange:
    """One request, as a FHIR interaction needs it."""

    __slots__ = (
        "_receive",
        "asked_format",
        "asked_pretty",
        "caller",
        "headers",
        "interaction",
        "method",
        "query",
        "request_id",
        "scope",
        "segments",
        "status",
    )

    def __init__(self, scope: Mapping[str, Any], receive: Any, segments: tuple[str, ...]) -> None:
        self.scope = scope
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.query: bytes = scope["query_string"]
        self.segments = segments
        self.caller: Caller | None = None
        self.asked_format: str | None = None  # the _format of a form that was posted
        self.asked_pretty: str | None = None  # and its _pretty
        self.request_id = request_id_of(self.headers)
        self.interaction = UNKNOWN  # its name in the log and in the metrics, once its route is found
        self.status = 0  # of the answer, once it has begun
        self._receive = receive

    def header(self, name: bytes) -> str | None:
        value = self.headers.get(name)
        return value.decode("latin-1") if value is not None else None

    def texts(self) -> dict[str, str]:
        """The headers as text."""
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.headers.items()}

    def pairs(self) -> list[tuple[str, str]]:
        """The query string, decoded. Raises BadSyntax on bytes that are not UTF-8."""
        return decode_pairs(self.query)

    def known_caller(self) -> Caller:
        assert self.caller is not None, "routes that need a caller are reached only with one"
        return self.caller

    async def chunks(self, largest: int) -> AsyncIterator[bytes]:
        """The body as it comes. Raises TooLarge beyond `largest` bytes."""
        announced = self.header(b"content-length")
        if announced and announced.isdecimal() and int(announced) > largest:
            raise TooLarge(f"The body is larger than {largest // (1024 * 1024)} MB")
        size = 0
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise BadSyntax("The client left before its body was complete")
            chunk = message.get("body", b"")
            size += len(chunk)
            if size > largest:
                raise TooLarge(f"The body is larger than {largest // (1024 * 1024)} MB")
            if chunk:
                yield chunk
            if not message.get("more_body"):
                return

    async def body(self, largest: int) -> bytes:
        return b"".join([chunk async for chunk in self.chunks(largest)])

    def media_type(self) -> str:
        """Of the body, without its parameters, in lower case."""
        return (self.header(b"content-type") or "").partition(";")[0].strip().lower()

    def prefers(self, name: str) -> str | None:
        """One preference of the Prefer header (RFC 7240), or None."""
        for part in (self.header(b"prefer") or "").split(","):
            key, _, value = part.strip().partition("=")
            if key.strip().lower() == name:
                return value.partition(";")[0].strip().strip('"')
        return None


def request_id_of(headers: Mapping[bytes, bytes]) -> str:
    """The X-Request-Id that the client gave, where it is one; otherwise a new one."""
    given = headers.get(b"x-request-id", b"").decode("latin-1")
    return given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(16)


RETURNS = frozenset({"minimal", "representation", "OperationOutcome"})


def preferred_return(exchange: Exchange) -> tuple[str, list[Header]]:
    """What a writer wants back (`Prefer: return=`), the representation where he does not say, and how it is echoed.

    https://hl7.org/fhir/R4/http.html#ops, RFC 7240 section 3
    """
    asked = exchange.prefers("return")
    if asked not in RETURNS:
        return "representation", []
    return asked, [(b"preference-applied", f"return={asked}".encode())]


def decode_pairs(query: bytes) -> list[tuple[str, str]]:
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=200)
    except (UnicodeDecodeError, ValueError) as error:
        raise BadSyntax("The parameters are not percent-encoded UTF-8") from error
    if any("\0" in name or "\0" in value for name, value in pairs):
        raise BadSyntax("The parameters hold a NUL character")
    return pairs


def outcome(issues: Iterable[Issue]) -> dict[str, Any]:
    """An OperationOutcome: https://hl7.org/fhir/R4/operationoutcome.html"""
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": issue.severity,
                "code": issue.code,
                **({"details": concept(DELIVERY_REASON, issue.reason)} if issue.reason else {}),
                "diagnostics": issue.diagnostics,
                **({"expression": [issue.expression]} if issue.expression else {}),
            }
            for issue in issues
        ],
    }


def failure_answer(failure: Failure) -> Answer:
    """A failure as its status and an OperationOutcome."""
    headers: list[Header] = []
    if failure.status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="fhir"'))
    if failure.status in (429, 503):
        seconds = failure.retry_after if isinstance(failure, Throttled) else 5
        headers.append((b"retry-after", str(seconds).encode()))
    return Answer(failure.status, orjson.dumps(outcome(failure.issues)), headers)


def surprise(request_id: str) -> Issue:
    """A bug of ours: the client learns a number to quote, and nothing else."""
    return Issue("fatal", "exception", f"The server failed; quote request {request_id} to its operators")


def surprise_answer(request_id: str) -> Answer:
    """The same as an answer."""
    return Answer(500, orjson.dumps(outcome([surprise(request_id)])))
