"""A4 in part: whose folder it is, decided by persons, taken back, decided anew; both sides are as before.

docs/review.md. Nothing of a worker's record tells of the other one, on no path, earlier versions included.
"""

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from fhir_server.app import Parts, make_dispatcher
from fhir_server.caller import Caller, service
from fhir_server.evidence import report
from fhir_server.identity.decisions import Decision
from fhir_server.intake.labels import labelled_pairs
from fhir_server.intake.register import patient_id_of
from fhir_server.intake.review import Filters
from fhir_server.outcomes import BadParameter, BusinessRule, Conflict, Forbidden, NotFound
from fhir_server.ports import Answer, Envelope, HandedOver
from fhir_server.r4.resource_types import TYPE_NUMBER
from fhir_server.records.identifiers import stable_id
from fhir_server.settings import Settings
from fhir_server.store.identity_events import IdentityEvents
from fhir_server.store.outbox_rows import left_deliveries
from mappings.filing import UNFILED
from tests.stories.support import SAMPLES, Provider, asking, count, dmst_fhir, running_service

CLAIRE, JULIEN, SANDRINE = (patient_id_of(number) for number in ("100000101", "100000102", "100000106"))


def person(name: str, role: str = "medecin-travail", **more: Any) -> Caller:
    return Caller(f"person:{name}", name, role, ("system/*.cruds",), "TREAT", professional=name, **more)


ANNE, PAUL = person("89970000108"), person("89970000207", "infirmier")
OPERATOR = replace(service("review"), professional="jdurand")


@pytest.fixture
async def client(service: Parts) -> AsyncIterator[httpx.AsyncClient]:
    async with asking(service) as one:
        yield one


async def everything(client: httpx.AsyncClient, patient: str) -> dict[str, Any]:
    """What a client finds of a worker: his documents, tasks, and what names him."""
    found: dict[str, Any] = {}
    for asked in (
        f"DocumentReference?patient=Patient/{patient}",
        f"Task?patient=Patient/{patient}",
        f"List?subject=Patient/{patient}",
        f"Patient/{patient}/$everything?_count=200",
    ):
        for entry in (await client.get(f"/fhir/{asked}")).json().get("entry", []):
            resource = entry["resource"]
            found[f"{resource['resourceType']}/{resource['id']}"] = resource
    return found


def without_its_story(found: dict[str, Any]) -> dict[str, Any]:
    """The same without the Provenance of a removal, and the service that it names."""
    return {name: one for name, one in found.items() if not name.startswith(("Provenance/", "Organization/"))}


async def attached(service: Parts, lot: str, barcode: str) -> int:
    """The event by which the folder was attached last."""
    events = await IdentityEvents(service.database).of_folder(lot, barcode)
    return [event.event_id for event in events if event.kind == "attach"][-1]


