"""JSON or XML: the form in which a client sends a resource, and the form in which it wants the answer.

https://hl7.org/fhir/R4/http.html#mime-type - inside there is JSON only; XML is made and read at the edge.
"""

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import lru_cache
from typing import Final, Literal, NamedTuple

import msgspec

from fhir_server.outcomes import NotAcceptable, UnsupportedMediaType
from fhir_server.r4.xml import indented, to_json, to_xml
from fhir_server.rest.http import FHIR_JSON, Answer, Exchange

Form = Literal["json", "xml"]

FHIR_XML: Final = b"application/fhir+xml; charset=utf-8"
FORMS: Final[dict[str, Form]] = {
    "application/fhir+json": "json",
    "application/json": "json",
    "application/json+fhir": "json",
    "text/json": "json",
    "json": "json",
    "application/fhir+xml": "xml",
    "application/xml": "xml",
    "application/xml+fhir": "xml",
    "text/xml": "xml",
    "xml": "xml",
    "*/*": "json",
    "application/*": "json",
    "text/*": "xml",
}


def wanted(exchange: Exchange) -> Form:
    """The form that the client wants most among those we make. Raises NotAcceptable where it wants neither."""
    accept = exchange.headers.get(b"accept")
    if accept in (None, b"*/*") and not exchange.query and exchange.asked_format is None:
        return "json"
    asked = exchange.asked_format or dict(exchange.pairs()).get("_format")
    form = _best(asked or (accept or b"*/*").decode("latin-1"))
    if form is None:
        raise NotAcceptable("This server answers application/fhir+json and application/fhir+xml")
    return form


@lru_cache(maxsize=1024)
def _best(text: str) -> Form | None:
    """The form of the media range with the highest weight (RFC 9110 section 12.5.1); the first of equals."""
    best: tuple[float, Form] | None = None
    for part in text.split(","):
        media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
        form = FORMS.get(media_range.replace(" ", "+"))  # a `+` in a URL is a blank
        weight = _weight(parameters)
        if form and weight > 0 and (best is None or weight > best[0]):
            best = weight, form
    return best[1] if best else None


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


class Received(NamedTuple):
    """A resource as it came, and as JSON."""

    form: Form
    body: bytes
    json: bytes


async def received(exchange: Exchange, largest: int) -> bytes:
    """The resource of the body as JSON. Raises UnsupportedMediaType, TooLarge, BadSyntax for XML that is not FHIR."""
    return (await received_as_sent(exchange, largest)).json


async def received_as_sent(exchange: Exchange, largest: int) -> Received:
    """The same, with what was sent: for documents that are kept in the form in which they came."""
    form = FORMS.get(exchange.media_type()) if "*" not in exchange.media_type() else None
    if form is None:
        raise UnsupportedMediaType(
            f"This server reads application/fhir+json and application/fhir+xml, not '{exchange.media_type()[:100]}'"
        )
    body = await exchange.body(largest)
    return Received(form, body, to_json(body) if form == "xml" else body)


async def in_form(answer: Answer, form: Form, *, pretty: bool = False) -> Answer:
    """The answer in the form that is wanted, indented where that is; what is no FHIR resource stays as it is."""
    if answer.media_type != FHIR_JSON or (form == "json" and not pretty):
        return answer
    if form == "json" and not isinstance(answer.body, bytes):
        return answer  # a Binary that is made while it is sent
    body = answer.body if isinstance(answer.body, bytes) else await _whole(answer.body)
    if form == "json":
        return replace(answer, body=msgspec.json.format(body) if body else b"")  # digits and escapes as they are
    xml = to_xml(body) if body else b""
    return replace(answer, body=indented(xml) if xml and pretty else xml, media_type=FHIR_XML)


def wants_pretty(exchange: Exchange) -> bool:
    """`_pretty=true`: https://hl7.org/fhir/R4/http.html#general"""
    if not exchange.query and exchange.asked_pretty is None:
        return False
    return (exchange.asked_pretty or dict(exchange.pairs()).get("_pretty")) == "true"


async def _whole(chunks: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in chunks])
