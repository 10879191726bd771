"""Nothing on the side of the employer tells that a worker opposed or refused: L4624-8-1 C. trav., R4624-45-6.

What he may see is asked for before and after; every answer is the same, to the byte.
"""

import re
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.app import Parts
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests.stories.support import Provider, asking, dispatch_all
from tests.support import (
    EVERYTHING,
    FHIR_JSON,
    Resource,
    Server,
    document_reference,
    found,
    keep,
    patient,
    post,
    put,
    transaction,
)

PATHS = (
    "metadata",
    "Consent",
    "Consent?patient=p",
    "Consent?_summary=count",
    "Consent?_total=accurate&patient=p",
    "Consent/c1",
    "Consent/c1/_history",
    "Consent/c1/_history/1",
    "Consent/c1/$meta",
    "Consent/_history",
    "Patient",
    "Patient/p",
    "Patient/p/_history",
    "Patient/p/Consent",
    "Patient/p/*",
    "Patient/p/$everything",
    "Patient?_has:Consent:patient:status=active",
    "Patient?_id=p&_revinclude=Consent:patient",
    "DocumentReference",
    "DocumentReference?patient=p&_total=accurate",
    "DocumentReference/apt",
    "DocumentReference/apt/_history",
    "DocumentReference/form",
    "DocumentReference?_has:Consent:source-reference:status=active",
    "DocumentReference?_id=apt&_include=*&_revinclude=*",
    "Binary/apt-bytes",
    "Task?patient=p",
    "Task?_summary=count",
    "Provenance",
    "Provenance?target=Consent/c1",
    "AuditEvent?patient=p",
    "AuditEvent?entity=Consent/c1",
    "List",
    "?_type=Consent,DocumentReference,Task,Provenance",
    "?_type=Consent&_summary=count",
    "_history",
)
_OF_THE_MOMENT = re.compile(
    r'"(?:lastUpdated|timestamp|date)":"[^"]*"|urn:uuid:[0-9a-f-]{36}|"id":"[0-9a-f-]{36}"|_page=[^"&]*|"url":"[^"]*page[^"]*"'
)


async def seen(employer: httpx.AsyncClient) -> dict[str, tuple[int, str, str]]:
    """Status, body and ETag of everything that he may ask, without what is of the moment."""
    answers: dict[str, tuple[int, str, str]] = {}
    for path in PATHS:
        answer = await employer.get(f"/fhir/{path}")
        answers[path] = (answer.status_code, _OF_THE_MOMENT.sub("", answer.text), answer.headers.get("etag", ""))
    asked = {"query": "{PatientList{id,ConsentList(_reference:patient){id}} ConsentList{id,status}}"}
    answer = await employer.post("/fhir/$graphql", json=asked)
    answers["$graphql"] = (answer.status_code, answer.text, "")
    return answers


def consent(right: str, **more: Any) -> Resource:
    return {
        "resourceType": "Consent",
        "id": right.lower(),
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": right}]}],
        "patient": {"reference": "Patient/p"},
        "dateTime": datetime.now(UTC).isoformat(),
        "policyRule": {"text": "R4624-45-6"},
        "sourceReference": {"reference": "DocumentReference/form"},
        "provision": {"type": "deny"},
        **more,
    }


def of_kind(name: str, kind: str, heading: str, **more: Any) -> Resource:
    return document_reference(
        "p",
        id=name,
        type={"coding": [{"system": systems.DMST_NOMENCLATURE, "code": kind}]},
        category=[{"coding": [{"system": systems.DMST_CATEGORY, "code": heading}]}],
        **more,
    )


@pytest.fixture
async def doctor(server: Server) -> httpx.AsyncClient:
    http = (await server.client(EVERYTHING, role="medecin-travail")).http
    content = {"attachment": {"contentType": "application/pdf", "url": "Binary/apt-bytes"}}
    await keep(
        http,
        patient("p"),
        of_kind("apt", "DMST-APT", "5", content=[content]),
        of_kind("form", "DMST-CONSENT", "7"),
        of_kind("visit", "DMST-VISITE", "3"),
    )
    headers = {"content-type": "application/pdf", "x-security-context": "DocumentReference/apt"}
    assert (await http.put("/fhir/Binary/apt-bytes", content=b"%PDF-", headers=headers)).status_code == 201
    return http