async def test_a_filing_that_is_taken_back_was_never_there(service: Parts, provider: Provider, client: Any) -> None:
    """A4: after the undo nothing is found or read, under no id and in no version; filed anew it has the same ids."""
    before = {worker: await everything(client, worker) for worker in (CLAIRE, JULIEN)}
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    filed = await everything(client, CLAIRE)
    documents = sorted(name for name in filed if name.startswith(("DocumentReference/", "List/")))
    binaries = [f["content"][0]["attachment"]["url"] for n, f in filed.items() if n.startswith("DocumentReference/")]
    assert len(documents) == 5
    event = await attached(service, lot, "100000101")

    undone = await service.review.undo(ANNE, event, "wrong-worker", note="vu à la visite")
    assert undone.recall == ()
    after = await everything(client, CLAIRE)
    assert without_its_story(after) == without_its_story(before[CLAIRE])
    assert sum(name.startswith("Provenance/") for name in after) == 1
    for name in (*documents, *binaries):
        for path in (name, f"{name}/_history/1", f"{name}/_history/2", f"{name}/_history"):
            assert (await client.get(f"/fhir/{path}")).status_code == 404, path
    assert (await client.get("/fhir/DocumentReference?_total=accurate")).json()["total"] == 0
    assert (await client.get("/fhir/DocumentReference/_history?_total=accurate")).json()["total"] == 0
    (lot_list,) = (await client.get(f"/fhir/List?identifier={lot}")).json()["entry"]
    assert "entry" not in lot_list["resource"]

    item = await service.review.item(PAUL, lot, "100000101")
    assert [one.patient_id for one in item.candidates] == [CLAIRE]
    assert [one.kind for one in item.events] == ["attach", "undo"]
    await service.review.decide(PAUL, lot, "100000101", Decision("attach", JULIEN, seen=item.revision))
    now = await everything(client, JULIEN)
    assert sorted(name for name in now if name.startswith(("DocumentReference/", "List/"))) == documents
    assert await everything(client, CLAIRE) == after
    for name in documents:
        read = (await client.get(f"/fhir/{name}")).json()
        assert read["meta"]["versionId"] == "3"
        history = (await client.get(f"/fhir/{name}/_history")).json()
        assert [entry["resource"]["meta"]["versionId"] for entry in history["entry"]] == ["3"]
        assert history["total"] == 1
        assert (await client.get(f"/fhir/{name}/_history/1")).status_code == 404
        assert CLAIRE not in str(history)
        assert "BEAUTEST" not in str(history)
    for name in binaries:
        assert (await client.get(f"/fhir/{name}")).status_code == 200
    assert (await report(service, next(name for name in documents if name.startswith("Doc")))).passed


async def test_each_record_tells_its_own_side(service: Parts, provider: Provider, client: Any) -> None:
    """The wrong worker's Provenance says that something was taken out, the documents' that a filing was undone."""
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    first = (await client.get(f"/fhir/DocumentReference?patient=Patient/{CLAIRE}&_count=2")).json()
    (following,) = [link["url"] for link in first["link"] if link["relation"] == "next"]
    await service.review.undo(ANNE, await attached(service, lot, "100000101"), "wrong-worker")
    assert "entry" not in (await client.get(following)).json()
    await service.review.decide(ANNE, lot, "100000101", Decision("attach", JULIEN))
    assert "entry" not in (await client.get(following)).json(), "a page of then shows what is disclosed now"
    found = (await client.get("/fhir/Provenance?_count=100")).json()["entry"]
    told = [entry["resource"] for entry in found]
    of_claire = [one for one in told if f"Patient/{CLAIRE}" in str(one)]
    (removal,) = of_claire
    assert [target["reference"] for target in removal["target"]] == [f"Patient/{CLAIRE}"]
    assert removal["activity"]["coding"][0]["code"] == "unlink"
    assert removal["agent"][0]["who"]["identifier"]["value"] == "89970000108"
    assert removal["reason"][0]["coding"][0]["code"] == "wrong-worker"
    assert "DocumentReference" not in str(removal)
    assert JULIEN not in str(removal)
    chain = [one["activity"]["coding"][0]["code"] for one in told if "DocumentReference" in str(one["target"])]
    assert sorted(chain) == ["link", "originate", "receive", "unlink", "verify"]
    link = next(one for one in told if one["activity"]["coding"][0]["code"] == "link")
    assert link["entity"][0]["what"]["reference"] == f"Patient/{JULIEN}"
    history = (await client.get("/fhir/Provenance/_history?_count=200")).json()["entry"]
    assert sum(f"Patient/{CLAIRE}" in str(entry["resource"]) for entry in history) == 1


