"""A page of a document is a personal note: what others see is a derivative without it, and the doctor has the original.

dmst.md section 1.8 (quarantine, redacted derivative with Provenance to the original), scenario A8; R4624-45-7 C. trav.
"""

import asyncio
import contextlib
import hashlib
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import orjson
import pikepdf
import pypdfium2
import pytest
from typer.testing import CliRunner

from fhir_server.__main__ import app
from fhir_server.app import Parts
from fhir_server.evidence import report
from fhir_server.settings import Settings
from mappings.redaction import REASONS
from terminology import systems
from tests.stories.support import SAMPLES, Provider, asking, count, dispatch_all, running_service

FHIR_JSON = {"content-type": "application/fhir+json"}


def asked(*pages: int, reason: str = "note-personnelle") -> dict[str, Any]:
    numbers = [{"name": "page", "valuePositiveInt": page} for page in pages]
    return {"resourceType": "Parameters", "parameter": [*numbers, {"name": "reason", "valueCode": reason}]}


async def redact(client: httpx.AsyncClient, document: str, *pages: int, **more: str) -> httpx.Response:
    return await client.post(f"/fhir/DocumentReference/{document}/$redact", json=asked(*pages, **more))


def named(answer: httpx.Response, name: str) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["valueReference"]["reference"] for one in answer.json()["parameter"] if one["name"] == name]


async def documents(client: httpx.AsyncClient, kind: str) -> list[dict[str, Any]]:
    bundle = (await client.get(f"/fhir/DocumentReference?type={systems.DMST_NOMENCLATURE}|{kind}&_count=50")).json()
    return [one["resource"] for one in bundle.get("entry", [])]


@contextlib.asynccontextmanager
async def everybody(service: Parts) -> AsyncIterator[tuple[httpx.AsyncClient, ...]]:
    """The doctor, a nurse, and the software of the service."""
    async with (
        asking(service, "medecin-travail") as doctor,
        asking(service, "infirmier") as nurse,
        asking(service) as software,
    ):
        yield doctor, nurse, software


def pictures(content: bytes) -> list[bytes]:
    """Each page as it is seen, small."""
    with pypdfium2.PdfDocument(content) as pdf:
        return [pdf[number].render(scale=0.3).to_pil().convert("L").tobytes() for number in range(len(pdf))]


async def test_a_nurse_takes_a_page_out_and_only_the_doctor_has_the_original(service: Parts, provider: Provider):
    """What others see has the pages that stay, and nothing of the other; who, what and why is in the Provenance."""
    await service.lots.receive(provider.lot("100000101"))
    async with everybody(service) as (doctor, nurse, software):
        (original,) = await documents(nurse, "DMST-VISITE")
        answer = await redact(nurse, original["id"], 2, 3)
        (made,), (provenance_name,) = named(answer, "document"), named(answer, "provenance")
        assert named(answer, "withheld") == [f"DocumentReference/{original['id']}"]
        old_url = original["content"][0]["attachment"]["url"]
        for client in (nurse, software):
            (seen,) = await documents(client, "DMST-VISITE")
            assert f"DocumentReference/{seen['id']}" == made
            for path in (f"DocumentReference/{original['id']}", old_url, f"{old_url}/_history/1"):
                assert (await client.get(f"/fhir/{path}")).status_code == 404, path
            content = (await client.get(f"/fhir/{seen['content'][0]['attachment']['url']}")).content
        whole = (SAMPLES / "100000101-visite4.pdf").read_bytes()
        assert pictures(content) == [pictures(whole)[0], *pictures(whole)[3:]]
        with pikepdf.open(io.BytesIO(whole)) as pdf:
            for page in pdf.pages[1:3]:
                for image in page.get_images().values():
                    assert image.read_raw_bytes()[:200] not in content
        assert [label["code"] for label in seen["meta"]["security"]] == ["REDACTED"]
        assert seen["relatesTo"] == [
            {"code": "transforms", "target": {"reference": f"DocumentReference/{original['id']}"}}
        ]
        assert (seen["subject"], seen["type"]) == (original["subject"], original["type"])
        assert seen["masterIdentifier"] != original["masterIdentifier"]
        (folder,) = [one["resource"] for one in (await nurse.get(f"/fhir/List?item={made}")).json()["entry"]]
        assert folder["entry"][-1] == {"item": {"reference": made}}, "it is in the classeur"
        provenance = (await nurse.get(f"/fhir/{provenance_name}")).json()
        assert [one["code"] for one in provenance["activity"]["coding"]] == ["transform", "REDACT"]
        assert provenance["reason"][0]["coding"][0]["code"] == "note-personnelle"
        (source,) = provenance["entity"]
        assert (source["role"], source["what"]["reference"]) == ("source", f"DocumentReference/{original['id']}")
        assert [one["valuePositiveInt"] for one in source["extension"]] == [2, 3]
        assert provenance["agent"][0]["who"]["identifier"]["value"]
        kept = (await doctor.get(f"/fhir/{old_url}")).content
        assert kept == whole
        assert len(await documents(doctor, "DMST-VISITE")) == 2
        trail = (await doctor.get(f"/fhir/AuditEvent?entity={made}")).json()["entry"]
        assert trail, "who did it is in the trail"
    proof = await report(service, made)
    assert proof.passed, proof.checks
    assert {"originate", "receive", "verify", "link", "transform"} <= {step.activity for step in proof.chain}