async def test_every_path_answers_as_if_nothing_had_been_said(server: Server, doctor: httpx.AsyncClient) -> None:
    """Counts, searches, histories, compartments, chains, GraphQL, the trail: the same before and after."""
    employer = (await server.client(EVERYTHING, role="employeur")).http
    nurse = (await server.client(EVERYTHING, role="infirmier")).http
    before = await seen(employer)
    assert before["DocumentReference/apt"][0] == 200, "what he holds too he sees"
    await keep(doctor, *(consent(right) for right in ("C1", "C2", "C3", "C4")))
    assert await found(nurse, "DocumentReference?patient=p") == [], "it is in force"
    task = {
        "resourceType": "Task",
        "id": "t",
        "status": "rejected",
        "statusReason": {"coding": [{"system": systems.DELIVERY_REASON, "code": "transfer-opposed"}]},
        "intent": "order",
        "for": {"reference": "Patient/p"},
        "focus": {"reference": "DocumentReference/apt"},
    }
    step = {
        "resourceType": "Provenance",
        "id": "v",
        "target": [{"reference": "Consent/c1"}],
        "recorded": "2026-01-01T00:00:00Z",
        "agent": [{"who": {"display": "x"}}],
    }
    await keep(doctor, task, step, consent("C1", status="inactive"), consent("C1"))
    assert await seen(employer) == before


async def test_what_is_refused_him_is_refused_alike(server: Server, doctor: httpx.AsyncClient) -> None:
    """A Consent that is there and one that never was, read or written: one answer, but for the id that he gave."""
    employer = (await server.client(EVERYTHING, role="employeur")).http
    await keep(doctor, consent("C1"))
    patch = [{"op": "replace", "path": "/status", "value": "inactive"}]

    async def ask(identity: str) -> list[tuple[int, str]]:
        one = f"/fhir/Consent/{identity}"
        json_patch = {"content-type": "application/json-patch+json"}
        answers = [
            await employer.get(one),
            await employer.head(one),
            await employer.get(f"{one}/_history"),
            await employer.get(f"{one}/_history/1"),
            await employer.get(f"{one}/$meta"),
            await put(employer, {**consent("C1"), "id": identity}),
            await employer.patch(one, content=orjson.dumps(patch), headers=json_patch),
            await employer.delete(one),
            await employer.get(f"/fhir/Consent?_id={identity}"),
            await employer.get(f"/fhir/Consent?_id={identity}&_summary=count"),
            await post(employer, transaction({"request": {"method": "DELETE", "url": f"Consent/{identity}"}})),
            await employer.post(
                f"/fhir/Consent/{identity}/$meta-add",
                json={
                    "resourceType": "Parameters",
                    "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}],
                },
            ),
        ]
        return [(one.status_code, _OF_THE_MOMENT.sub("", one.text).replace(identity, "ID")) for one in answers]

    assert await ask("c1") == await ask("c9")
    assert (await doctor.get("/fhir/Consent/c1")).json()["status"] == "active"


async def test_what_leaves_says_nothing_of_it(service: Parts, provider: Provider) -> None:
    """What goes out bears no trace of it; and no kind of recipient is of the employer's side."""
    await service.lots.receive(provider.lot("100000101"))
    async with asking(service, "medecin-travail") as client:
        worker = (await client.get("/fhir/DocumentReference?_count=1")).json()["entry"][0]["resource"]["subject"]
        for right in ("C1", "C2", "C3", "C4"):
            one = {**consent(right), "patient": worker}
            del one["sourceReference"]
            answer = await client.put(f"/fhir/Consent/{one['id']}", content=orjson.dumps(one), headers=FHIR_JSON)
            assert answer.status_code == 201, answer.text
    await dispatch_all(service)
    kept = [one.read_bytes() for one in service.settings.data.rglob("loopback/**/*.json")]
    assert len(kept) == 4
    assert not [word for word in (b"Consent", b"worker-right", b"oppos") for one in kept if word in one]
