"""What is out of sight tells nothing of itself: not by numbers, not by guesses, not by the words of a refusal."""

import httpx
import pytest

from fhir_server.store.clients import Clients
from fhir_server.store.role_editions import RoleEditions, in_days
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests.rest.operations.bulk import export, kick_off, work
from tests.support import (
    EVERYTHING,
    Resource,
    Server,
    codes,
    document_reference,
    ids_of,
    keep,
    observation,
    patient,
    put,
)

WITHHELD = {"security": [{"system": systems.SECURITY_TAG, "code": "non-transmissible"}]}


def opposition(whose: str, right: str = "C2", **more: object) -> Resource:
    """The Consent of a worker who keeps his record from others."""
    return {
        "resourceType": "Consent",
        "id": f"no-{whose}",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": right}]}],
        "patient": {"reference": f"Patient/{whose}"},
        "dateTime": "2026-01-01",
        "policyRule": {"text": "R4624-45-6"},
        "provision": {"type": "deny"},
        **more,
    }


@pytest.fixture
async def doctor(fhir_client: httpx.AsyncClient, server: Server) -> httpx.AsyncClient:
    """Of two workers one opposes that the nurse sees his record."""
    http = (await server.client(EVERYTHING, role="medecin-travail")).http
    await keep(http, patient("free"), patient("shut"), opposition("shut"))
    return http


@pytest.fixture
async def nurse(doctor: httpx.AsyncClient, server: Server) -> httpx.AsyncClient:
    return (await server.client(EVERYTHING, role="infirmier")).http


async def test_an_opposition_holds_for_every_resource_that_names_the_worker(
    doctor: httpx.AsyncClient, nurse: httpx.AsyncClient
) -> None:
    """A participant, a member, a link, an absolute URL, an identifier: not his subject alone."""
    for whose in ("shut", "free"):
        worker = {"reference": f"Patient/{whose}"}
        await keep(
            doctor,
            {
                "resourceType": "Appointment",
                "id": whose,
                "status": "booked",
                "participant": [{"actor": worker, "status": "accepted"}],
            },
            {"resourceType": "Person", "id": whose, "link": [{"target": worker}]},
            {
                "resourceType": "Group",
                "id": whose,
                "type": "person",
                "actual": True,
                "member": [{"entity": worker}],
            },
            observation(f"{whose}/_history/1", id=whose),
        )
    await keep(
        doctor,
        {**observation("x", id="absolute"), "subject": {"reference": "http://test/fhir/Patient/shut"}},
        {**observation("x", id="logical"), "subject": {"type": "Patient", "identifier": {"value": "1"}}},
    )
    for kind in ("Appointment", "Person", "Group", "Observation"):
        assert ids_of((await nurse.get(f"/fhir/{kind}")).json()) == ["free"]
        assert (await nurse.get(f"/fhir/{kind}/shut")).status_code == 404


async def test_a_total_that_is_estimated_counts_what_is_seen(
    doctor: httpx.AsyncClient, nurse: httpx.AsyncClient, server: Server
) -> None:
    """The planner of PostgreSQL knows how many there are, of which those who ask see none."""
    entries = [
        {"resource": observation(whose), "request": {"method": "POST", "url": "Observation"}}
        for whose in ["shut"] * 1200 + ["free"] * 3
    ]
    await doctor.post("/fhir", json={"resourceType": "Bundle", "type": "transaction", "entry": entries})
    await server.as_owner("analyze")
    for query in ("Observation?", "?_type=Observation,Consent&"):
        assert (await nurse.get(f"/fhir/{query}_total=estimate&_count=1")).json()["total"] == 3, query


async def test_what_is_referred_to_is_not_found_by_guessing(
    doctor: httpx.AsyncClient, nurse: httpx.AsyncClient
) -> None:
    """A reference to what is hidden leads nowhere, as one to what never was; one that stands already may stay."""
    await keep(doctor, observation("shut", id="hidden"), document_reference("free", id="note", meta=WITHHELD))
    told: set[str] = set()
    for name in ("Observation/hidden", "Observation/never", "DocumentReference/note", "DocumentReference/never"):
        answer = await put(nurse, observation("free", id="new", derivedFrom=[{"reference": name}]))
        assert (answer.status_code, codes(answer)) == (422, ["not-found"])
        told.add(answer.text.replace(name, "it"))
        asked = observation("free", derivedFrom=[{"reference": name}])
        assert "not-found" in codes(await nurse.post("/fhir/Observation/$validate?mode=create", json=asked)), name
    assert len(told) == 1
    await keep(doctor, observation("free", id="old", derivedFrom=[{"reference": "DocumentReference/note"}]))
    kept = observation("free", id="old", derivedFrom=[{"reference": "DocumentReference/note"}], language="fr")
    assert (await put(nurse, kept)).status_code == 200


