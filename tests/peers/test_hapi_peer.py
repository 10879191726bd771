"""The HAPI peer is a strict and right judge of what we send: else its approval in other tests would mean nothing.

https://hl7.org/fhir/R4/http.html#transaction, IHE MHD ITI-65 Provide Document Bundle.
"""

import base64
import copy
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import httpx
import pytest

from tests.peers.hapi import HapiPeer, PeerUnavailable, hapi_server

pytestmark = pytest.mark.peer

PDF = b"%PDF-1.7\n" + bytes(range(256)) + b"\n%%EOF\n"
JSON = {"Content-Type": "application/fhir+json"}
URI = "urn:ietf:rfc:3986"
MATRICULE = "urn:oid:1.2.250.1.213.1.4.8"

# What each broken transaction does to the good one; the base specification forbids all of it.
FAULTS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "a code outside a required value set": lambda document: document.update(status="courant"),
    "an element that FHIR does not know": lambda document: document.update(auteur="Dr Exemple"),
    "a thirteenth month": lambda document: document.update(date="2026-13-01T08:00:00+01:00"),
    "a missing required element": lambda document: document.pop("content"),
    "a reference to a type not allowed there": lambda document: document.update(
        author=[{"reference": _full_url("binary")}]
    ),
}


@pytest.fixture(scope="module")
def peer() -> Iterator[HapiPeer]:
    try:
        with hapi_server() as running:
            yield running
    except PeerUnavailable as reason:
        pytest.skip(str(reason))


@pytest.fixture
def client(peer: HapiPeer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=peer.base_url, timeout=30, trust_env=False) as opened:
        yield opened


def _full_url(name: str) -> str:
    return f"urn:uuid:{uuid5(NAMESPACE_URL, name)}"


def _post(resource: dict[str, Any], name: str, criteria: str) -> dict[str, Any]:
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": f"identifier={criteria}"}
    return {"fullUrl": _full_url(name), "resource": resource, "request": request}


def _provide_document_bundle(key: str) -> dict[str, Any]:
    """A document, its fiche, its lot de soumission and its patient, with identifiers made from `key`.

    The profiles and code systems are national ones, which the peer does not hold.
    """
    document_uid, lot_uid = _full_url(f"document {key}"), _full_url(f"lot {key}")
    binary_id = hashlib.sha256(key.encode()).hexdigest()[:32]
    patient = {
        "resourceType": "Patient",
        "meta": {"profile": ["https://hl7.fr/ig/fhir/core/StructureDefinition/fr-core-patient-ins"]},
        "identifier": [{"use": "official", "system": MATRICULE, "value": key}],
        "name": [{"use": "official", "family": "FICTIF", "given": ["Camille"]}],
        "gender": "female",
    }
    document_reference = {
        "resourceType": "DocumentReference",
        "masterIdentifier": {"system": URI, "value": document_uid},
        "status": "current",
        "type": {"coding": [{"system": "http://loinc.org", "code": "34112-3", "display": "Compte rendu"}]},
        "category": [{"coding": [{"system": "urn:oid:1.2.250.1.213.2.2.5.90", "code": "11"}]}],
        "subject": {"reference": _full_url("patient")},
        "date": "2026-03-02T08:00:00+01:00",
        "content": [
            {
                "attachment": {
                    "contentType": "application/pdf",
                    "language": "fr-FR",
                    "url": _full_url("binary"),
                    "size": len(PDF),
                    "hash": base64.b64encode(hashlib.sha1(PDF, usedforsecurity=False).digest()).decode(),
                },
                "format": {
                    "system": "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode",
                    "code": "urn:ihe:iti:xds-sd:pdf:2008",
                },
            }
        ],
    }
    submission_set = {
        "resourceType": "List",
        "extension": [
            {
                "url": "https://profiles.ihe.net/ITI/MHD/StructureDefinition/ihe-sourceId",
                "valueIdentifier": {"system": URI, "value": "urn:oid:1.2.250.1.213.9.9"},
            }
        ],
        "identifier": [{"use": "official", "system": URI, "value": lot_uid}],
        "status": "current",
        "mode": "working",
        "code": {
            "coding": [
                {
                    "system": "https://profiles.ihe.net/ITI/MHD/CodeSystem/MHDlistTypes",
                    "code": "submissionset",
                }
            ]
        },
        "subject": {"reference": _full_url("patient")},
        "date": "2026-03-02T08:00:00+01:00",
        "entry": [{"item": {"reference": _full_url("document_reference")}}],
    }
    binary = {
        "resourceType": "Binary",
        "id": binary_id,
        "contentType": "application/pdf",
        "data": base64.b64encode(PDF).decode(),
    }
    return {
        "resourceType": "Bundle",
        "meta": {"profile": ["https://profiles.ihe.net/ITI/MHD/StructureDefinition/IHE.MHD.Minimal.ProvideBundle"]},
        "type": "transaction",
        "entry": [
            _post(submission_set, "submission_set", f"{URI}|{lot_uid}"),
            _post(document_reference, "document_reference", f"{URI}|{document_uid}"),
            {
                "fullUrl": _full_url("binary"),
                "resource": binary,
                "request": {"method": "PUT", "url": f"Binary/{binary_id}"},
            },
            _post(patient, "patient", f"{MATRICULE}|{key}"),
        ],
    }


