"""What a worker decides is recorded with its proof, as the page for the data protection officer shows it.

R4624-45-6 and -8 C. trav., CSP L1111-17 IV; docs/dpo.md.
"""

import json
import re
import shlex
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pikepdf
import pytest

from mappings.consent import WORKER_RIGHT, worker_rights
from terminology import systems
from tests.support import EVERYTHING, Resource, Server, document_reference, found, issues, keep, patient, put

PAGE = (Path(__file__).parents[2] / "docs/dpo.md").read_text(encoding="utf-8")
NAMES = {"SALARIE": "p", "PREUVE": "form", "OPPOSITION": "c3", "ACCORD": "c4", "DOCUMENT": "visit"}


def examples() -> list[tuple[str, str, dict[str, str], str]]:
    """Method, path, headers and body of each curl of the page."""
    made: list[tuple[str, str, dict[str, str], str]] = []
    for text in re.findall(r"```sh\n(curl .*?)```", PAGE, re.DOTALL):
        for name, identity in NAMES.items():
            text = re.sub(rf"\b{name}\b", identity, text)
        words = shlex.split(text)
        headers = dict(words[at + 1].split(": ", 1) for at, word in enumerate(words) if word == "-H")
        address = next(word for word in words if word.startswith("$BASE"))
        body = words[words.index("-d") + 1]
        made.append((words[words.index("-X") + 1], address.removeprefix("$BASE").replace("\\$", "$"), headers, body))
    return made


def of_kind(name: str, kind: str, heading: str, whose: str = "p", **more: Any) -> Resource:
    return document_reference(
        whose,
        id=name,
        type={"coding": [{"system": systems.DMST_NOMENCLATURE, "code": kind}]},
        category=[{"coding": [{"system": systems.DMST_CATEGORY, "code": heading}]}],
        **more,
    )


def consent(right: str, verdict: str = "deny", **more: Any) -> Resource:
    return {
        "resourceType": "Consent",
        "id": "x",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": right}]}],
        "patient": {"reference": "Patient/p"},
        "policyRule": {"text": "R4624-45-6"},
        "provision": {"type": verdict},
        **more,
    }


def informed(at: str | None = "2026-03-01", by: Resource | None = None) -> list[Resource]:
    parts: list[Resource] = [{"url": "by", "valueReference": by or {"identifier": {"value": "Dr Test"}}}]
    parts += [{"url": "at", "valueDateTime": at}] if at else []
    return [{"url": systems.EXTENSION_CONSENT_INFORMATION, "extension": parts}]


@pytest.fixture
async def doctor(server: Server, tmp_path: Path) -> httpx.AsyncClient:
    http = (await server.client(EVERYTHING, role="medecin-travail")).http
    content = {"attachment": {"contentType": "application/pdf", "url": "Binary/form-bytes"}}
    visit = {"attachment": {"contentType": "application/pdf", "url": "Binary/visit-bytes"}}
    await keep(
        http,
        patient("p"),
        patient("q"),
        of_kind("form", "DMST-CONSENT", "7", content=[content]),
        of_kind("visit", "DMST-VISITE", "3", content=[visit]),
        of_kind("model", "DMST-APT", "5"),
        of_kind("foreign", "DMST-CONSENT", "7", "q"),
    )
    with pikepdf.new() as pdf:
        for _ in range(3):
            pdf.add_blank_page()
        pdf.save(tmp_path / "three.pdf")
    for name in ("form", "visit"):
        headers = {"content-type": "application/pdf", "x-security-context": f"DocumentReference/{name}"}
        body = (tmp_path / "three.pdf").read_bytes()
        assert (await http.put(f"/fhir/Binary/{name}-bytes", content=body, headers=headers)).status_code == 201
    return http


async def test_the_examples_for_the_data_protection_officer_do_what_the_page_says(
    server: Server, doctor: httpx.AsyncClient
) -> None:
    """Each curl of the page, in its order; then what it brought about is looked at."""
    calls = examples()
    assert [method for method, *_ in calls] == ["PUT", "PATCH", "PUT", "PATCH", "POST"]
    for method, path, headers, body in calls:
        answer = await doctor.request(
            method, f"/fhir{path}", content=body, headers={"content-type": headers["Content-Type"]}
        )
        assert answer.status_code in (200, 201), (path, answer.text)
    for name in ("c3", "c4"):
        read = (await doctor.get(f"/fhir/Consent/{name}")).json()
        assert (read["status"], read["meta"]["versionId"]) == ("inactive", "2")
        before = (await doctor.get(f"/fhir/Consent/{name}/_history/1")).json()
        assert before["status"] == "active"
    nurse = (await server.client(EVERYTHING, role="infirmier")).http
    assert "visit" not in await found(nurse, "DocumentReference?patient=p")


