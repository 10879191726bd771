"""AuditEvent: the access trail, shown as IHE BALP records. Read and search only; nobody writes it but us.

https://profiles.ihe.net/ITI/BALP - rows become resources when they are asked for (docs/adr/0006).
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final
from urllib.parse import urlencode

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import BadParameter, Issue, NotFound
from fhir_server.r4.index_values import period_of
from fhir_server.r4.references import is_local
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.r4.search_criteria import DEFAULT_COUNT, LARGEST_COUNT
from fhir_server.records import audit
from fhir_server.rest.http import Answer, Exchange
from fhir_server.rest.service import Service
from fhir_server.store.access_log import BREAK_GLASS, CIRCUMSTANCES, REASON_GIVEN, Access, AccessLog, Wanted
from fhir_server.store.ordering import Place
from mappings.audit_event import LOGIN, LOGOUT, OVERRIDE, RESTRICTED
from terminology import systems

SEARCHABLE = {
    "agent": ("reference", "http://hl7.org/fhir/SearchParameter/AuditEvent-agent"),
    "patient": ("reference", "http://hl7.org/fhir/SearchParameter/AuditEvent-patient"),
    "entity": ("reference", "http://hl7.org/fhir/SearchParameter/AuditEvent-entity"),
    "date": ("date", "http://hl7.org/fhir/SearchParameter/AuditEvent-date"),
    "subtype": ("token", "http://hl7.org/fhir/SearchParameter/AuditEvent-subtype"),
}
SUBTYPES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    (systems.DICOM, LOGIN["code"]): (audit.LOGIN,),
    (systems.DICOM, LOGOUT["code"]): (audit.LOGOUT,),
    (systems.DICOM, OVERRIDE["code"]): (audit.DECLARE_ACCESS,),
    (systems.DICOM, RESTRICTED["code"]): (audit.DECLARE_ACCESS,),
    (systems.BALP_AUTHZ, "AuthZ-Consent"): (audit.CONSENT_DECISION,),
    **{
        (systems.RESTFUL_INTERACTION, code): (code,)
        for code in ("read", "vread", "search-type", "search-system", "create", "update", "patch", "delete",
                     "history-instance", "history-type", "history-system", "transaction", "batch", "operation")
    },
}  # fmt: skip
"""The interactions of the trail under each subtype of an event."""
SYSTEM_OF: Final = {code: system for system, code in SUBTYPES}
CIRCUMSTANCE_OF: Final = {OVERRIDE["code"]: BREAK_GLASS, RESTRICTED["code"]: REASON_GIVEN}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
MOST_COUNTED: Final = 10_000
"""Beyond so many a search says its total only when asked for it (`_total=accurate`)."""


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
    return Answer(200, orjson.dumps(audit.event_of(found)))


async def search(exchange: Exchange, service: Service, pairs: list[tuple[str, str]], place: Place | None) -> Answer:
    """By worker, by professional or client, by resource, by time; newest first."""
    caller = exchange.known_caller()
    asked = _Asked(pairs)
    if asked.agent:
        asked.wanted = asked.wanted._replace(professional=await _identifier_of(service, caller, *asked.agent))
    log = service.archive.accesses
    before = (_EPOCH + int(place.values[0] or 0) * _MICROSECOND, place.rid) if place else None
    rows = await log.search(asked.wanted, before=before, limit=asked.count + 1)
    total = await _total(log, asked)
    await log.append(
        audit.access(
            caller,
            "search-type",
            exchange.request_id,
            resource_type="AuditEvent",
            patient_id=asked.wanted.patient_id,
            query=urlencode(pairs),
        )
    )
    page, more = rows[: asked.count], len(rows) > asked.count
    url = f"{service.base}/AuditEvent"

    def link(at: Place | None) -> str:
        return f"{url}?_cursor={service.page_links.seal(caller.client_id, 'AuditEvent', pairs, at)}"

    links = [{"relation": "self", "url": link(place)}]
    if more:
        links.append({"relation": "next", "url": link(_place(page[-1]))})
    bundle = {
        "resourceType": "Bundle",
        "type": "searchset",
        **({"total": total} if total is not None else {}),
        "link": links,
        **(
            {
                "entry": [
                    {"fullUrl": f"{url}/{found.id}", "resource": audit.event_of(found), "search": {"mode": "match"}}
                    for found in page
                ]
            }
            if page
            else {}
        ),
    }
    return Answer(200, orjson.dumps(bundle))


async def _identifier_of(service: Service, caller: Caller, resource_type: str, resource_id: str) -> str:
    """By what the trail tells a professional from others: his RPPS, or the first of his identifiers.

    Nobody else is an agent by a reference: an empty text, which no row has.
    """
    if resource_type != "Practitioner":
        return ""
    caller.must("r", resource_type)
    stored = await service.archive.resources.read(TYPE_NUMBER[resource_type], resource_id)
    is_shown = stored is not None and stored.doc is not None and stored.is_in(caller.sight("r"))
    known = orjson.loads(stored.doc).get("identifier", []) if stored and stored.doc and is_shown else []
    national = [one for one in known if one.get("system") == systems.RPPS]
    return next((one["value"] for one in (*national, *known) if one.get("value")), "")


async def _total(log: AccessLog, asked: "_Asked") -> int | None:
    """How many there are: exactly, or None where nobody wants to know, or where they are many and nobody insists."""
    if asked.total == "none":
        return None
    most = None if asked.total == "accurate" else MOST_COUNTED + 1
    counted = await log.count(asked.wanted, most=most)
    return None if counted == most else counted


def _place(last: Access) -> Place:
    """Where the next page begins. Microseconds as an integer: a float would not hold them all."""
    return Place(((last.row.at - _EPOCH) // _MICROSECOND,), last.id)


class _Asked:
    """The criteria of a search of the trail. Raises BadParameter with every fault at once."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self.wanted = Wanted()
        self.count = DEFAULT_COUNT
        self.total: str | None = None
        self.agent: tuple[str, str] | None = None
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
                self._of_worker(value.removeprefix("Patient/"))
            case "entity":
                target = is_local(value)
                if not target:
                    raise ValueError(name)
                if target[0] == "Patient":
                    self._of_worker(target[1])
                else:
                    self.wanted = self.wanted._replace(type=TYPE_NUMBER[target[0]], resource_id=target[1])
            case "agent:identifier":
                self._by(value)
            case "agent":
                target = is_local(value)
                if not target:
                    raise ValueError(name)
                self.agent = target
            case "date":
                self._between(value)
            case "subtype":
                self._of_subtype(value)
            case "_count":
                self.count = min(int(value), LARGEST_COUNT)
            case "_total":
                if value not in ("none", "estimate", "accurate"):
                    raise ValueError(name)
                self.total = value
            case "_format" | "_pretty":
                pass
            case _:
                raise KeyError(name)

    def _of_worker(self, patient_id: str) -> None:
        if self.wanted.patient_id not in (None, patient_id):
            raise ValueError(patient_id)  # an event is of one worker at most
        self.wanted = self.wanted._replace(patient_id=patient_id)

    def _by(self, value: str) -> None:
        """A token: the agents of an event are told by identifiers (https://hl7.org/fhir/R4/search.html#reference)."""
        system, _, identifier = value.rpartition("|")
        if not identifier:
            raise ValueError(value)
        if system == systems.CLIENT:
            self.wanted = self.wanted._replace(client_id=identifier)
        elif system in ("", systems.USER):
            self.wanted = self.wanted._replace(professional=identifier)
        else:
            raise ValueError(value)

    def _of_subtype(self, value: str) -> None:
        """A token: a login or logout, an interaction of FHIR, or what is remarkable about an access. Two are both."""
        system, _, code = value.rpartition("|")
        wanted = self.wanted
        if code in CIRCUMSTANCES and system in ("", systems.ACCESS_CIRCUMSTANCE) and wanted.circumstance is None:
            self.wanted = wanted._replace(circumstance=code)
            return
        names = SUBTYPES.get((system or SYSTEM_OF.get(code, ""), code), ())
        both = names if wanted.interactions is None else tuple(set(names) & set(wanted.interactions))
        circumstance = CIRCUMSTANCE_OF.get(code, wanted.circumstance)
        self.wanted = wanted._replace(interactions=both, circumstance=circumstance)

    def _between(self, value: str) -> None:
        prefix, moment = (value[:2], value[2:]) if value[:2] in ("ge", "gt", "le", "lt", "eq") else ("eq", value)
        low, high = (datetime.fromtimestamp(bound / 1_000_000, UTC) for bound in period_of(moment))
        lowest, highest = self.wanted.low, self.wanted.high
        match prefix:
            case "ge":
                lowest = max(lowest, low)
            case "gt":
                lowest = max(lowest, high)
            case "le":
                highest = min(highest, high)
            case "lt":
                highest = min(highest, low)
            case _:
                lowest, highest = max(lowest, low), min(highest, high)
        self.wanted = self.wanted._replace(low=lowest, high=highest)