def _judge(peer: HapiPeer) -> dict[str, Any]:
    return httpx.get(peer.judge_url, trust_env=False).raise_for_status().json()


def _locations(answer: httpx.Response) -> list[str]:
    return [entry["response"]["location"].split("/_history/")[0] for entry in answer.json()["entry"]]


def test_it_says_what_it_can_do(client: httpx.Client) -> None:
    """The CapabilityStatement names the transaction, and the searches that a document consumer makes."""
    rest = client.get("/metadata").raise_for_status().json()["rest"][0]
    parameters = {
        resource["type"]: {parameter["name"] for parameter in resource.get("searchParam", [])}
        for resource in rest["resource"]
    }

    assert {"code": "transaction"} in rest["interaction"]
    assert parameters["DocumentReference"] == {"_id", "identifier", "patient", "subject"}
    assert parameters["Patient"] == {"_id", "identifier"}


def test_a_valid_transaction_is_written_and_answered_in_order(client: httpx.Client) -> None:
    """Each entry is answered with status, location and etag, and links between entries lead to what was written."""
    answer = client.post("", json=_provide_document_bundle("1000"), headers=JSON)

    assert answer.status_code == 200, answer.text
    assert answer.json()["type"] == "transaction-response"
    responses = [entry["response"] for entry in answer.json()["entry"]]
    assert [response["status"] for response in responses] == ["201 Created"] * 4
    assert [response["etag"] for response in responses] == ['W/"1"'] * 4
    submission_set, document_reference, binary, patient = _locations(answer)
    assert [location.split("/")[0] for location in _locations(answer)] == [
        "List",
        "DocumentReference",
        "Binary",
        "Patient",
    ]
    stored = client.get(document_reference).json()
    assert stored["subject"] == {"reference": patient}
    assert stored["content"][0]["attachment"]["url"] == binary
    assert stored["masterIdentifier"]["value"] == _full_url("document 1000")
    assert client.get(submission_set).json()["entry"] == [{"item": {"reference": document_reference}}]


def test_the_same_transaction_twice_makes_one_document_reference(peer: HapiPeer, client: httpx.Client) -> None:
    """Conditional creates find what the first post wrote, answer 200 with its location, and write nothing."""
    bundle = _provide_document_bundle("2000")
    first = client.post("", json=bundle, headers=JSON)
    held = _judge(peer)["resources"]
    second = client.post("", json=bundle, headers=JSON)

    assert [entry["response"]["status"] for entry in second.json()["entry"]] == ["200 OK"] * 4
    assert _locations(second) == _locations(first)
    assert _judge(peer)["resources"] == held
    found = client.get("/DocumentReference", params={"identifier": f"{URI}|{_full_url('document 2000')}"}).json()
    assert found["total"] == 1


