"""A7 and A8 of the acceptance scenarios: what is withheld or decided anew stops what waits, and lists what has left."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from fhir_server.__main__ import app
from fhir_server.app import Parts, make_dispatcher
from fhir_server.ports import Answer, Envelope, HandedOver, TryLater
from fhir_server.settings import Settings
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests.stories.support import Provider, asking, process, running_service, until

FLAG = {"system": systems.SECURITY_TAG, "code": "non-transmissible"}


class Recipient:
    """Takes the first document, and is busy from then on."""

    def __init__(self) -> None:
        self.taken: list[str] = []

    async def send(self, envelope: Envelope) -> Answer:
        if self.taken:
            return TryLater("busy", "come back", None)
        self.taken.append(envelope.document_reference["id"])
        return HandedOver("there-1")

    async def close(self) -> None:
        """Nothing is open."""


async def deliveries(service: Parts, recipient: str) -> dict[str, tuple[str, str, str | None]]:
    """{document: (delivery, state, reason)}"""
    statement = "select document_reference_id, delivery_id::text, state, reason from delivery where recipient = %s"
    async with service.database.connection() as connection:
        rows = await (await connection.execute(statement.encode(), (recipient,))).fetchall()
    return {document: (delivery, state, reason) for document, delivery, state, reason in rows}


async def test_a8_a_flag_stops_what_waits_and_lists_what_has_left(
    world: Settings, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next attempt is an hour away; the flag is decided upon in seconds. What was handed over is on the list."""
    patient = world.model_copy(update={"retry_first_seconds": 3600.0, "retry_longest_seconds": 7200.0})
    recipient = Recipient()
    async with running_service(patient) as service:
        await service.lots.receive(provider.lot("100000101"))
        dispatcher = make_dispatcher(service, {"logiciel-metier": recipient})  # pyright: ignore[reportArgumentType]
        for delivery, _, _ in (await deliveries(service, "logiciel-metier")).values():
            await dispatcher.dispatch(delivery)
        (left,) = recipient.taken
        waiting = {
            one for one, (_, state, _) in (await deliveries(service, "logiciel-metier")).items() if state == "pending"
        }
        assert waiting
        assert left not in waiting
        async with asking(service) as client:
            for document in (left, *waiting):
                meta = {
                    "resourceType": "Parameters",
                    "parameter": [{"name": "meta", "valueMeta": {"security": [FLAG]}}],
                }
                flagged = await client.post(f"/fhir/DocumentReference/{document}/$meta-add", json=meta)
                assert flagged.status_code == 200, flagged.text
                assert (await client.get(f"/fhir/DocumentReference/{document}")).status_code == 404

        async def all_withheld() -> bool:
            now = await deliveries(service, "logiciel-metier")
            return all(now[one][1:] == ("withheld", "non-transmissible") for one in waiting)

        with process(patient, "work"):
            await until(all_withheld, "what waited is withheld")
        assert (await deliveries(service, "logiciel-metier"))[left][1] == "handed_over"
    for name, value in {"POSTGRES": world.postgres, "REDIS": world.redis}.items():
        assert value
        monkeypatch.setenv(f"DMST_FHIR_{name}", value.get_secret_value())
    words = ["recall", f"DocumentReference/{left}", "--data", str(world.data)]
    listed = await asyncio.to_thread(CliRunner().invoke, app, words)
    assert (listed.exit_code, "there-1" in listed.output) == (0, True), (listed.output, listed.exception)


def consent(code: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": code}]}],
        "patient": {"reference": "Patient/nobody"},
        "dateTime": datetime.now(UTC).date().isoformat(),
        "policyRule": {"text": "R4624-45-6"},
        "provision": {"type": "deny"},
        **more,
    }


@pytest.mark.parametrize(
    ("asked", "place", "said"),
    [
        (consent("constitution"), "Consent.category[0].coding[0]", "R4624-45-8"),
        (consent("ins"), "Consent.category[0].coding[0]", "INS"),
        (consent("C9"), "Consent.category[0].coding[0]", "C1, C2, C3, C4, C5"),
        (consent("C5", provision={"type": "permit"}, dateTime=None), "Consent.dateTime", "express and dated"),
        (consent("C2", provision={}), "Consent.provision.type", "permits or denies"),
    ],
)
async def test_what_the_law_does_not_give_is_refused_and_explained(
    service: Parts, asked: dict[str, Any], place: str, said: str
) -> None:
    """422 business-rule, with the article, at the place; nothing is recorded."""
    body = {name: value for name, value in asked.items() if value not in (None, {})}
    async with asking(service) as client:
        (worker,) = [e["resource"]["id"] for e in (await client.get("/fhir/Patient?_count=1")).json()["entry"]]
        answer = await client.post("/fhir/Consent", json={**body, "patient": {"reference": f"Patient/{worker}"}})
        (issue,) = answer.json()["issue"]
        assert (answer.status_code, issue["code"], issue["expression"]) == (422, "business-rule", [place])
        assert said in issue["diagnostics"]
        assert (await client.get("/fhir/Consent?_summary=count")).json()["total"] == 0


async def test_a_withdrawn_consent_is_decided_upon_at_once(world: Settings, provider: Provider) -> None:
    """A7: what waits for the DMP gets a job in the transaction of the withdrawal."""
    async with running_service(world) as service:
        await service.lots.receive(provider.lot("100000101"))
        async with service.database.connection() as connection:
            await connection.execute(b"delete from procrastinate_jobs")
            rows = await (
                await connection.execute(b"select delivery_id::text, patient_id from delivery where state = 'pending'")
            ).fetchall()
        async with asking(service) as client:
            withdrawn = consent("C4", patient={"reference": f"Patient/{rows[0][1]}"})
            assert (await client.post("/fhir/Consent", json=withdrawn)).status_code == 201
        async with service.database.connection() as connection:
            asked = await (
                await connection.execute(b"select args ->> 'delivery_id' from procrastinate_jobs")
            ).fetchall()
        assert {one for (one,) in asked} == {delivery for delivery, _ in rows}
