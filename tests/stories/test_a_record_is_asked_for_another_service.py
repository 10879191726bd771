"""A6 of the acceptance scenarios: a worker opposes that another service has his record (C3); R4624-45-6 2°, R4624-45-7.

The other service is played by the loopback adapter.
"""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.app import Parts
from fhir_server.settings import Settings
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests.stories.conftest import LOOPBACK
from tests.stories.support import Provider, asking, count, dispatch_all, running_service

FHIR_JSON = {"content-type": "application/fhir+json"}
OTHER = """
[[recipient]]
name = "spst-voisin"
kind = "autre-spst"
adapter = "loopback"
"""
ASKED = {"resourceType": "Parameters", "parameter": [{"name": "recipient", "valueString": "spst-voisin"}]}


@pytest.fixture
async def with_neighbour(world: Settings, provider: Provider) -> AsyncIterator[tuple[Parts, httpx.AsyncClient, str]]:
    """A service that knows another one, the doctor's client, and a worker with a scanned folder and a vaccination."""
    assert world.recipients
    world.recipients.write_text(LOOPBACK + OTHER, encoding="utf-8")
    async with running_service(world) as service, asking(service, "medecin-travail") as doctor:
        await service.lots.receive(provider.lot("100000101"))
        found = (await doctor.get("/fhir/DocumentReference?_count=1")).json()["entry"][0]["resource"]
        worker = found["subject"]["reference"]
        binary = await doctor.post("/fhir/Binary", content=b"%PDF-1.7", headers={"content-type": "application/pdf"})
        vaccination = {
            **{name: found[name] for name in ("resourceType", "status", "subject")},
            "type": {"coding": [{"system": systems.DMST_NOMENCLATURE, "code": "DMST-VACC"}]},
            "category": [{"coding": [{"system": systems.DMST_CATEGORY, "code": "3"}]}],
            "content": [
                {
                    "attachment": {
                        "contentType": "application/pdf",
                        "url": binary.headers["location"].partition("/fhir/")[2].partition("/_history")[0],
                    }
                }
            ],
        }
        made = await doctor.post("/fhir/DocumentReference", content=orjson.dumps(vaccination), headers=FHIR_JSON)
        assert made.status_code == 201, made.text
        yield service, doctor, worker


async def oppose(doctor: httpx.AsyncClient, worker: str, **more: Any) -> None:
    consent = {
        "resourceType": "Consent",
        "id": "c3",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": "C3"}]}],
        "patient": {"reference": worker},
        "dateTime": datetime.now(UTC).isoformat(),
        "policyRule": {"text": "R4624-45-6"},
        "provision": {"type": "deny"},
        **more,
    }
    answer = await doctor.put("/fhir/Consent/c3", content=orjson.dumps(consent), headers=FHIR_JSON)
    assert answer.status_code in (200, 201), answer.text


async def kinds_over_there(world: Settings) -> list[str]:
    kept = [orjson.loads(one.read_bytes()) for one in world.data.rglob("spst-voisin/*.json")]
    return sorted(one["type"]["coding"][-1]["code"] for one in kept)


async def test_a6_a_transfer_that_the_worker_opposes_is_refused_at_the_door(
    with_neighbour: tuple[Parts, httpx.AsyncClient, str], world: Settings
) -> None:
    """A stable code, a trace of the decision, and not one delivery; once he has withdrawn it, the record goes."""
    service, doctor, worker = with_neighbour
    assert await count(service, "delivery where recipient = 'spst-voisin'") == 0, "nothing goes there by itself"
    await oppose(doctor, worker)
    refused = await doctor.post(f"/fhir/{worker}/$transfer", json=ASKED)
    (issue,) = refused.json()["issue"]
    assert (refused.status_code, issue["code"]) == (422, "business-rule")
    assert issue["details"]["coding"] == [{"system": systems.DELIVERY_REASON, "code": "transfer-opposed"}]
    assert await count(service, "delivery where recipient = 'spst-voisin'") == 0
    assert await count(service, "access where interaction = 'consent-decision' and recipient = 'spst-voisin'") == 1
    await oppose(doctor, worker, status="inactive")
    asked = await doctor.post(f"/fhir/{worker}/$transfer", json=ASKED)
    assert asked.status_code == 200, asked.text
    tasks = [one["valueReference"]["reference"] for one in asked.json()["parameter"] if one["name"] == "task"]
    assert (await doctor.get(f"/fhir/{tasks[0]}")).json()["status"] == "requested"
    await dispatch_all(service)
    assert await kinds_over_there(world) == ["DMST-APT", "DMST-AUDIO", "DMST-COUV", "DMST-VACC", "DMST-VISITE"]
    assert len(tasks) == 5


async def test_a6_an_opposition_stops_what_waits_and_a_new_request_starts_it_again(
    with_neighbour: tuple[Parts, httpx.AsyncClient, str], world: Settings
) -> None:
    """Asked again at the last moment, before each document leaves."""
    service, doctor, worker = with_neighbour
    assert (await doctor.post(f"/fhir/{worker}/$transfer", json=ASKED)).status_code == 200
    await oppose(doctor, worker)
    await dispatch_all(service)
    opposed = "delivery where recipient = 'spst-voisin' and state = 'withheld' and reason = 'transfer-opposed'"
    assert (await count(service, opposed), await kinds_over_there(world)) == (5, [])
    assert await count(service, "delivery where recipient = 'logiciel-metier' and state = 'handed_over'") == 4
    await oppose(doctor, worker, status="inactive")
    assert (await doctor.post(f"/fhir/{worker}/$transfer", json=ASKED)).status_code == 200
    await dispatch_all(service)
    assert len(await kinds_over_there(world)) == 5


async def test_a6_the_minimal_set_goes_only_where_the_service_has_that_rule(
    with_neighbour: tuple[Parts, httpx.AsyncClient, str], world: Settings
) -> None:
    """R4626-33: vaccinations, and the other documents are told with their reason."""
    _, doctor, worker = with_neighbour
    await oppose(doctor, worker)
    minimal = world.model_copy(update={"transfer_minimal_set": True})
    async with running_service(minimal) as service, asking(service, "medecin-travail") as same_doctor:
        asked = (await same_doctor.post(f"/fhir/{worker}/$transfer", json=ASKED)).json()["parameter"]
        reasons = [one["part"][1]["valueCode"] for one in asked if one["name"] == "withheld"]
        assert (len(asked), reasons) == (5, ["transfer-opposed"] * 4)
        await dispatch_all(service)
    assert await kinds_over_there(world) == ["DMST-VACC"]


async def test_who_does_not_see_the_record_hands_nothing_over(
    with_neighbour: tuple[Parts, httpx.AsyncClient, str],
) -> None:
    """Nor does anybody learn from a refusal what he does not see."""
    service, doctor, worker = with_neighbour
    await oppose(doctor, worker)
    for role, statuses in (
        ("employeur", (404,)),
        ("direction", (404,)),
        ("assistant", (404,)),
        ("medecin-inspecteur", (404,)),
        ("device-gateway", (403,)),
    ):
        async with asking(service, role) as client:
            answer = await client.post(f"/fhir/{worker}/$transfer", json=ASKED)
            assert (answer.status_code in statuses, "opposed" in answer.text) == (True, False), (role, answer.text)
    for wrong in ("logiciel-metier", "nobody"):
        asked = {"resourceType": "Parameters", "parameter": [{"name": "recipient", "valueString": wrong}]}
        assert (await doctor.post(f"/fhir/{worker}/$transfer", json=asked)).status_code == 400
    assert (await doctor.post("/fhir/Patient/nobody/$transfer", json=ASKED)).status_code == 404
