"""A3 of the acceptance scenarios: the barcode of one worker, pages that name another (E13); dmst.md section 6."""

import hashlib

from fhir_server.app import Parts
from tests.stories.support import SAMPLES, Provider, asking, count, dispatch_all

MIXED, COVER, STRANGER = "100000104", "100000104-couverture.pdf", "100000105-visite2.pdf"
ASKED = (
    "DocumentReference",
    "DocumentReference?_summary=count",
    "DocumentReference?_total=accurate&status=current",
    "Binary",
    "List",
    "Provenance",
    "Task",
    "DocumentReference/_history",
    "_history?_count=200",
    "?_type=DocumentReference,List,Provenance,Task",
)


async def test_a3_a_folder_with_the_pages_of_another_is_invisible_until_somebody_decides(
    service: Parts, provider: Provider
) -> None:
    """E13: no query of anybody shows, counts or hands out a page of it; the decision makes it a record, with a name."""
    async with asking(service) as outside, asking(service, "medecin-travail") as doctor:
        empty = {path: (await outside.get(f"/fhir/{path}")).json().get("total") for path in ASKED}
        lot = await service.lots.receive(provider.lot(MIXED))
        (folder,) = lot.folders
        assert (folder.state, {problem.code for problem in folder.problems}) == ("to-review", {"E13"})
        workers = [
            (await outside.get(f"/fhir/Patient?identifier={number}")).json()["entry"][0]["resource"]["id"]
            for number in (MIXED, "100000105")
        ]
        for client in (outside, doctor):
            for path in ASKED:
                told = (await client.get(f"/fhir/{path}")).json()
                if path.startswith(("DocumentReference", "Provenance", "Task")):  # the lot itself is a List, without it
                    assert told.get("total") == empty[path], path
                shown = {one["resource"]["resourceType"] for one in told.get("entry", []) if "resource" in one}
                assert not shown & {"DocumentReference", "Binary", "Task"}, path
            for worker in workers:
                assert (await client.get(f"/fhir/DocumentReference?patient={worker}")).json()["total"] == 0
                told = (await client.get(f"/fhir/Patient/{worker}/$everything")).json()
                assert "DocumentReference" not in {one["resource"]["resourceType"] for one in told["entry"]}
        for name in (COVER, STRANGER):
            digest = hashlib.sha256((SAMPLES / name).read_bytes()).hexdigest()
            for path in (f"Binary/{digest}", f"DocumentReference?identifier={digest}"):
                assert "entry" not in (await outside.get(f"/fhir/{path}")).json()
        await dispatch_all(service)
        assert await count(service, "delivery") == 0, "and nothing of it leaves"
        await service.documents.attach(lot.lot, MIXED, workers[0], by="jdurand")
        told = (await outside.get(f"/fhir/DocumentReference?patient={workers[0]}")).json()
        assert told["total"] == 2
        assert (await outside.get(f"/fhir/DocumentReference?patient={workers[1]}")).json()["total"] == 0
        link = (await outside.get("/fhir/Provenance?_count=50")).json()["entry"]
        decided = [one["resource"] for one in link if one["resource"]["activity"]["coding"][0]["code"] == "link"]
        assert [one["agent"][0]["who"]["identifier"]["value"] for one in decided] == ["jdurand"]
        page = next(
            one["resource"] for one in told["entry"] if one["resource"]["type"]["coding"][-1]["code"] == "DMST-VISITE"
        )
        note = {
            "resourceType": "Parameters",
            "parameter": [{"name": "page", "valuePositiveInt": 2}, {"name": "reason", "valueCode": "autre-salarie"}],
        }
        answer = await doctor.post(f"/fhir/DocumentReference/{page['id']}/$redact", json=note)
        assert answer.status_code == 200, answer.text
        assert (await outside.get(f"/fhir/DocumentReference/{page['id']}")).status_code == 404