@pytest.mark.parametrize("fault", FAULTS)
def test_one_invalid_resource_refuses_the_whole_transaction(peer: HapiPeer, client: httpx.Client, fault: str) -> None:
    """The answer is 422 with an OperationOutcome that holds an error, and nothing of the transaction is kept."""
    bundle = _provide_document_bundle("3000")
    FAULTS[fault](bundle["entry"][1]["resource"])
    before = _judge(peer)
    answer = client.post("", json=bundle, headers=JSON)
    after = _judge(peer)

    assert answer.status_code == 422
    assert answer.json()["resourceType"] == "OperationOutcome"
    assert any(issue["severity"] in ("error", "fatal") for issue in answer.json()["issue"])
    assert after["resources"] == before["resources"]
    assert (after["received"], after["rejected"]) == (before["received"] + 1, before["rejected"] + 1)


def test_a_link_to_no_entry_is_refused(peer: HapiPeer, client: httpx.Client) -> None:
    """A urn:uuid that no entry bears cannot be resolved by the receiver: 422, and what came before it is undone."""
    bundle = _provide_document_bundle("3500")
    del bundle["entry"][3]
    held = _judge(peer)["resources"]

    assert client.post("", json=bundle, headers=JSON).status_code == 422
    assert _judge(peer)["resources"] == held


def test_two_entries_for_one_resource_are_refused(peer: HapiPeer, client: httpx.Client) -> None:
    """They pass the validator, and the order in which to write them would be a guess: 400, and nothing stays."""
    bundle = _provide_document_bundle("4000")
    bundle["entry"].append(copy.deepcopy(bundle["entry"][2]) | {"fullUrl": _full_url("the same binary again")})
    held = _judge(peer)["resources"]
    answer = client.post("", json=bundle, headers=JSON)

    assert answer.status_code == 400
    assert _judge(peer)["resources"] == held


def test_criteria_that_select_two_resources_are_refused(peer: HapiPeer, client: httpx.Client) -> None:
    """A conditional create with several matches is answered 412, and the rest of the transaction is not written."""
    bundle = _provide_document_bundle("5000")
    for _ in range(2):
        client.post("/Patient", json=bundle["entry"][3]["resource"], headers=JSON).raise_for_status()
    held = _judge(peer)["resources"]

    assert client.post("", json=bundle, headers=JSON).status_code == 412
    assert _judge(peer)["resources"] == held


def test_an_invalid_resource_is_refused_outside_transactions_too(client: httpx.Client) -> None:
    """Create and update go through the same validator."""
    patient = {"resourceType": "Patient", "id": "invalid", "gender": "femme"}

    assert client.post("/Patient", json=patient, headers=JSON).status_code == 422
    assert client.put("/Patient/invalid", json=patient, headers=JSON).status_code == 422
    assert client.get("/Patient/invalid").status_code == 404


def test_a_body_that_is_not_json_is_refused_not_failed_on(client: httpx.Client) -> None:
    """The sender is at fault: 422 like any invalid body, not a 500 that invites to send the same again."""
    answer = client.post("", content=b'{"resourceType": "Bundle",', headers=JSON)

    assert answer.status_code == 422
    assert answer.json()["issue"][0]["severity"] == "fatal"


