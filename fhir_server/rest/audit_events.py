"""AuditEvent: the access trail, shown as IHE BALP records. Read and search only; nobody writes it but us.

https://profiles.ihe.net/ITI/BALP - rows become resources when they are asked for (docs/adr/0006).
"""

from datetime import UTC, datetime
from typing import Any, Final, Literal, cast
from urllib.parse import urlencode

import orjson

from fhir_server.outcomes import BadParameter, Issue, NotFound
from fhir_server.r4.index_values import period_of
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NAME, TYPE_NUMBER
from fhir_server.r4.search_criteria import DEFAULT_COUNT, LARGEST_COUNT
from fhir_server.records import audit
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service
from fhir_server.store.access_log import Access
from fhir_server.store.ordering import Place
from mappings.audit_event import Access as AccessFacts
from mappings.audit_event import Interaction, to_audit_event

SEARCHABLE = {
    "patient": ("reference", "http://hl7.org/fhir/SearchParameter/AuditEvent-patient"),
    "entity": ("reference", "http://hl7.org/fhir/SearchParameter/AuditEvent-entity"),
    "date": ("date", "http://hl7.org/fhir/SearchParameter/AuditEvent-date"),
}
OUTCOMES: Final[dict[int, Literal["0", "4", "8"]]] = {0: "0", 4: "4", 8: "8"}
BEGINNING, END = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)
FROM_THE_NEWEST = 2**63 - 1


async def read(exchange: Exchange, service: Service) -> Answer:
    caller = exchange.known_caller()
    caller.must("r", "AuditEvent")
    _, resource_id = exchange.segments
    number = int(resource_id) if resource_id.isdecimal() and len(resource_id) < 19 else 0
    found = await service.archive.accesses.read(number)
    if found is None:
        raise NotFound(f"AuditEvent/{resource_id} does not exist")
    await service.archive.accesses.append(
        audit.access(
            caller,
            "read",
            exchange.request_id,
            resource_type="AuditEvent",
            resource_id=resource_id,
            patient_id=found.row.patient_id,
        )
    )
    return Answer(200, orjson.dumps(_resource(found)))


async def search(exchange: Exchange, service: Service, pairs: list[tuple[str, str]], place: Place | None) -> Answer:
    """By worker, by resource, by time; newest first."""
    caller = exchange.known_caller()
    asked = _Asked(pairs)
    log = service.archive.accesses
    criteria: dict[str, Any] = {
        "patient_id": asked.patient_id,
        "entity": asked.entity,
        "low": asked.low,
        "high": asked.high,
    }
    rows = await log.search(**criteria, before=place.rid if place else FROM_THE_NEWEST, limit=asked.count + 1)
    total = await log.count(**criteria)
    await log.append(
        audit.access(
            caller,
            "search-type",
            exchange.request_id,
            resource_type="AuditEvent",
            patient_id=asked.patient_id,
            query=urlencode(pairs),
        )
    )
    page, more = rows[: asked.count], len(rows) > asked.count
    url = f"{service.base}/AuditEvent"

    def link(at: Place | None) -> str:
        return f"{url}?_cursor={service.page_links.seal(caller.client_id, 'AuditEvent', pairs, at)}"

    links = [{"relation": "self", "url": link(place)}]
    if more:
        links.append({"relation": "next", "url": link(Place((), page[-1].id))})
    bundle = {
        "resourceType": "Bundle",
        "type": "searchset",
        "total": total,
        "link": links,
        **(
            {
                "entry": [
                    {"fullUrl": f"{url}/{found.id}", "resource": _resource(found), "search": {"mode": "match"}}
                    for found in page
                ]
            }
            if page
            else {}
        ),
    }
    return Answer(200, orjson.dumps(bundle))


class _Asked:
    """The criteria of a search of the trail. Raises BadParameter with every fault at once."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.patient_id: str | None = None
        self.entity: tuple[int, str] | None = None
        self.low, self.high = BEGINNING, END
        self.count = DEFAULT_COUNT
        faults: list[Issue] = []
        for name, value in pairs:
            try:
                self._take(name, value)
            except ValueError:
                faults.append(Issue("error", "invalid", f"{name} is malformed", name))
            except KeyError:
                faults.append(Issue("error", "not-supported", f"The trail is not searched by {name}", name))
        if faults:
            raise BadParameter(issues=faults)

    def _take(self, name: str, value: str) -> None:
        match name:
            case "patient":
                self.patient_id = value.removeprefix("Patient/")
            case "entity":
                target = is_local(value)
                if not target:
                    raise ValueError(name)
                if target[0] == "Patient":
                    self.patient_id = target[1]
                else:
                    self.entity = TYPE_NUMBER[target[0]], target[1]
            case "date":
                self._between(value)
            case "_count":
                self.count = min(int(value), LARGEST_COUNT)
            case "_format" | "_pretty":
                pass
            case _:
                raise KeyError(name)

    def _between(self, value: str) -> None:
        prefix, moment = (value[:2], value[2:]) if value[:2] in ("ge", "gt", "le", "lt", "eq") else ("eq", value)
        low, high = (datetime.fromtimestamp(bound / 1_000_000, UTC) for bound in period_of(moment))
        match prefix:
            case "ge":
                self.low = max(self.low, low)
            case "gt":
                self.low = max(self.low, high)
            case "le":
                self.high = min(self.high, high)
            case "lt":
                self.high = min(self.high, low)
            case _:
                self.low, self.high = max(self.low, low), min(self.high, high)


def _resource(found: Access) -> dict[str, object]:
    row = found.row
    return to_audit_event(
        AccessFacts(
            id=str(found.id),
            at=row.at,
            interaction=cast(Interaction, row.interaction),
            outcome=OUTCOMES[row.outcome],
            client_id=row.client_id or "anonymous",
            client_name=row.client_id or "anonymous",
            role=row.role,
            purpose=row.purpose,
            resource_type=TYPE_NAME[row.type] if row.type else None,
            resource_id=row.resource_id,
            version=str(row.version) if row.version else None,
            patient_id=row.patient_id,
            query=row.query,
            request_id=row.request_id,
            recipient=row.recipient,
        ),
        "dmst-fhir",
    )