async def test_a_refusal_to_write_says_the_same_of_what_is_hidden_and_of_what_is_not_there(
    doctor: httpx.AsyncClient, server: Server
) -> None:
    """Of a role that may not write such a thing at all: then the words must not tell which ids are taken."""
    await keep(doctor, observation("shut", id="there"))
    for role in ("employeur", "assistant", "medecin-inspecteur"):
        http = (await server.client(EVERYTHING, role=role)).http
        there, never = [await put(http, observation("free", id=one)) for one in ("there", "never")]
        assert (there.status_code, there.text) == (403, never.text.replace("never", "there"))


async def test_an_earlier_version_is_in_the_record_that_it_was_in(
    doctor: httpx.AsyncClient, nurse: httpx.AsyncClient
) -> None:
    """What was filed under a worker who opposes, by mistake or not, is not shown since it is filed elsewhere."""
    await keep(
        doctor, observation("shut", id="o", valueString="FIRST"), observation("free", id="o", valueString="THEN")
    )
    for path in ("Observation/o/_history", "Observation/_history", "_history?_total=accurate"):
        told = await nurse.get(f"/fhir/{path}")
        assert [word in told.text for word in ("THEN", "FIRST")] == [True, False], path
        assert "FIRST" in (await doctor.get(f"/fhir/{path}")).text
    never = await nurse.get("/fhir/Observation/o/_history/7")
    answer = await nurse.get("/fhir/Observation/o/_history/1")
    assert (answer.status_code, answer.text) == (404, never.text)
    assert (await nurse.get("/fhir/Observation/o/$diff?fromVersion=1")).status_code == 404


async def test_a_file_of_an_export_is_not_handed_out_once_something_in_it_is_withheld(
    doctor: httpx.AsyncClient, nurse: httpx.AsyncClient, server: Server
) -> None:
    """From the commit on that withholds it, the file is closed; what was hidden all the time closes nothing."""
    await keep(doctor, observation("free", id="o"), observation("free", id="secret", meta=WITHHELD), patient("third"))
    done = await export(server, nurse, "$export?_type=Observation,Patient,Organization")
    files = {one["type"]: one["url"] for one in done.manifest["output"]}
    await keep(doctor, observation("free", id="secret", meta=WITHHELD, language="fr"), observation("free", id="new"))
    assert (await nurse.get(files["Observation"])).status_code == 200
    await keep(doctor, observation("free", id="o", meta=WITHHELD))
    answer = await nurse.get(files["Observation"])
    assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    assert (await nurse.get(files["Patient"])).status_code == 200
    again = await export(server, nurse, "$export?_type=Patient")
    await keep(doctor, opposition("third"))
    assert (await nurse.get(again.manifest["output"][0]["url"])).status_code == 403


async def test_a_delegation_that_has_ended_ends_the_export(doctor: httpx.AsyncClient, server: Server) -> None:
    """Before it is worked on: nothing of a worker is in it. After that: its files are closed."""
    editions = RoleEditions(server.database)
    assistant = await server.client(EVERYTHING, role="assistant")
    await editions.delegate(assistant.client_id, "Dr Test", *in_days(1))
    done = await export(server, assistant.http, "$export?_type=Patient")
    ((file,),) = [done.manifest["output"]]
    waiting = await kick_off(assistant.http, "$export?_type=Patient")
    await editions.end(assistant.client_id)
    await work(server)
    assert (await assistant.http.get(waiting)).json()["output"] == []
    clients = Clients(server.database)
    token, _ = await clients.give_token(assistant.client_id, EVERYTHING, 15)  # nobody remembers this one
    later = await server.http({"authorization": f"Bearer {token}"})
    assert (await later.get(file["url"])).status_code == 403
