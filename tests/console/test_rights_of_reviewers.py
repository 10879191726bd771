"""What the law and the service keep from a person who reviews, and that each refusal is in the trail."""

import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from fhir_server.caller import Caller
from fhir_server.console.references import References
from fhir_server.console.rendering import page
from fhir_server.console.routes import MOST_NAMED, _few  # pyright: ignore[reportPrivateUsage]
from fhir_server.settings import Settings
from mappings.consent import WORKER_RIGHT
from tests.console.support import ASSISTANT, DOCTOR, NURSE, Office, Person
from tests.console.support import office as working
from tests.console.test_review_queue import undo_of
from tests.peers.oidc_provider import AuthlibProvider

NOBODY: dict[str, Any] = {"caller": Caller("person:x", "X", "infirmier", (), "TREAT"), "csrf": "c", "left": "5 min"}
ALLOWED = 60
"""Requests of a person in a minute."""


@pytest.fixture
async def office(
    make_settings: Callable[..., Settings], tmp_path: Path, people: AuthlibProvider
) -> AsyncIterator[Office]:
    async with working(make_settings, tmp_path, people, person_requests_per_minute=ALLOWED) as one:
        yield one


async def oppose(office: Office, worker: str) -> None:
    """This worker keeps his record from those under the doctor (C2)."""
    consent = {
        "resourceType": "Consent",
        "id": "opposed",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": "C2"}]}],
        "patient": {"reference": f"Patient/{worker}"},
        "dateTime": "2026-01-01",
        "policyRule": {"text": "R4624-45-6"},
        "provision": {"type": "deny"},
    }
    http = (await office.server.client(["system/*.cruds"], role="medecin-travail")).http
    assert (await http.put("/fhir/Consent/opposed", json=consent)).status_code == 201


async def pages(person: Person, folder: str) -> list[int]:
    return [(await person.get(f"{folder}/pages/{number}/1")).status_code for number in (1, 2)]


async def test_rights_hold_in_the_console(office: Office) -> None:
    nurse, doctor, assistant = [await office.person(who) for who in (NURSE, DOCTOR, ASSISTANT)]
    opened = await nurse.open("100000106")
    worker = opened.fields("attach")["patient"]
    assert await pages(nurse, opened.folder) == [200, 200]

    await oppose(office, worker)
    opened = await nurse.open("100000106")
    assert "PATRON SANDRINE" in opened.text, "who he is is no secret"
    assert (await nurse.get(f"{opened.folder}/zone")).status_code == 200
    assert "réservé au médecin du travail" in opened.text
    assert "&amp;doc=" not in opened.text
    assert await pages(nurse, opened.folder) == [403, 403]
    assert (NURSE, "read", 4, "review=page&document=2&page=1") in await office.trail("review=page%")
    assert "ne peut pas être montrée" in (await nurse.get(f"{opened.href}&doc=2&page=1")).text
    assert await pages(doctor, opened.folder) == [200, 200]
    assert (await opened.send("not-this-worker")).status_code == 303
    assert await pages(nurse, opened.folder) == [403, 403], "his own word opens nothing to him"
    taken = undo_of((await nurse.get("/console/decisions")).text)
    assert (await nurse.http.post("/console/annulations", data=taken)).status_code == 303
    assert (await (await doctor.open("100000106")).send("not-this-worker")).status_code == 303
    assert await pages(nurse, opened.folder) == [200, 200], "the doctor says that it is not his"
    taken = undo_of((await doctor.get("/console/decisions")).text)
    assert (await doctor.http.post("/console/annulations", data=taken)).status_code == 303

    before = len(await office.trail("review"))
    assert (await (await nurse.open("100000106")).send("attach")).status_code == 303
    mine = await nurse.open("100000106")
    revision = re.findall(r'name="seen" value="(\d+)"', mine.text)[0]
    assert (await mine.send("confirm", seen=revision)).status_code == 403
    refused = [row for row in (await office.trail("review"))[before:] if row[2] == 4]
    assert refused == [(NURSE, "operation", 4, "review")], "one person gives one opinion, and the attempt is told"

    theirs = await doctor.open("100000106")
    twice = [await theirs.send("confirm") for _ in range(2)]
    taken = undo_of((await doctor.get(twice[1].headers["location"])).text)
    undone = await doctor.http.post("/console/annulations", data=taken)
    assert undone.status_code == 303, "a form that was sent twice can be taken back"

    flagging = await (await doctor.open("100000107")).send("non-transmissible", document="100000107_0002")
    assert flagging.status_code == 303
    ((flag,),) = await office.server.rows("select event_id from identity_event where kind = 'non-transmissible'")
    references = References(await office.parts.clients.key("console"))
    his = await assistant.open("100000107")
    forged = {**his.forged("undo"), "folder": his.folder, "event": references.seal("event", flag, "non-transmissible")}
    assert (await assistant.http.post("/console/annulations", data=forged)).status_code == 403
    assert (ASSISTANT, "operation", 4, "review") in await office.trail("review")

    taken = undo_of((await doctor.get("/console/decisions")).text)
    assert (await doctor.http.post("/console/annulations", data=taken)).status_code == 303
    assert f"annulation, {DOCTOR}" in (await nurse.open("100000107")).text
    assert f"annulation, {DOCTOR}" not in (await assistant.open("100000107")).text, "nor that something was flagged"

    answers = [await assistant.http.get("/console/dossiers/none") for _ in range(ALLOWED)]
    assert answers[-1].status_code == 429
    assert "Trop de demandes" in answers[-1].text
    assert int(answers[-1].headers["retry-after"]) >= 1


def test_a_name_does_not_turn_the_words_beside_it_around() -> None:
    """Overrides and embeddings of direction (UAX 9) are shown as something that is not a letter; markup is text."""
    told = page("failure.html", "", title="T", text="DURAND\u202e\u2066<b>, qualifiée", **NOBODY, again=None).body
    assert "DURAND\ufffd\ufffd&lt;b&gt;, qualifiée" in bytes(told).decode()


def test_many_recipients_fit_into_an_address() -> None:
    """What is longer than a sealed word may be would not be told at all."""
    names = [f"{number}.{'x' * 300}@mssante.fr" for number in range(60)]
    references = References(bytes(64))
    told = references.open("said", references.seal("said", "undo", None, None, _few(names)))[-1]
    assert told.count(", ") == MOST_NAMED - 1
    assert told.endswith("et 56\u202fautres")
    assert _few(["a", "b"]) == "a, b"
