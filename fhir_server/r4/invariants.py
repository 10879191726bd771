"""Rules of R4 that no cardinality says: one small function per rule, listed by the type that it holds for.

https://hl7.org/fhir/R4/validation.html - the keys (`per-1`) are those of the definitions.
Each function is given one object of that type, of which every element may yet be wrong, and answers with what breaks.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeGuard

from fhir_server.r4 import dates


class Breach(NamedTuple):
    """A rule that does not hold: where in the object (`.entry[0].request`, may be empty), its key, and what it asks."""

    place: str
    key: str
    text: str


Object = dict[str, Any]
Invariant = Callable[[Object], Iterator[Breach]]


def extension(value: Object) -> Iterator[Breach]:
    """ext-1."""
    nested = "extension" in value
    valued = any(name.startswith(("value", "_value")) for name in value)
    if nested == valued:
        yield Breach("", "ext-1", "an extension has either a value or extensions, not both and not none")


def period(value: Object) -> Iterator[Breach]:
    """per-1."""
    start, end = value.get("start"), value.get("end")
    if _is_date_time(start) and _is_date_time(end) and dates.is_after(start, end):
        yield Breach("", "per-1", "start must not be later than end")


def quantity(value: Object) -> Iterator[Breach]:
    """qty-3."""
    if "code" in value and not _has(value, "system"):
        yield Breach("", "qty-3", "a code for the unit needs its system")


def range_(value: Object) -> Iterator[Breach]:
    """rng-2, where both have the same unit."""
    low, high = value.get("low"), value.get("high")
    if not isinstance(low, dict) or not isinstance(high, dict):
        return
    least, most = low.get("value"), high.get("value")
    same_unit = low.get("code") == high.get("code") and low.get("unit") == high.get("unit")
    if same_unit and isinstance(least, int | float) and isinstance(most, int | float) and least > most:
        yield Breach("", "rng-2", "low must not be greater than high")


def ratio(value: Object) -> Iterator[Breach]:
    """rat-1."""
    if ("numerator" in value) != ("denominator" in value):
        yield Breach("", "rat-1", "numerator and denominator stand both or none")


def attachment(value: Object) -> Iterator[Breach]:
    """att-1."""
    if "data" in value and not _has(value, "contentType"):
        yield Breach("", "att-1", "data needs its contentType")


def contact_point(value: Object) -> Iterator[Breach]:
    """cpt-2."""
    if "value" in value and not _has(value, "system"):
        yield Breach("", "cpt-2", "a value needs its system")


def patient_contact(value: Object) -> Iterator[Breach]:
    """pat-1."""
    if not any(_has(value, name) for name in ("name", "telecom", "address", "organization")):
        yield Breach("", "pat-1", "a contact has a name, a telecom, an address or an organization")


def observation(value: Object) -> Iterator[Breach]:
    """obs-6 and obs-7."""
    valued = any(name.startswith(("value", "_value")) for name in value)
    if valued and "dataAbsentReason" in value:
        yield Breach("", "obs-6", "dataAbsentReason stands only where there is no value")
    components = value.get("component")
    if valued and isinstance(components, list):
        own = _codings(value.get("code"))
        if any(own & _codings(one.get("code")) for one in components if isinstance(one, dict)):
            yield Breach("", "obs-7", "a value and a component of the same code do not stand together")


def reference_range(value: Object) -> Iterator[Breach]:
    """obs-3."""
    if not any(_has(value, name) for name in ("low", "high", "text")):
        yield Breach("", "obs-3", "a reference range has a low, a high or a text")


def bundle(value: Object) -> Iterator[Breach]:
    """bdl-1 to bdl-12 but bdl-6."""
    kind, entries = value.get("type"), value.get("entry", ())
    if not isinstance(kind, str) or not isinstance(entries, list | tuple):
        return  # what is wrong with these is said already
    if "total" in value and kind not in {"searchset", "history"}:
        yield Breach(".total", "bdl-1", "total stands only in a searchset or a history")
    yield from _bundle_head(value, kind, [entry for entry in entries if isinstance(entry, dict)])
    seen: set[tuple[str, Any]] = set()
    for n, entry in enumerate(entries):
        if not isinstance(entry, dict):
            continue
        yield from (Breach(f".entry[{n}]", key, text) for key, text in _entry(entry, kind))
        url = entry.get("fullUrl")
        if isinstance(url, str) and kind != "history":
            meta = _dict(_dict(entry.get("resource")).get("meta"))
            name = (url, str(meta.get("versionId")))
            if name in seen:
                yield Breach(f".entry[{n}].fullUrl", "bdl-7", "fullUrl must be unique in the Bundle")
            seen.add(name)


def _bundle_head(value: Object, kind: str, entries: list[Object]) -> Iterator[Breach]:
    first = _dict(entries[0].get("resource")).get("resourceType") if entries else None
    if kind == "document":
        identifier = _dict(value.get("identifier"))
        if "system" not in identifier or "value" not in identifier:
            yield Breach("", "bdl-9", "a document has an identifier with a system and a value")
        if "timestamp" not in value:
            yield Breach("", "bdl-10", "a document has a timestamp")
        if first != "Composition":
            yield Breach("", "bdl-11", "the first resource of a document is a Composition")
    if kind == "message" and first != "MessageHeader":
        yield Breach("", "bdl-12", "the first resource of a message is a MessageHeader")


def _entry(entry: Object, kind: str) -> Iterator[tuple[str, str]]:
    if "search" in entry and kind != "searchset":
        yield "bdl-2", "search stands only in a searchset"
    if ("request" in entry) != (kind in {"batch", "transaction", "history"}):
        yield "bdl-3", "request stands in each entry of a batch, a transaction or a history, and nowhere else"
    if ("response" in entry) != (kind in {"batch-response", "transaction-response", "history"}):
        yield "bdl-4", "response stands in each entry of a response or a history, and nowhere else"
    if not any(name in entry for name in ("resource", "request", "response")):
        yield "bdl-5", "an entry has a resource, a request or a response"
    if isinstance(url := entry.get("fullUrl"), str) and "/_history/" in url:
        yield "bdl-8", "fullUrl must not name a version"


def _is_date_time(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and dates.is_date_time(value)


def _has(value: Object, name: str) -> bool:
    return name in value or "_" + name in value


def _dict(value: object) -> Object:
    return value if isinstance(value, dict) else {}


def _codings(concept: object) -> set[tuple[str | None, str]]:
    codings = _dict(concept).get("coding", ())
    if not isinstance(codings, list):
        return set()
    pairs = ((one.get("system"), one.get("code")) for one in codings if isinstance(one, dict))
    return {(system, code) for system, code in pairs if isinstance(code, str) and isinstance(system, str | None)}


INVARIANTS: Final[Mapping[str, Invariant]] = {
    "Attachment": attachment,
    "Bundle": bundle,
    "ContactPoint": contact_point,
    "Extension": extension,
    "Observation": observation,
    "Observation.referenceRange": reference_range,
    "Patient.contact": patient_contact,
    "Period": period,
    "Range": range_,
    "Ratio": ratio,
} | dict.fromkeys(("Quantity", "Age", "Count", "Distance", "Duration"), quantity)