async def test_what_a_right_asks_for_is_data_with_its_source() -> None:
    """Every right of the table; an opposition needs no form."""
    rights = worker_rights()
    assert sorted(rights) == ["C1", "C2", "C3", "C4", "C5"]
    assert all(one.label and one.source and one.deny == () for one in rights.values())
    assert rights["C4"].permit == ("date", "information")


BY = f"Consent.extension('{systems.EXTENSION_CONSENT_INFORMATION}').extension('by')"
AT = f"Consent.extension('{systems.EXTENSION_CONSENT_INFORMATION}').extension('at')"
DATED = {"dateTime": "2026-03-02"}
ELSEWHERE = "https://elsewhere.example.org/form.pdf"


async def test_what_is_missing_is_refused_with_its_place(doctor: httpx.AsyncClient) -> None:
    """422; and what is complete is taken."""
    later = (date(2026, 3, 2) + timedelta(days=1)).isoformat()
    cases: list[tuple[Resource, list[tuple[str, str]]]] = [
        (consent("C4", "permit", **DATED), [("business-rule", BY), ("business-rule", AT)]),
        (consent("C4", "permit", **DATED, extension=informed(None)), [("business-rule", AT)]),
        (consent("C4", "permit", **DATED, extension=informed(later)), [("business-rule", AT)]),
        (consent("C4", "permit", **DATED, extension=informed(by={"display": "x"})), [("business-rule", BY)]),
        (consent("C4", "permit", extension=informed()), [("business-rule", "Consent.dateTime")]),
        (consent("C5", "permit"), [("business-rule", "Consent.dateTime")]),
        (
            consent("C4", "permit", **DATED, extension=informed(by={"reference": "Practitioner/none"})),
            [("not-found", "Consent.extension[0].extension[0].valueReference.reference")],
        ),
        (
            consent("C1", sourceReference={"reference": "DocumentReference/none"}),
            [("not-found", "Consent.sourceReference.reference")],
        ),
        (
            consent("C1", sourceReference={"reference": "DocumentReference/foreign"}),
            [("business-rule", "Consent.sourceReference")],
        ),
        (
            consent("C1", sourceReference={"reference": "DocumentReference/model"}),
            [("business-rule", "Consent.sourceReference")],
        ),
        (consent("C1", sourceReference={"reference": ELSEWHERE}), [("business-rule", "Consent.sourceReference")]),
        (
            consent("C1", sourceAttachment={"contentType": "application/pdf", "url": "Binary/form-bytes"}),
            [("business-rule", "Consent.sourceAttachment.url")],
        ),
    ]
    for resource, expected in cases:
        answer = await put(doctor, resource)
        assert (answer.status_code, issues(answer)) == (422, expected), resource
    for number, good in enumerate(
        (
            consent("C1"),
            consent("C2", sourceReference={"reference": "DocumentReference/form"}),
            consent("C3", sourceAttachment={"contentType": "application/pdf", "data": "JVBERi0="}),
            consent("C4"),
            consent("C4", "permit", **DATED, extension=informed()),
            consent("C4", "permit", status="inactive"),
        )
    ):
        answer = await put(doctor, {**good, "id": f"good{number}"})
        assert answer.status_code == 201, answer.text


async def test_a_proof_that_is_not_in_sight_is_as_one_that_is_not_there(
    server: Server, doctor: httpx.AsyncClient
) -> None:
    """A nurse does not learn of a withheld document by naming it."""
    label = {"security": [{"system": systems.SECURITY_TAG, "code": "non-transmissible"}]}
    await keep(doctor, of_kind("note", "DMST-CONSENT", "7", meta=label))
    nurse = (await server.client(EVERYTHING, role="infirmier")).http
    told = [
        (await put(nurse, consent("C3", sourceReference={"reference": f"DocumentReference/{name}"}))).text.replace(
            name, "ID"
        )
        for name in ("note", "none")
    ]
    assert told[0] == told[1]
    assert json.loads(told[0])["issue"][0]["code"] == "not-found"


async def test_a_proof_stays_as_long_as_its_consent(doctor: httpx.AsyncClient) -> None:
    """Neither the document nor its bytes are deleted before it (destruction at its term: test_documents_expire)."""
    await keep(doctor, consent("C2", sourceReference={"reference": "DocumentReference/form"}))
    for name in ("DocumentReference/form", "Binary/form-bytes"):
        assert (await doctor.delete(f"/fhir/{name}")).status_code == 409, name
    assert (await doctor.delete("/fhir/Binary/visit-bytes")).status_code == 204, "what proves nothing goes"
    for name in ("Consent/x", "Binary/form-bytes", "DocumentReference/form"):
        answer = await doctor.delete(f"/fhir/{name}")
        assert answer.status_code == 204, answer.text