@pytest.mark.parametrize(("method", "path"), [("POST", "/Binary"), ("PUT", "/Binary/raw-put")])
def test_a_raw_binary_is_returned_byte_for_byte(client: httpx.Client, method: str, path: str) -> None:
    """What came in with its own content type goes out so; asked for as FHIR, it is a Binary resource."""
    written = client.request(method, path, content=PDF, headers={"Content-Type": "application/pdf"})
    assert written.status_code == 201
    location = written.headers["Content-Location"].split("/_history/")[0]

    raw = client.get(location, headers={"Accept": "application/pdf"})
    assert raw.headers["Content-Type"] == "application/pdf"
    assert raw.content == PDF
    as_fhir = client.get(location, headers={"Accept": "application/fhir+json"}).json()
    assert base64.b64decode(as_fhir["data"]) == PDF


def test_the_binary_of_a_transaction_is_returned_byte_for_byte(client: httpx.Client) -> None:
    """A document sent inside a transaction is retrieved as a file (ITI-68)."""
    answer = client.post("", json=_provide_document_bundle("6000"), headers=JSON)

    assert client.get(_locations(answer)[2], headers={"Accept": "application/pdf"}).content == PDF


def test_documents_are_found_by_their_patient(client: httpx.Client) -> None:
    """By reference, and by the identifier of the patient (ITI-67), and not under another patient."""
    wanted = client.post("", json=_provide_document_bundle("7000"), headers=JSON)
    client.post("", json=_provide_document_bundle("7001"), headers=JSON).raise_for_status()
    _, document_reference, _, patient = _locations(wanted)

    for criteria in (
        {"patient": patient},
        {"subject": patient},
        {"patient.identifier": f"{MATRICULE}|7000"},
        {"_id": document_reference.split("/")[1]},
    ):
        found = client.get("/DocumentReference", params=criteria).json()
        assert [f"DocumentReference/{entry['resource']['id']}" for entry in found["entry"]] == [document_reference]
    assert client.get("/List", params={"patient": patient}).json()["total"] == 1


def test_an_update_creates_then_makes_versions(client: httpx.Client) -> None:
    """The first PUT answers 201, the next 200 with a new version, and the old version can still be read."""
    organization: dict[str, Any] = {"resourceType": "Organization", "id": "service", "name": "Service fictif"}
    created = client.put("/Organization/service", json=organization, headers=JSON)
    updated = client.put("/Organization/service", json=organization | {"name": "Service renamed"}, headers=JSON)

    assert (created.status_code, updated.status_code) == (201, 200)
    assert updated.headers["ETag"] == 'W/"2"'
    assert client.get("/Organization/service").json()["name"] == "Service renamed"
    assert client.get("/Organization/service/_history/1").json()["name"] == "Service fictif"


def test_failures_asked_for_hit_the_next_transactions_and_then_stop(peer: HapiPeer, client: httpx.Client) -> None:
    """Two transactions are answered 503 and write nothing; the third is written; other requests are not touched."""
    before = _judge(peer)
    ordered = httpx.post(f"{peer.judge_url}/fail", params={"times": 2, "status": 503}, trust_env=False)
    assert ordered.status_code == 204

    bundle = _provide_document_bundle("8000")
    headers = JSON | {"Connection": "close"}  # whoever refuses without reading the body drops the connection
    assert client.post("", json=bundle, headers=headers).status_code == 503
    assert client.get("/Patient").status_code == 200
    assert client.post("", json=bundle, headers=headers).status_code == 503
    assert _judge(peer)["resources"] == before["resources"]
    assert client.post("", json=bundle, headers=headers).status_code == 200
    after = _judge(peer)
    assert (after["received"], after["rejected"]) == (before["received"] + 3, before["rejected"])


def test_without_java_the_peer_says_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine without the tools skips these tests with a reason, and fails none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(PeerUnavailable, match="needs the command java"), hapi_server():
        pass


def test_a_port_that_is_taken_is_a_reason_not_a_crash(peer: HapiPeer) -> None:
    """The server that cannot start leaves at once, and its reason is the exception."""
    taken = httpx.URL(peer.base_url).port

    with pytest.raises(PeerUnavailable, match=r"did not start: .*in use"), hapi_server(taken):
        pass
