"""What is known of workers when it is decided how long their documents are kept.

Records that are linked as one person's (`Patient.link`) count together: a visit or a hold in one keeps those of all.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from fhir_server.r4.subjects import patient_in
from fhir_server.retention.expiry import Expiry, Facts, expiry
from fhir_server.retention.periods import Periods
from fhir_server.store import retention as store
from fhir_server.store.database import Connection
from mappings.retention import KeptDocument, WorkerFacts, worker_facts


@dataclass(frozen=True, slots=True)
class Worker:
    """One person: the ids of his records, and what they say together."""

    patients: frozenset[str]
    facts: WorkerFacts


async def of_patients(connection: Connection, docs: Mapping[str, bytes]) -> dict[str, Worker]:
    """The worker of each of these Patients, which are given as stored."""
    about: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    same = _Same()
    wanted: Mapping[str, bytes] = docs
    while wanted:
        linked: set[str] = set()
        for identity, doc in wanted.items():
            patient = orjson.loads(doc)
            about[identity].append(patient)
            linked |= same.add(identity, _linked_to(patient))
        for kept in await store.of_workers(connection, wanted):
            resource = orjson.loads(kept.doc)
            if kept.type == store.PATIENT:
                linked.add(kept.id)
            elif (subject := patient_in(resource)) and subject in wanted:
                about[subject].append(resource)
        wanted = await store.patients(connection, linked - about.keys())
    told = {group: worker_facts(one for identity in group for one in about[identity]) for group in same.groups()}
    return {identity: Worker(group, facts) for group, facts in told.items() for identity in group if identity in docs}


def _linked_to(patient: Mapping[str, Any]) -> Iterator[str]:
    for link in patient.get("link", []):
        kind, _, identity = link.get("other", {}).get("reference", "").partition("/")
        if kind == "Patient":
            yield identity.partition("/")[0]


class _Same:
    """Records that are one person's."""

    def __init__(self) -> None:
        self._of: dict[str, set[str]] = {}

    def add(self, identity: str, others: Iterable[str]) -> set[str]:
        """That these are one; the others."""
        met = set(others)
        merged = {identity, *met}
        for one in (identity, *met):
            merged |= self._of.get(one, set())
        for one in merged:
            self._of[one] = merged
        return met

    def groups(self) -> set[frozenset[str]]:
        return {frozenset(group) for group in self._of.values()}


def expiry_of(document: KeptDocument, facts: WorkerFacts, periods: Periods) -> Expiry:
    """Until when this document of a worker is kept."""
    return expiry(
        Facts(
            classes=document.classes,
            last_visit=facts.last_visit,
            seen=facts.seen,
            death=facts.death,
            birth=facts.birth,
            received=document.received,
            exposures=facts.exposures,
            never=facts.but_never(),
            folder=facts.imposed,
            holds=facts.holds,
        ),
        periods,
    )