async def test_only_the_doctor_goes_back(service: Parts, provider: Provider):
    """The label comes off by his hand alone; the same again needs the derivative to be withdrawn."""
    await service.lots.receive(provider.lot("100000101"))
    async with everybody(service) as (doctor, nurse, _):
        (original,) = await documents(nurse, "DMST-VISITE")
        (made,) = named(await redact(nurse, original["id"], 1), "document")
        label = {"system": systems.SECURITY_TAG, "code": "non-transmissible"}
        off = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": [label]}}]}
        undo = f"/fhir/DocumentReference/{original['id']}/$meta-delete"
        assert (await nurse.post(undo, json=off)).status_code == 404
        again = await redact(doctor, original["id"], 2)
        assert (again.status_code, made in again.text) == (409, True)
        assert (await redact(nurse, original["id"], 2)).status_code == 404
        assert (await doctor.post(undo, json=off)).status_code == 200
        assert (await nurse.get(f"/fhir/DocumentReference/{original['id']}")).status_code == 200
        withdrawn = {**(await doctor.get(f"/fhir/{made}")).json(), "status": "superseded"}
        answer = await doctor.put(f"/fhir/{made}", content=orjson.dumps(withdrawn), headers=FHIR_JSON)
        assert answer.status_code == 200, answer.text
        (second,) = named(await redact(nurse, original["id"], 2), "document")
        assert {f"DocumentReference/{one['id']}" for one in await documents(nurse, "DMST-VISITE")} == {second}


async def test_a_second_page_is_taken_out_of_what_others_see(service: Parts, provider: Provider):
    """Nobody gets back what went before, and every earlier form is withheld; its evidence follows the whole way."""
    await service.lots.receive(provider.lot("100000101"))
    async with everybody(service) as (_, nurse, software):
        (original,) = await documents(nurse, "DMST-VISITE")
        (first,) = named(await redact(nurse, original["id"], 4), "document")
        answer = await redact(software, first.partition("/")[2], 1, reason="tiers")
        (second,) = named(answer, "document")
        assert set(named(answer, "withheld")) == {first, f"DocumentReference/{original['id']}"}
        (seen,) = await documents(nurse, "DMST-VISITE")
        content = (await nurse.get(f"/fhir/{seen['content'][0]['attachment']['url']}")).content
    assert pictures(content) == pictures((SAMPLES / "100000101-visite4.pdf").read_bytes())[1:3]
    proof = await report(service, second)
    assert proof.passed, proof.checks
    assert [step.activity for step in proof.chain].count("transform") == 2
    blob = hashlib.sha256((SAMPLES / "100000101-visite4.pdf").read_bytes()).digest()
    path = service.blobs.below.path((await service.blobs.keys.find(blob)).address)
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert not (await report(service, second)).passed, "nothing proves it without its original"


async def test_of_an_image_the_rendition_is_redacted_and_both_are_withheld(service: Parts, provider: Provider):
    """A TIFF of several pages shows them too."""
    await service.lots.receive(provider.lot("100000103"))
    async with everybody(service) as (doctor, nurse, _):
        forms = await documents(nurse, "DMST-QUEST")
        image = next(one for one in forms if one["content"][0]["attachment"]["contentType"] == "image/tiff")
        answer = await redact(nurse, image["id"], 1)
        assert len(named(answer, "withheld")) == 2
        assert [f"DocumentReference/{one['id']}" for one in await documents(nurse, "DMST-QUEST")] == named(
            answer, "document"
        )
        assert len(await documents(doctor, "DMST-QUEST")) == 3


async def test_what_waits_goes_without_the_page(world: Settings, provider: Provider):
    """The delivery of the original is withheld; its recipient gets the derivative, and never the page."""
    async with running_service(world) as service:
        await service.lots.receive(provider.lot("100000101"))
        async with asking(service, "infirmier") as nurse:
            (original,) = await documents(nurse, "DMST-VISITE")
            (made,) = named(await redact(nurse, original["id"], 2), "document")
        await dispatch_all(service)
        of_original = f"delivery where document_reference_id = '{original['id']}'"
        assert await count(service, f"{of_original} and state = 'withheld' and reason = 'non-transmissible'") == 2
        of_made = f"delivery where document_reference_id = '{made.partition('/')[2]}'"
        assert await count(service, f"{of_made} and state = 'handed_over' and recipient = 'logiciel-metier'") == 1
        kept = [orjson.loads(file.read_bytes()) for file in world.data.rglob("loopback/**/*.json")]
        assert original["id"] not in {one["id"] for one in kept}
        assert made.partition("/")[2] in {one["id"] for one in kept}


