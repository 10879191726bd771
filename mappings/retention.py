"""Facts that decide how long documents are kept, out of FHIR; holds and proofs of destruction, into FHIR.

Code du travail R4624-45-9. docs/retention.md says which elements are read: Patient, Encounter, DocumentReference,
Observation (an exposure, after HL7 ODH) and Flag (a hold). ISO 21089 names what is done: hold, unhold, destroy.
"""

from calendar import monthrange
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

from mappings.elements import Element, coding, concept, identifier, instant, present, reference
from mappings.nomenclature import UNQUALIFIED, kind_of
from terminology import systems

VISIT_KINDS: Final = frozenset(
    {
        "DMST-VISITE",
        "DMST-ENT-INF",
        "DMST-TELE",
        "DMST-ATT-SUIVI",
        "DMST-APT",
        "DMST-INAPT",
        "DMST-AMENAG",
    }
)
"""Documents that are made at a visit: the day written on one is a day on which the worker was seen."""

HOLD: Final = "HOLD"
_ALWAYS: Final = frozenset({"D40", "TMP", "NT"})  # classes that need no exposure
_NO_VISIT: Final = frozenset({"planned", "cancelled", "entered-in-error"})
_NO_EXPOSURE: Final = frozenset({"entered-in-error", "cancelled"})
_STATED: Final = frozenset({"final", "amended", "corrected"})


@dataclass(frozen=True, slots=True)
class Exposure:
    """An exposure of one class; `end` is the last day that it may have had, None while it lasts or is unknown."""

    to: str
    end: date | None


