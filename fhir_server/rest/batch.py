"""batch: https://hl7.org/fhir/R4/http.html#transaction - each entry is a request of its own, answered by itself.

An entry goes through the same table as a request over HTTP, with the caller of the batch; entries run one after
the other, so that an entry may read what the one before it wrote.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson

from fhir_server.outcomes import Failure, TooLarge
from fhir_server.r4.index_values import period_of
from fhir_server.records.render import instant
from fhir_server.rest.http import Answer, Exchange, outcome, preferred_return
from fhir_server.rest.service import Service

HEADERS = {"ifNoneMatch": b"if-none-match", "ifMatch": b"if-match", "ifNoneExist": b"if-none-exist"}
# A Bundle has no place for a body that is not FHIR.
FHIR_ONLY = {b"accept": b"application/fhir+json", b"content-type": b"application/fhir+json"}


class Budget:
    """How many bytes the answers to the entries of one Bundle may have together."""

    def __init__(self, largest: int) -> None:
        self._largest = self._left = largest

    def spend(self, size: int) -> None:
        """Raises TooLarge where less is left, and then spends nothing."""
        if size > self._left:
            text = f"The answers to one Bundle have at most {self._largest // (1024 * 1024)} MB: ask in several"
            raise TooLarge(text)
        self._left -= size


async def batch(exchange: Exchange, service: Service, posted: Mapping[str, Any], bodies: Sequence[bytes]) -> Answer:
    """The answers in the order of the entries; a failure is the answer of its entry alone.

    `bodies` are the resources of the entries as received, empty where an entry has none.
    """
    from fhir_server.rest.routes import perform  # the table lists the interaction that brought us here

    answers: list[bytes] = []
    budget = Budget(service.largest_body)
    for entry, body in zip(posted.get("entry") or [], bodies, strict=True):
        one = as_exchange(exchange, entry, body)
        try:
            if one.method == "GET":
                budget.spend(1)  # not even begun where nothing is left
            answers.append(await answered(one, await perform(one, service), budget))
        except Failure as failure:
            answers.append(_failed(failure))
    head = b'{"resourceType":"Bundle","type":"batch-response"'
    _, echo = preferred_return(exchange)
    return Answer(200, head + (b',"entry":[' + b",".join(answers) + b"]}" if answers else b"}"), echo)


def as_exchange(whole: Exchange, entry: Any, body: bytes) -> Exchange:
    """The entry as the request that it would be over HTTP."""
    given = entry.get("request") if isinstance(entry, dict) else None
    request: Mapping[str, Any] = given if isinstance(given, dict) else {}
    path, _, query = str(request.get("url", "")).partition("?")
    headers = dict(FHIR_ONLY)
    headers.update((name, str(request[key]).encode()) for key, name in HEADERS.items() if key in request)
    if since := _http_date(request.get("ifModifiedSince")):
        headers[b"if-modified-since"] = since
    if prefer := whole.headers.get(b"prefer"):
        headers[b"prefer"] = prefer
    scope = {
        "method": str(request.get("method", "")),
        "headers": list(headers.items()),
        "query_string": quote(query, safe="%&=+/:,|$;@!*'()~?").encode(),
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    one = Exchange(scope, receive, tuple(segment for segment in path.split("/") if segment))
    one.caller, one.request_id = whole.caller, whole.request_id
    one.asked_format = "json"  # whatever its url says: the Bundle around it is made of JSON
    return one


def _http_date(text: Any) -> bytes | None:
    """The instant of an entry as the header has it."""
    try:
        low, _ = period_of(str(text))
        return format_datetime(datetime.fromtimestamp(low // 1_000_000, UTC), usegmt=True).encode()
    except (ValueError, OverflowError, OSError):
        return None


async def answered(one: Exchange, answer: Answer, budget: Budget) -> bytes:
    """The answer to one entry. Raises TooLarge for a read that is larger than what is left.

    What was written is told in any case, then without the resource.
    """
    headers = dict(answer.headers)
    response: dict[str, Any] = {"status": f"{answer.status} {HTTPStatus(answer.status).phrase}"}
    for header, element in ((b"location", "location"), (b"etag", "etag")):
        if header in headers:
            response[element] = headers[header].decode()
    if b"last-modified" in headers:
        response["lastModified"] = instant(parsedate_to_datetime(headers[b"last-modified"].decode()))
    try:
        body = b"" if one.method == "HEAD" else await _body(answer, budget)
    except TooLarge:
        if one.method == "GET":
            raise
        body = b""
    if body.startswith(b'{"resourceType":"OperationOutcome"'):
        response["outcome"], body = orjson.loads(body), b""
    head = orjson.dumps({"response": response})
    return head[:-1] + b',"resource":' + body + b"}" if body else head


async def _body(answer: Answer, budget: Budget) -> bytes:
    """A Binary inside a Bundle cannot be streamed past it. Raises TooLarge."""
    if isinstance(answer.body, bytes):
        budget.spend(len(answer.body))
        return answer.body
    budget.spend(int(dict(answer.headers)[b"content-length"]))  # what streams says its length before it begins
    return b"".join([chunk async for chunk in answer.body])


def _failed(failure: Failure) -> bytes:
    status = f"{failure.status} {HTTPStatus(failure.status).phrase}"
    return orjson.dumps({"response": {"status": status, "outcome": outcome(failure.issues)}})