async def test_a_quarantined_document_comes_out_without_the_page(service: Parts, provider: Provider):
    """Somebody saw a note and put the whole away; the doctor lets the rest be seen."""
    await service.lots.receive(provider.lot("100000101"))
    async with everybody(service) as (doctor, nurse, _):
        (original,) = await documents(nurse, "DMST-VISITE")
        label = {"system": systems.SECURITY_TAG, "code": "quarantaine"}
        put = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"security": [label]}}]}
        assert (await nurse.post(f"/fhir/DocumentReference/{original['id']}/$meta-add", json=put)).status_code == 200
        assert await documents(nurse, "DMST-VISITE") == []
        assert (await redact(nurse, original["id"], 1)).status_code == 404
        (made,) = named(await redact(doctor, original["id"], 1), "document")
        assert [f"DocumentReference/{one['id']}" for one in await documents(nurse, "DMST-VISITE")] == [made]


async def test_bytes_that_nothing_protected_are_protected_now(service: Parts):
    """A document that came over FHIR with a bare Binary: its bytes are not left beside."""
    async with everybody(service) as (doctor, nurse, software):
        whole = (SAMPLES / "100000101-visite4.pdf").read_bytes()
        binary = await software.post("/fhir/Binary", content=whole, headers={"content-type": "application/pdf"})
        (worker,) = [e["resource"]["id"] for e in (await doctor.get("/fhir/Patient?_count=1")).json()["entry"]]
        url = binary.headers["location"].partition("/fhir/")[2].partition("/_history")[0]
        document = {
            "resourceType": "DocumentReference",
            "status": "current",
            "subject": {"reference": f"Patient/{worker}"},
            "category": [{"coding": [{"system": systems.DMST_CATEGORY, "code": "3"}]}],
            "description": "with a note about her brother",
            "content": [{"attachment": {"contentType": "application/pdf", "url": url, "title": "brother"}}],
        }
        made = await software.post("/fhir/DocumentReference", json=document)
        identity = made.json()["id"]
        assert (await nurse.get(f"/fhir/{url}")).status_code == 200
        (derivative,) = named(await redact(software, identity, 3), "document")
        assert (await nurse.get(f"/fhir/{url}")).status_code == 404
        assert (await doctor.get(f"/fhir/{url}")).content == whole
        assert "brother" not in (await nurse.get(f"/fhir/{derivative}")).text


async def test_what_is_not_done_is_explained_and_changes_nothing(service: Parts, provider: Provider):
    """Pages and reasons that there are not, nothing left; and who may not see or write it."""
    await service.lots.receive(provider.lot("100000101"))
    async with asking(service) as software:
        (original,) = await documents(software, "DMST-VISITE")
        (model,) = await documents(software, "DMST-APT")
        for pages, reason, status, said in (
            ((9,), "tiers", 400, "1 to 4"),
            ((), "tiers", 400, "which pages"),
            ((1,), "parce que", 400, ", ".join(REASONS)),
            ((1, 2, 3, 4), "tiers", 422, "No page would be left"),
        ):
            answer = await redact(software, original["id"], *pages, reason=reason)
            assert (answer.status_code, said in answer.text) == (status, True), answer.text
        assert (await redact(software, "nothing", 1)).status_code == 404
        for role in ("assistant", "employeur", "technique", "device-gateway", "medecin-inspecteur"):
            async with asking(service, role) as client:
                assert (await redact(client, original["id"], 1)).status_code in (403, 404), role
                assert (await redact(client, model["id"], 1)).status_code in (403, 404), role
        assert [one["id"] for one in await documents(software, "DMST-VISITE")] == [original["id"]]


async def test_the_command(world: Settings, provider: Provider, monkeypatch: pytest.MonkeyPatch):
    """`dmst-fhir redact`, as it is typed; the Provenance bears the name that was given."""
    async with running_service(world) as service:
        await service.lots.receive(provider.lot("100000101"))
        async with asking(service) as client:
            (original,) = await documents(client, "DMST-VISITE")
        for name, value in {"POSTGRES": world.postgres, "REDIS": world.redis}.items():
            assert value
            monkeypatch.setenv(f"DMST_FHIR_{name}", value.get_secret_value())
        words = ["redact", f"DocumentReference/{original['id']}", "--pages", "2-3", "--reason", "tiers"]
        words += ["--by", "Dr Test", "--data", str(world.data)]
        done = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert (done.exit_code, "is what others see" in done.output) == (0, True), (done.output, done.exception)
        async with asking(service) as client:
            (made,) = await documents(client, "DMST-VISITE")
            found = (await client.get(f"/fhir/Provenance?target=DocumentReference/{made['id']}")).json()["entry"]
        assert [one["resource"]["agent"][0]["who"]["identifier"]["value"] for one in found] == ["Dr Test"]
    words[3] = "2-x"
    assert (await asyncio.to_thread(CliRunner().invoke, app, words)).exit_code == 2