@dataclass(frozen=True, slots=True)
class KeptDocument:
    """One document of a worker and its classes (None: nobody has said what it is)."""

    id: str
    version: int
    patient: str
    classes: tuple[str, ...] | None
    received: date | None


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What is known of a worker, of all records that are linked as his.

    Days as in `Exposure`. `seen` is the latest first day of a visit; `undated` a visit of which no day is known.
    """

    births: frozenset[date] = frozenset()
    deaths: frozenset[date] = frozenset()
    visits: frozenset[date] = frozenset()
    seen: date | None = None
    undated: bool = False
    exposures: tuple[Exposure, ...] = ()
    never: frozenset[str] = frozenset()
    holds: tuple[str, ...] = ()
    documents: tuple[KeptDocument, ...] = ()

    @property
    def last_visit(self) -> date | None:
        """The last day on which he may have been seen; None where that is unknown."""
        return None if self.undated else max(self.visits, default=None)

    @property
    def birth(self) -> date | None:
        return max(self.births, default=None)

    @property
    def death(self) -> date | None:
        return max(self.deaths, default=None)

    @property
    def imposed(self) -> frozenset[str]:
        """Classes that documents which cannot be without an exposure impose on the whole folder."""
        sure = (document.classes for document in self.documents if document.classes)
        return frozenset(code for classes in sure if not _ALWAYS & set(classes) for code in classes)

    def but_never(self) -> frozenset[str]:
        """Classes to which he never was exposed, and nothing says otherwise."""
        return self.never - {exposure.to for exposure in self.exposures}


def span(text: str) -> tuple[date, date]:
    """The first and the last day that a FHIR date or dateTime may mean, here or in UTC. Raises ValueError."""
    parts = [int(part) for part in text.partition("T")[0].split("-")]
    year, month = parts[0], parts[1] if len(parts) > 1 else None
    if month is None:
        return date(year, 1, 1), date(year, 12, 31)
    if len(parts) == 2:
        return date(year, month, 1), date(year, month, monthrange(year, month)[1])
    day = date(year, month, parts[2])
    if "T" not in text:
        return day, day
    in_utc = datetime.fromisoformat(text.replace("Z", "+00:00")).astimezone(UTC).date()
    return min(day, in_utc), max(day, in_utc)


def worker_facts(resources: Iterable[Mapping[str, Any]]) -> WorkerFacts:
    """What these resources of one worker say together; others than those above say nothing."""
    told = _Told()
    for resource in resources:
        if read := _READERS.get(resource["resourceType"]):
            read(told, resource)
    return told.facts()


class _Told:
    """What was said so far."""

    def __init__(self) -> None:
        self.births: set[date] = set()
        self.deaths: set[date] = set()
        self.visits: list[tuple[date, date]] = []
        self.undated = False
        self.exposures: list[Exposure] = []
        self.never: set[str] = set()
        self.holds: list[str] = []
        self.documents: list[KeptDocument] = []

    def facts(self) -> WorkerFacts:
        return WorkerFacts(
            frozenset(self.births),
            frozenset(self.deaths),
            frozenset(last for _, last in self.visits),
            max((first for first, _ in self.visits), default=None),
            self.undated,
            tuple(self.exposures),
            frozenset(self.never),
            tuple(sorted(self.holds)),
            tuple(self.documents),
        )


def _patient(told: _Told, patient: Mapping[str, Any]) -> None:
    if "birthDate" in patient:
        told.births.add(span(patient["birthDate"])[1])
    if "deceasedDateTime" in patient:
        told.deaths.add(span(patient["deceasedDateTime"])[1])
    for extension in patient.get("extension", []):
        if extension["url"] == systems.EXTENSION_LAST_VISIT and "valueDate" in extension:
            told.visits.append(span(extension["valueDate"]))


def _encounter(told: _Told, encounter: Mapping[str, Any]) -> None:
    """A visit that goes on, or that has no date, leaves the last visit unknown."""
    if encounter.get("status") in _NO_VISIT:
        return
    period = encounter.get("period", {})
    day = period.get("end") or (period.get("start") if encounter.get("status") == "finished" else None)
    if day:
        told.visits.append(span(day))
    else:
        told.undated = True


def _observation(told: _Told, observation: Mapping[str, Any]) -> None:
    """An exposure: `valueBoolean` false says that there never was one, which a final statement alone can say."""
    codes = [one["code"] for one in _codings(observation, "code") if one.get("system") == systems.RETENTION_CLASS]
    if not codes or observation.get("status") in _NO_EXPOSURE:
        return
    if observation.get("valueBoolean") is False:
        if observation.get("status") in _STATED:
            told.never.update(codes)
        return
    end = observation.get("effectivePeriod", {}).get("end") or observation.get("effectiveDateTime")
    told.exposures += [Exposure(code, span(end)[1] if end else None) for code in codes]


def _flag(told: _Told, flag: Mapping[str, Any]) -> None:
    if is_hold(flag):
        told.holds.append(f"Flag/{flag.get('id')}")


def _document(told: _Told, document: Mapping[str, Any]) -> None:
    codes = [one["code"] for one in _codings(document, "type") if one.get("system") == systems.DMST_NOMENCLATURE]
    kind = kind_of(codes[0] if codes else None)
    start = document.get("context", {}).get("period", {}).get("start")
    if kind.code in VISIT_KINDS and start and "T" not in start:  # with an hour it is that of the scanner
        told.visits.append(span(start))
    told.documents.append(
        KeptDocument(
            document["id"],
            int(document["meta"]["versionId"]),
            document["subject"]["reference"].split("/")[1],
            None if kind.code == UNQUALIFIED else kind.retention,
            span(document["date"])[1] if "date" in document else None,
        )
    )


_READERS: Final = {
    "Patient": _patient,
    "Encounter": _encounter,
    "Observation": _observation,
    "Flag": _flag,
    "DocumentReference": _document,
}


def _codings(resource: Mapping[str, Any], element: str) -> Iterator[Mapping[str, Any]]:
    yield from (one for one in resource.get(element, {}).get("coding", []) if "code" in one)


def binaries_of(document: Mapping[str, Any], base: str) -> tuple[str, ...]:
    """The ids of the Binaries of the server at `base` that hold the bytes of a DocumentReference."""
    urls = [content.get("attachment", {}).get("url", "") for content in document.get("content", [])]
    urls = [url.removeprefix(f"{base}/") for url in urls]
    return tuple(dict.fromkeys(url.split("/")[1] for url in urls if url.startswith("Binary/")))


# --- Holds


def is_hold(flag: Mapping[str, Any]) -> bool:
    """Does this Flag suspend destruction? Until it is inactive, whatever its period says."""
    named = [*_codings(flag, "code"), *(one for c in flag.get("category", []) for one in c.get("coding", []))]
    held = any((one.get("system"), one.get("code")) == (systems.RETENTION_CLASS, HOLD) for one in named)
    return held and flag.get("status") == "active"


def hold(flag_id: str, patient_id: str, *, reason: str, by: str, at: datetime) -> Element:
    """The Flag that suspends the destruction of a worker's documents. `reason` is for people."""
    return {
        "resourceType": "Flag",
        "id": flag_id,
        "status": "active",
        "category": [concept(systems.RETENTION_CLASS, HOLD, "Suspension")],
        "code": {"coding": [coding(systems.RETENTION_CLASS, HOLD, "Suspension")], "text": reason},
        "subject": reference(f"Patient/{patient_id}"),
        "period": {"start": instant(at)},
        "author": _user(by),
    }


