"""history of an instance: https://hl7.org/fhir/R4/http.html#history - newest first, keyset paged by version."""

from datetime import UTC, datetime
from urllib.parse import urlencode

import orjson

from fhir_server.outcomes import BadParameter
from fhir_server.r4.index_values import period_of
from fhir_server.r4.search_criteria import DEFAULT_COUNT, LARGEST_COUNT
from fhir_server.records.render import instant
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service
from fhir_server.store.resources import Stored

FROM_THE_NEWEST = 2**31 - 1


async def history(exchange: Exchange, service: Service) -> Answer:
    resource_type, resource_id, _ = exchange.segments
    pairs = dict(exchange.pairs())
    for name in pairs:
        if name not in ("_count", "_since", "_before", "_format", "_pretty"):
            raise BadParameter(f"{name} is not a parameter of history", expression=name)
    count = min(_number(pairs.get("_count"), "_count", DEFAULT_COUNT), LARGEST_COUNT)
    before = _number(pairs.get("_before"), "_before", FROM_THE_NEWEST)
    versions, total = await service.archive.history(
        exchange.known_caller(),
        resource_type,
        resource_id,
        exchange.request_id,
        since=_since(pairs.get("_since")),
        before=before,
        limit=count + 1,
    )
    versions, more = versions[:count], len(versions) > count
    url = f"{service.base}/{resource_type}/{resource_id}/_history"
    links = [{"relation": "self", "url": url}]
    if versions and more:
        following = {"_count": count, "_before": versions[-1].version}
        since = {"_since": pairs["_since"]} if "_since" in pairs else {}
        links.append({"relation": "next", "url": f"{url}?{urlencode(following | since)}"})
    head = orjson.dumps({"resourceType": "Bundle", "type": "history", "total": total, "link": links})
    entries = b",".join(_entry(service.base, resource_type, version) for version in versions)
    return Answer(200, head[:-1] + (b',"entry":[' + entries + b"]}" if entries else b"}"))


def _entry(base: str, resource_type: str, version: Stored) -> bytes:
    url = f"{resource_type}/{version.id}"
    if version.deleted:
        method, status = "DELETE", "204"
    elif version.version == 1:
        method, status, url = "POST", "201", resource_type
    else:
        method, status = "PUT", "200"
    rest = {
        "request": {"method": method, "url": url},
        "response": {
            "status": status,
            "etag": f'W/"{version.version}"',
            "lastModified": instant(version.updated.astimezone(UTC)),
        },
    }
    resource = b'"resource":' + version.doc + b"," if version.doc else b""
    return b'{"fullUrl":"%s/%s/%s",%s%s' % (
        base.encode(),
        resource_type.encode(),
        version.id.encode(),
        resource,
        orjson.dumps(rest)[1:],
    )


def _number(text: str | None, name: str, default: int) -> int:
    if text is None:
        return default
    if not text.isdecimal() or len(text) > 10:
        raise BadParameter(f"{name} must be a whole number", expression=name)
    return int(text)


def _since(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        low, _ = period_of(text)
    except ValueError as error:
        raise BadParameter("_since is not a FHIR instant", expression="_since") from error
    return datetime.fromtimestamp(low / 1_000_000, UTC)
