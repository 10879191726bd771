"""batch and transaction: https://hl7.org/fhir/R4/http.html#transaction - a Bundle that is posted to the base.

What it may hold is bounded before it is read: the bytes of its body, and its entries, which are counted before they are
parsed.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from fhir_server.outcomes import BadSyntax, InvalidResource, Issue, TooLarge
from fhir_server.records.validation import parse_json, validate
from fhir_server.rest.batch import batch
from fhir_server.rest.forms import received
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service
from fhir_server.rest.transaction import transaction

AT_ONCE: Final = 50  # entries that are validated before others get their turn
_ENTRY: Final = re.compile(r"Bundle\.entry\[(\d+)\]")


class RawEntry(msgspec.Struct):
    """The raw bytes of an entry's resource, so that they are kept as received."""

    resource: msgspec.Raw = msgspec.Raw()


class RawBundle(msgspec.Struct):
    entry: list[RawEntry] = []


_decode = msgspec.json.Decoder(RawBundle).decode


async def bundle(exchange: Exchange, service: Service) -> Answer:
    """POST to the base: a Bundle of type batch or transaction. Raises TooLarge, BadSyntax, InvalidResource."""
    body = await received(exchange, service.largest_body)
    raw = _raw(body)
    if len(raw.entry) > service.settings.max_bundle_entries:
        raise TooLarge(f"A Bundle has at most {service.settings.max_bundle_entries} entries: send several")
    posted = parse_json(body)
    if posted["resourceType"] != "Bundle" or posted.get("type") not in ("transaction", "batch"):
        raise BadSyntax("What is posted to the base is a Bundle of type transaction or batch", expression="Bundle.type")
    bodies = [bytes(entry.resource) for entry in raw.entry]
    del body, raw
    if posted["type"] == "batch":
        return await batch(exchange, service, posted, bodies)
    await _validate(posted)
    return await transaction(exchange, service, posted, bodies)


def _raw(body: bytes) -> RawBundle:
    try:
        return _decode(body)
    except RecursionError as error:
        raise BadSyntax("The body is nested deeper than any resource") from error
    except msgspec.DecodeError as error:
        parse_json(body)  # says where it is no JSON
        raise BadSyntax("Bundle.entry is an array of objects", expression="Bundle.entry") from error


async def _validate(posted: Mapping[str, Any]) -> None:
    """The Bundle with all its resources, some entries at a time: a large one leaves others their turn.

    Raises InvalidResource with the faults of every entry at once.
    """
    entries = posted.get("entry")
    if not isinstance(entries, list) or len(entries) <= AT_ONCE:
        validate(posted)
        return
    faults: list[Issue] = []
    for start in range(0, len(entries), AT_ONCE):
        try:
            validate({**posted, "entry": entries[start : start + AT_ONCE]})
        except InvalidResource as failure:
            faults.extend(moved for issue in failure.issues if (moved := _moved(issue, start)))
        await asyncio.sleep(0)
    if faults:
        raise InvalidResource(issues=faults)


def _moved(issue: Issue, start: int) -> Issue | None:
    """An issue of a part, at its place in the whole; what is about the Bundle itself is told with the first part."""
    place = issue.expression or ""
    match = _ENTRY.match(place)
    if match is None:
        return issue if start == 0 else None
    return replace(issue, expression=f"Bundle.entry[{int(match[1]) + start}]{place[match.end() :]}")