def released(flag: Mapping[str, Any], at: datetime) -> Element:
    """The same, lifted."""
    return {**flag, "status": "inactive", "period": {**flag.get("period", {}), "end": instant(at)}}


def held_provenance(provenance_id: str, flag_id: str, *, lifted: bool, by: str, at: datetime) -> Element:
    """Who suspended, or lifted, and when."""
    return {
        "resourceType": "Provenance",
        "id": provenance_id,
        "target": [reference(f"Flag/{flag_id}")],
        "occurredDateTime": instant(at),
        "recorded": instant(at),
        "activity": concept(systems.ISO_21089, "unhold" if lifted else "hold"),
        "agent": [{"type": concept(systems.PROVENANCE_PARTICIPANT, "author"), "who": _user(by)}],
    }


# --- Destruction


@dataclass(frozen=True, slots=True)
class Destruction:
    """One document that is destroyed: why, by whose decision, and what it was (SHA-256, hexadecimal).

    `reasons` are (class, article, last day that it asked for).
    """

    provenance_id: str
    document_id: str
    patient_id: str
    reasons: tuple[tuple[str, str, date], ...]
    approvers: tuple[str, ...]
    sha256: tuple[str, ...]
    at: datetime


def destroyed(of: Destruction) -> Element:
    """The proof that stays: nothing of what the document said."""
    contents = [
        {"role": "removal", "what": reference(type_="Binary", identified=identifier(systems.SHA256, sha256))}
        for sha256 in of.sha256
    ]
    maker = reference(type_="Device", identified=identifier(systems.CLIENT, "dmst-fhir"))
    articles = dict.fromkeys(article for _, article, _ in of.reasons)
    return present(
        resourceType="Provenance",
        id=of.provenance_id,
        target=[gone(f"DocumentReference/{of.document_id}")],
        occurredDateTime=instant(of.at),
        recorded=instant(of.at),
        policy=[f"{systems.RETENTION_POLICY}/{article.replace(' ', '-')}" for article in articles],
        reason=[concept(systems.RETENTION_CLASS, code, text=f"{article}: {day}") for code, article, day in of.reasons],
        activity=concept(systems.ISO_21089, "destroy"),
        agent=[
            *({"type": concept(systems.PROVENANCE_PARTICIPANT, "author"), "who": _user(name)} for name in of.approvers),
            {"type": concept(systems.PROVENANCE_PARTICIPANT, "performer"), "who": maker},
        ],
        entity=[*contents, {"role": "source", "what": reference(f"Patient/{of.patient_id}")}],
    )


def gone(name: str) -> Element:
    """What takes the place of a reference to something that was destroyed: its name, which leads nowhere."""
    return reference(
        type_=name.partition("/")[0], identified=identifier(systems.DESTROYED, name), display="Document détruit"
    )


def without(resource: Mapping[str, Any], names: Sequence[str]) -> Element:
    """The resource, with each reference to one of `names` replaced by `gone`; what else it says of it stays."""
    wanted = frozenset(names)

    def replaced(value: Any) -> Any:
        if isinstance(value, list):
            return [replaced(one) for one in value]
        if not isinstance(value, Mapping):
            return value
        name = "/".join(str(value.get("reference", "")).split("/")[:2])
        if name not in wanted:
            return {key: replaced(one) for key, one in value.items()}
        left = {key: one for key, one in value.items() if key != "reference"}
        return {**gone(name), **left}

    return replaced(resource)


def _user(name: str) -> Element:
    return reference(type_="Practitioner", identified=identifier(systems.USER, name))