class Recipient:
    """Takes everything."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []

    async def send(self, envelope: Envelope) -> Answer:
        self.taken.append((envelope.document_reference["id"], envelope.patient["id"]))
        return HandedOver(f"there-{len(self.taken)}")

    async def close(self) -> None:
        """Nothing is open."""


async def test_what_was_made_of_a_document_goes_with_it(service: Parts, provider: Provider, client: Any) -> None:
    """Renditions, and what others derived from a document: out of the record, and into the right one."""
    lot = (await service.lots.receive(provider.lot("100000103"))).lot
    malika = patient_id_of("100000103")
    filed = [one for name, one in (await everything(client, malika)).items() if name.startswith("DocumentReference/")]
    original = next(one for one in filed if "relatesTo" not in one)
    derived = {name: part for name, part in original.items() if name not in ("id", "meta", "masterIdentifier")}
    derived["relatesTo"] = [{"code": "transforms", "target": {"reference": f"DocumentReference/{original['id']}"}}]
    made = (await client.post("/fhir/DocumentReference", json=derived)).json()["id"]
    elsewhere = {"resourceType": "List", "status": "current", "mode": "working"}
    elsewhere["entry"] = [{"item": {"reference": f"DocumentReference/{original['id']}"}}]  # pyright: ignore[reportArgumentType]
    other = (await client.post("/fhir/List", json=elsewhere)).json()["id"]
    undone = await service.review.undo(ANNE, await attached(service, lot, "100000103"))
    assert undone.referring == (f"List/{other}",)
    for identity in (made, *(one["id"] for one in filed)):
        assert (await client.get(f"/fhir/DocumentReference/{identity}")).status_code == 404
    await service.review.decide(ANNE, lot, "100000103", Decision("attach", JULIEN))
    found = (await client.get(f"/fhir/DocumentReference?patient=Patient/{JULIEN}&_count=50")).json()["entry"]
    assert {entry["resource"]["id"] for entry in found} == {made, *(one["id"] for one in filed)}
    assert malika not in str(found)
    assert "ECHANTILLON" not in str(found)
    told = (await client.get("/fhir/Provenance?_count=100")).json()["entry"]
    steps = [entry["resource"]["activity"]["coding"][0]["code"] for entry in told]
    assert steps.count("transform") == 1


async def test_a_redacted_document_stays_redacted(service: Parts, provider: Provider, client: Any) -> None:
    """A page taken out under the wrong worker is out under the right one, and the derivative is what leaves."""
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    found = (await client.get(f"/fhir/DocumentReference?patient=Patient/{CLAIRE}")).json()["entry"]
    name = next(
        entry["resource"]["id"]
        for entry in found
        if any(one.get("valuePositiveInt", 0) > 1 for one in entry["resource"]["content"][0]["attachment"]["extension"])
    )
    asked = {"resourceType": "Parameters", "parameter": []}
    asked["parameter"] = [{"name": "page", "valuePositiveInt": 1}, {"name": "reason", "valueCode": "tiers"}]  # pyright: ignore[reportArgumentType]
    redacted = await client.post(f"/fhir/DocumentReference/{name}/$redact", json=asked)
    assert redacted.status_code < 300, redacted.text
    await service.review.undo(ANNE, await attached(service, lot, "100000101"))
    await service.review.decide(ANNE, lot, "100000101", Decision("attach", JULIEN))
    now = (await client.get(f"/fhir/DocumentReference?patient=Patient/{JULIEN}")).json()["entry"]
    assert len(now) == 4
    (made,) = [entry["resource"] for entry in now if entry["resource"].get("relatesTo")]
    assert made["relatesTo"][0]["target"]["reference"] == f"DocumentReference/{name}"
    assert (await client.get(f"/fhir/DocumentReference/{name}")).status_code == 404
    where = f"delivery where document_reference_id = '{made['id']}' and withdrawn is null and patient_id = '{JULIEN}'"
    assert await count(service, where) == 2


async def test_nobody_hides_a_document_by_that_label(service: Parts, provider: Provider, client: Any) -> None:
    """It is set by a decision, and by nothing else: not by a doctor, not by a machine."""
    await service.lots.receive(provider.lot("100000101"))
    name = next(one for one in await everything(client, CLAIRE) if one.startswith("DocumentReference/"))
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": [UNFILED]}}]}
    assert (await client.post(f"/fhir/{name}/$meta-add", json=meta)).status_code == 403
    assert (await client.get(f"/fhir/{name}")).status_code == 200


async def test_what_was_deleted_meanwhile(service: Parts, provider: Provider, client: Any) -> None:
    """A document that somebody deleted from the wrong record is filed with the others in the right one."""
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    await service.review.undo(ANNE, await attached(service, lot, "100000101"))
    row = (await service.review.item(ANNE, lot, "100000101")).documents[0]
    key = TYPE_NUMBER["DocumentReference"], stable_id("document", lot, row.document_id)
    async with service.database.connection() as connection:
        await connection.execute(b"update resource set deleted = true, doc = null where type = %s and id = %s", key)
    await service.review.decide(ANNE, lot, "100000101", Decision("attach", JULIEN))
    assert (await client.get(f"/fhir/DocumentReference/{key[1]}")).status_code == 200


async def test_what_waits_is_withheld_and_what_left_is_listed(service: Parts, provider: Provider, client: Any) -> None:
    """One document has left: it is on the list to recall. The others never leave under the wrong name."""
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    recipient = Recipient()
    dispatcher = make_dispatcher(service, {"logiciel-metier": recipient})  # pyright: ignore[reportArgumentType]
    statement = b"select delivery_id::text, document_reference_id from delivery where recipient = 'logiciel-metier'"
    async with service.database.connection() as connection:
        waiting = await (await connection.execute(statement)).fetchall()
    await dispatcher.dispatch(waiting[0][0])
    undone = await service.review.undo(ANNE, await attached(service, lot, "100000101"), "wrong-worker")
    assert [(row.document_reference_id, row.remote_id) for row in undone.recall] == [(waiting[0][1], "there-1")]
    for delivery, _ in waiting:
        await dispatcher.dispatch(delivery)
    assert len(recipient.taken) == 1
    assert await count(service, "delivery where state = 'pending'") == 0
    await service.review.decide(ANNE, lot, "100000101", Decision("attach", JULIEN))
    async with service.database.connection() as connection:
        new = await (await connection.execute(statement + b" and state = 'pending'")).fetchall()
    assert len(new) == 4
    for delivery, _ in new:
        await dispatcher.dispatch(delivery)
    assert {patient for _, patient in recipient.taken[1:]} == {JULIEN}
    left = await left_deliveries(service.database, document=waiting[0][1], patient=None)
    assert [row.patient_id for row in left] == [CLAIRE, JULIEN]
    assert not [name for name in await everything(client, CLAIRE) if name.startswith("Task/")]


async def test_flags_of_a_doctor_outlive_the_undo(service: Parts, provider: Provider, client: Any) -> None:
    """A page that was made non-transmissible under the wrong worker is so under the right one."""
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    name = next(one for one in await everything(client, CLAIRE) if one.startswith("DocumentReference/"))
    flag = {"system": "https://dmst-fhir.org/ns/CodeSystem/security-tag", "code": "non-transmissible"}
    meta = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": [flag]}}]}
    assert (await client.post(f"/fhir/{name}/$meta-add", json=meta)).status_code == 200
    await service.review.undo(ANNE, await attached(service, lot, "100000101"))
    await service.review.decide(ANNE, lot, "100000101", Decision("attach", JULIEN))
    assert (await client.get(f"/fhir/{name}")).status_code == 404
    assert (await client.get(f"/fhir/DocumentReference?patient=Patient/{JULIEN}&_total=accurate")).json()["total"] == 3


async def test_a_document_is_flagged_before_it_is_filed(service: Parts, provider: Provider, client: Any) -> None:
    """Non-transmissible: a decision on the folder, carried to the DocumentReference; only the doctor takes it back."""
    lot = (await service.lots.receive(provider.lot("100000107"))).lot
    item = await service.review.item(ANNE, lot, "100000107")
    document = item.documents[0]
    with pytest.raises(BadParameter):
        await service.review.decide(
            ANNE, lot, "100000107", Decision("non-transmissible", documents={document.document_id: (999,)})
        )
    flagged = await service.review.decide(
        PAUL, lot, "100000107", Decision("non-transmissible", documents={document.document_id: (1,)})
    )
    assert (await service.review.item(PAUL, lot, "100000107")).flagged == {document.document_id: (1,)}
    with pytest.raises(Forbidden):
        await service.review.undo(PAUL, flagged.event_id)
    done = await service.review.decide(ANNE, lot, "100000107", Decision("attach", JULIEN))
    assert done.second_opinion == ("guard",), "the given name is that of a twin"
    await service.review.decide(PAUL, lot, "100000107", Decision("confirm"))
    shown = (await client.get(f"/fhir/DocumentReference?patient=Patient/{JULIEN}&_total=accurate")).json()["total"]
    assert shown == len(item.documents) - 1


async def test_a_second_person_must_agree(service: Parts, provider: Provider, client: Any) -> None:
    """A provisional identity: the first decision takes effect when another person confirms it; both are named."""
    lot = (await service.lots.receive(provider.lot("100000106"))).lot
    asked = await service.review.decide(ANNE, lot, "100000106", Decision("attach", SANDRINE, note="lu"))
    assert (asked.state, asked.second_opinion) == ("second-opinion", ("PROV",))
    assert (await everything(client, SANDRINE)).keys() == {f"Patient/{SANDRINE}"}
    with pytest.raises(Forbidden):
        await service.review.decide(ANNE, lot, "100000106", Decision("confirm"))
    with pytest.raises(Conflict):
        await service.review.decide(PAUL, lot, "100000106", Decision("attach", SANDRINE))
    refused = await service.review.decide(PAUL, lot, "100000106", Decision("disagree"))
    assert refused.state == "to-review"
    await service.review.decide(PAUL, lot, "100000106", Decision("attach", SANDRINE))
    done = await service.review.decide(ANNE, lot, "100000106", Decision("confirm"))
    assert done.state == "accepted"
    found = (await client.get("/fhir/Provenance?_count=100")).json()["entry"]
    (link,) = [e["resource"] for e in found if e["resource"]["activity"]["coding"][0]["code"] == "link"]
    assert [agent["who"]["identifier"]["value"] for agent in link["agent"]] == ["89970000207", "89970000108"]
    kinds = [one.kind for one in await IdentityEvents(service.database).of_folder(lot, "100000106")]
    assert kinds[-2:] == ["second-opinion-given", "attach"]


async def test_the_queue_and_what_a_person_sets_aside(service: Parts, provider: Provider) -> None:
    """Dismissed: not proposed again. Not in the register: waits until he is. Several workers: back to the provider."""
    answer = await service.lots.receive(provider.lot("100000104", "100000106", "100000107"))
    lot = answer.lot
    first = await service.review.waiting(OPERATOR, count=2)
    second = await service.review.waiting(OPERATOR, after=first.next, count=2)
    assert len(first.folders) == 2
    assert second.next is None
    names = {one.barcode for one in (*first.folders, *second.folders)}
    assert names == {"100000104", "100000106", "100000107"}
    assert {one.barcode for one in (await service.review.waiting(ANNE, Filters(code="E13"))).folders} == {"100000104"}

    dismissed = await service.review.decide(ANNE, lot, "100000106", Decision("not-this-worker", SANDRINE))
    assert SANDRINE not in [one.patient_id for one in (await service.review.item(ANNE, lot, "100000106")).candidates]
    await service.review.undo(PAUL, dismissed.event_id)
    assert SANDRINE in [one.patient_id for one in (await service.review.item(ANNE, lot, "100000106")).candidates]

    aside = await service.review.decide(ANNE, lot, "100000106", Decision("not-in-register"))
    assert aside.state == "aside"
    assert await service.review.look_again() == 0, "nobody is new"
    await service.review.decide(ANNE, lot, "100000106", Decision("back-to-review"))

    gone = await service.review.decide(ANNE, lot, "100000104", Decision("several-workers"))
    told = {one.barcode: one for one in (await service.review.acknowledge(lot)).folders}
    assert told["100000104"].state == "rejected"
    assert told["100000104"].problems[0].code == "E13"
    await service.review.undo(ANNE, gone.event_id)
    told = {one.barcode: one for one in (await service.review.acknowledge(lot)).folders}
    assert told["100000104"].state == "to-review"


async def test_a_worker_who_is_registered_later_brings_his_folder_back(service: Parts, provider: Provider) -> None:
    """The folder of somebody whom the register did not know."""

    def strange(description: dict[str, Any]) -> None:
        for name in ("ins", "ins_oid", "worker_number"):
            description["folder"][0].pop(name, None)
        description["folder"][0] |= {"barcode": "100000990", "birth_name": "NOUVEAU", "birth_date": "1991-02-03"}

    lot = (await service.lots.receive(provider.lot("100000102", change=strange))).lot
    await service.review.decide(ANNE, lot, "100000990", Decision("not-in-register"))
    with pytest.raises(Conflict):
        await service.review.decide(PAUL, lot, "100000990", Decision("not-in-register"))
    header = (
        "numero_dossier;nom_naissance;nom_utilise;prenoms;date_naissance;sexe;lieu_naissance;matricule_ins;oid_ins;"
        "statut_identite;attributs;employeur;siret;centre;medecin;rpps;derniere_visite\n"
    )
    line = "100000990;NOUVEAU;;JULIEN;03/02/1991;M;69383;;;VALI;;Exemple;00000000200014;C07;;;\n"
    await service.register.import_csv((header + line).encode())
    assert await service.review.look_again() == 1
    item = await service.review.item(ANNE, lot, "100000990")
    assert patient_id_of("100000990") in [one.patient_id for one in item.candidates]


async def test_who_has_no_right_sees_and_decides_nothing(service: Parts, provider: Provider) -> None:
    """Default deny, traced; an assistant needs a delegation."""
    lot = (await service.lots.receive(provider.lot("100000106"))).lot
    for role in ("technique", "direction", "dpo", "iprp", "external-system", "assistant", "nobody"):
        somebody = person(f"the-{role}", role)
        for attempt in (
            service.review.waiting(somebody),
            service.review.item(somebody, lot, "100000106"),
            service.review.decide(somebody, lot, "100000106", Decision("attach", SANDRINE)),
            service.review.undo(somebody, 1),
            service.identities.link(somebody, CLAIRE, JULIEN),
            service.identities.history(somebody, CLAIRE),
        ):
            with pytest.raises(Forbidden):
                await attempt
        assert await count(service, f"access where client_id = '{somebody.client_id}' and outcome = 4") == 6
    machine = replace(person("x", "operator"), professional=None)
    with pytest.raises(Forbidden, match="identifier is missing"):
        await service.review.decide(machine, lot, "100000106", Decision("attach", SANDRINE))
    assert await count(service, "identity_event") == 0


async def test_an_assistant_under_delegation_decides_on_the_index(service: Parts, provider: Provider) -> None:
    """A9: 1° and 2°, the index zone and identities; what needs a look at the pages is not his to decide."""
    lot = (await service.lots.receive(provider.lot("100000107"))).lot
    assistant = person("assistant-1", "assistant", delegated=True)
    item = await service.review.item(assistant, lot, "100000107")
    assert item.sees == "index"
    assert item.index
    assert all(one.identity for one in item.candidates)
    flag = Decision("non-transmissible", documents={item.documents[0].document_id: ()})
    with pytest.raises(Forbidden):
        await service.review.decide(assistant, lot, "100000107", flag)
    assert (await service.review.decide(assistant, lot, "100000107", Decision("not-in-register"))).state == "aside"
    assert (
        await count(service, "access where client_id = 'person:assistant-1' and query = 'review=not-in-register'") == 1
    )


async def test_two_who_decide_at_once(service: Parts, provider: Provider, client: Any) -> None:
    """One wins, the other is told; what is filed is what the winner said, once."""
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    event = await attached(service, lot, "100000101")
    twice = await asyncio.gather(
        service.review.undo(ANNE, event), service.review.undo(PAUL, event), return_exceptions=True
    )
    assert sorted(type(one).__name__ for one in twice) == ["Conflict", "Undone"]
    (late,) = [one for one in twice if isinstance(one, Conflict)]
    assert "has undone this already" in late.diagnostics, "not the id of a Provenance that nobody asked about"
    both = await asyncio.gather(
        service.review.decide(ANNE, lot, "100000101", Decision("attach", CLAIRE)),
        service.review.decide(PAUL, lot, "100000101", Decision("attach", JULIEN)),
        return_exceptions=True,
    )
    assert sorted(type(one).__name__ for one in both) == ["Conflict", "Settled"], both
    held = {worker: (await everything(client, worker)).keys() for worker in (CLAIRE, JULIEN)}
    documents = [sum(name.startswith("DocumentReference/") for name in held[worker]) for worker in (CLAIRE, JULIEN)]
    assert sorted(documents) == [0, 4]
    last = await attached(service, lot, "100000101")
    undone, decided = await asyncio.gather(
        service.review.undo(ANNE, last),
        service.review.decide(PAUL, lot, "100000101", Decision("attach", CLAIRE)),
        return_exceptions=True,
    )
    assert not isinstance(undone, BaseException)
    assert isinstance(decided, Conflict | type(both[0])) or not isinstance(decided, BaseException)


async def test_any_sequence_ends_in_the_last_decision(service: Parts, provider: Provider, client: Any) -> None:
    """Attach (C, J) and undo (U) in any order: after each the record of each worker is what the last decision says."""
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    whose: str | None = CLAIRE
    for step in random.Random(5).choices("CJUU", k=10) + list("CUJ"):
        worker = {"C": CLAIRE, "J": JULIEN, "U": None}[step]
        try:
            if worker is None:
                await service.review.undo(ANNE, await attached(service, lot, "100000101"))
            else:
                await service.review.decide(ANNE, lot, "100000101", Decision("attach", worker))
        except Conflict:
            assert (whose is None) == (worker is None)
        else:
            whose = worker
        for one in (CLAIRE, JULIEN):
            found = await everything(client, one)
            documents = [name for name in found if name.startswith("DocumentReference/")]
            assert len(documents) == (4 if one == whose else 0)
            tasks = [found[name]["focus"]["reference"] for name in found if name.startswith("Task/")]
            assert sorted(tasks) == (sorted(documents * 2) if one == whose else [])
    assert whose == JULIEN
    found = (await client.get("/fhir/Provenance?_count=200")).json()["entry"]
    assert sum(entry["resource"]["activity"]["coding"][0]["code"] == "link" for entry in found) == 1


async def test_events_are_only_appended(service: Parts, provider: Provider) -> None:
    """Not even the service changes or removes one; an undone one is not undone again."""
    lot = (await service.lots.receive(provider.lot("100000101"))).lot
    event = await attached(service, lot, "100000101")
    read = await IdentityEvents(service.database).read(event)
    assert read
    assert (read.decided_by, read.grade, read.patient_id) == (None, "certain", CLAIRE)
    for statement in (
        b"update identity_event set patient_id = 'x'",
        b"delete from identity_event",
        b"truncate identity_event",
    ):
        async with service.database.connection() as connection:
            with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.RestrictViolation)):
                await connection.execute(statement)
    with psycopg.connect(service.postgres, autocommit=True) as owner:
        for statement in ("update identity_event set patient_id = 'x'", "delete from identity_event"):
            with pytest.raises(psycopg.errors.RestrictViolation):
                owner.execute(statement.encode())
    await service.review.undo(ANNE, event)
    with pytest.raises(Conflict):
        await service.review.undo(ANNE, event)
    with pytest.raises(NotFound):
        await service.review.undo(ANNE, 10**9)
    with pytest.raises(BadParameter):
        await service.review.undo(ANNE, event, "because")


async def test_decisions_become_labelled_pairs(service: Parts, provider: Provider) -> None:
    """Levels and verdicts, no id and no trait."""
    lot = (await service.lots.receive(provider.lot("100000101", "100000106"))).lot
    await service.review.undo(ANNE, await attached(service, lot, "100000101"), "wrong-worker")
    await service.review.decide(ANNE, lot, "100000106", Decision("not-this-worker", SANDRINE))
    pairs = [pair async for pair in labelled_pairs(IdentityEvents(service.database))]
    assert [pair.verdict for pair in pairs] == ["non-match", "non-match"]
    for secret in (CLAIRE, SANDRINE, "BEAUTEST", "100000101", "100000106", "278037511500060"):
        assert secret not in str(pairs)


async def test_two_identities_are_linked_and_unlinked(service: Parts, client: Any) -> None:
    """`seealso` on both, never a merge; unlinked, both are as before. A register that comes again keeps the link."""
    one, other = SANDRINE, patient_id_of("100000107")

    async def content(patient: str) -> dict[str, Any]:
        read = (await client.get(f"/fhir/Patient/{patient}")).json()
        read["meta"] = {name: part for name, part in read["meta"].items() if name not in ("versionId", "lastUpdated")}
        return read

    before = [await content(one), await content(other)]
    linked = await service.identities.link(ANNE, one, other)
    assert (await content(one))["link"] == [{"other": {"reference": f"Patient/{other}"}, "type": "seealso"}]
    assert (await content(other))["link"] == [{"other": {"reference": f"Patient/{one}"}, "type": "seealso"}]
    again = await service.register.import_csv((SAMPLES / "workers.csv").read_bytes())
    assert again.changed == 0
    assert (await content(one))["link"]
    with pytest.raises(Conflict):
        await service.identities.link(ANNE, other, one)
    await service.identities.unlink(PAUL, linked.event_id)
    assert [await content(one), await content(other)] == before
    with pytest.raises(Conflict):
        await service.identities.unlink(PAUL, linked.event_id)
    assert [event.kind for event in await service.identities.history(ANNE, one)] == ["unlink", "link"]
    found = (await client.get(f"/fhir/Provenance?target=Patient/{one}")).json()["entry"]
    activities = [entry["resource"]["activity"]["coding"][0]["code"] for entry in found]
    assert sorted(activities) == ["link", "unlink"]


async def test_two_qualified_identities_with_two_ins_are_a_collision(service: Parts) -> None:
    """Refused, and a case is open, once; somebody closes it."""
    for _ in range(2):
        with pytest.raises(BusinessRule, match="collision case"):
            await service.identities.link(ANNE, CLAIRE, JULIEN)
    (case,) = await service.identities.cases(ANNE)
    assert {case.patient_id, case.other_patient_id} == {CLAIRE, JULIEN}
    assert await count(service, "resource where doc like '%seealso%'") == 0
    await service.identities.close(ANNE, case.event_id)
    assert await service.identities.cases(ANNE) == []
    with pytest.raises(Conflict):
        await service.identities.close(ANNE, case.event_id)


async def test_the_command_line_does_all_of_it(world: Settings, provider: Provider, tmp_path: Path) -> None:
    """review and identities, word by word, each as somebody."""
    async with running_service(world) as service:
        lot = (await service.lots.receive(provider.lot("100000101", "100000106", "100000107"))).lot
        event = await attached(service, lot, "100000101")

    async def run(*words: str, fails: bool = False) -> str:
        result = await asyncio.to_thread(dmst_fhir, world, *words)
        assert (result.exit_code != 0) == fails, (words, result.output, result.exception)
        return result.output

    labels = tmp_path / "labels.ndjson"
    sandrine = ("review", "attach", lot, "100000106", "--worker", f"Patient/{SANDRINE}", "--by")
    assert "a second person must agree (PROV)" in await run(*sandrine, "a.martin")
    await run("review", "confirm", lot, "100000106", "--by", "a.martin", fails=True)
    assert "the folder is accepted" in await run("review", "confirm", lot, "100000106", "--by", "b.durand")
    assert "taken back" in await run("review", "undo", str(event), "--by", "b.durand", "--reason", "wrong-worker")
    assert "100000101" in await run("review", "list")
    assert f"Patient/{CLAIRE}" in await run("review", "show", lot, "100000101", "--by", "b.durand")
    await run("review", "dismiss", lot, "100000101", "--worker", f"Patient/{CLAIRE}", "--by", "b.durand")
    assert "rejected" in await run("review", "several", lot, "100000107", "--by", "b.durand")
    await run("review", "acknowledge", lot, "--output", str(tmp_path))
    assert "E13" in (tmp_path / f"{lot}.ack.json").read_text()
    assert "linked" in await run("identities", "link", CLAIRE, SANDRINE, "--by", "b.durand")
    assert "link" in await run("identities", "history", CLAIRE, "--by", "b.durand")
    await run("identities", "link", CLAIRE, JULIEN, "--by", "b.durand", fails=True)
    assert "collision-case-opened" in await run("identities", "cases", "--by", "b.durand")
    assert "pairs" in await run("identities", "labels", "-o", str(labels))
    assert '"verdict":"non-match"' in labels.read_text()
