"""batch: https://hl7.org/fhir/R4/http.html#transaction - each entry is a request of its own, answered by itself.

An entry goes through the same table as a request over HTTP, with the caller of the batch; entries run one after
the other, so that an entry may read what the one before it wrote.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import orjson

from fhir_server.outcomes import Failure, TooLarge
from fhir_server.rest.http import Answer, Exchange, outcome
from fhir_server.rest.service import Service

HEADERS = {"ifNoneMatch": b"if-none-match", "ifModifiedSince": b"if-modified-since", "ifMatch": b"if-match"}
# A Bundle has no place for a body that is not FHIR.
FHIR_ONLY = {b"accept": b"application/fhir+json", b"content-type": b"application/fhir+json"}


class _Room:
    """How many bytes of content the answer may still hold: a Binary inside a Bundle cannot be streamed past it."""

    def __init__(self, largest: int) -> None:
        self.left = largest

    def take(self, size: int) -> None:
        """Raises TooLarge."""
        if size > self.left:
            raise TooLarge("This content does not fit into the answer to a batch: read it by itself")
        self.left -= size


async def batch(exchange: Exchange, service: Service, posted: Mapping[str, Any], bodies: Sequence[bytes]) -> Answer:
    """The answers in the order of the entries; a failure is the answer of its entry alone.

    `bodies` are the resources of the entries as received, empty where an entry has none.
    """
    from fhir_server.rest.routes import perform  # the table lists the interaction that brought us here

    answers: list[bytes] = []
    room = _Room(service.largest_body)
    for entry, body in zip(posted.get("entry") or [], bodies, strict=True):
        one = _as_exchange(exchange, entry, body)
        try:
            answers.append(await _answered(await perform(one, service), room))
        except Failure as failure:
            answers.append(_failed(failure))
    head = b'{"resourceType":"Bundle","type":"batch-response"'
    return Answer(200, head + (b',"entry":[' + b",".join(answers) + b"]}" if answers else b"}"))


def _as_exchange(whole: Exchange, entry: Any, body: bytes) -> Exchange:
    """The entry as the request that it would be over HTTP."""
    given = entry.get("request") if isinstance(entry, dict) else None
    request: Mapping[str, Any] = given if isinstance(given, dict) else {}
    path, _, query = str(request.get("url", "")).partition("?")
    headers = dict(FHIR_ONLY)
    headers.update((name, str(request[key]).encode()) for key, name in HEADERS.items() if key in request)
    if condition := request.get("ifNoneExist"):
        headers[b"if-none-exist"] = str(condition).encode()
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


async def _answered(answer: Answer, room: _Room) -> bytes:
    headers = dict(answer.headers)
    response: dict[str, str] = {"status": f"{answer.status} {HTTPStatus(answer.status).phrase}"}
    for header, element in ((b"location", "location"), (b"etag", "etag")):
        if header in headers:
            response[element] = headers[header].decode()
    body = answer.body if isinstance(answer.body, bytes) else await _whole(answer.body, room)
    head = orjson.dumps({"response": response})
    return head[:-1] + b',"resource":' + body + b"}" if body else head


async def _whole(chunks: AsyncIterator[bytes], room: _Room) -> bytes:
    whole: list[bytes] = []
    async for chunk in chunks:
        room.take(len(chunk))
        whole.append(chunk)
    return b"".join(whole)


def _failed(failure: Failure) -> bytes:
    status = f"{failure.status} {HTTPStatus(failure.status).phrase}"
    return orjson.dumps({"response": {"status": status, "outcome": outcome(failure.issues)}})
