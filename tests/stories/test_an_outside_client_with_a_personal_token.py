"""A15 of the acceptance scenarios: a FHIR client of somebody else asks with the token of a professional.

dmst.md section 6; R4624-45-5 and -6 C. trav. The token is one as Pro Santé Connect gives them: signed by the provider,
naming the RPPS, and bound to the TLS certificate of the client (RFC 8705).
"""

import base64
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fhir_server.settings import Settings
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests.oauth import publishing
from tests.rest.oauth.test_certificates import ONE, OTHER, TRUST, der, over
from tests.rest.oauth.test_issuer import AUDIENCE, Outside
from tests.support import EVERYTHING, Resource, Server, document_reference, ids_of, keep, link, patient

RPPS = "899700218896"
ROLES = f"""
[second_factor]
acr = ["eidas1"]

[[role]]
role = "medecin-praticien-correspondant"
scopes = ["system/Patient.rs", "system/DocumentReference.rs", "system/Binary.r"]
purpose = "TREAT"
without_scope = true
[role.when]
SubjectNameID = ["{RPPS}"]
"""
CONTENT = bytes(range(256)) * 64
VISITS = [f"visit{number}" for number in range(7)]


@pytest.fixture
def provider() -> Iterator[Outside]:
    with publishing() as publisher:
        yield Outside(publisher)


@pytest.fixture
def settings(make_settings: Callable[..., Settings], provider: Outside, tmp_path: Path) -> Settings:
    file = tmp_path / "roles.toml"
    file.write_text(ROLES, encoding="utf-8")
    return make_settings(
        issuer=provider.issuer, issuer_audience=AUDIENCE, issuer_roles=file, outbound_loopback=True, **TRUST
    )


def of_kind(name: str, kind: str, whose: str = "p", **more: Any) -> Resource:
    return document_reference(
        whose,
        id=name,
        type={"coding": [{"system": systems.DMST_NOMENCLATURE, "code": kind}]},
        category=[{"coding": [{"system": systems.DMST_CATEGORY, "code": "3"}]}],
        content=[{"attachment": {"contentType": "application/pdf", "url": f"Binary/{name}-bytes"}}],
        **more,
    )


@pytest.fixture
async def doctor(server: Server) -> httpx.AsyncClient:
    """The records: p with visits, one of them a note that is withheld; q who opposes the correspondent (C1)."""
    http = (await server.client(EVERYTHING, role="medecin-travail")).http
    flag = {"security": [{"system": systems.SECURITY_TAG, "code": "non-transmissible"}]}
    opposition = {
        "resourceType": "Consent",
        "id": "c1",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": "C1"}]}],
        "patient": {"reference": "Patient/q"},
        "policyRule": {"text": "R4624-45-6"},
        "provision": {"type": "deny"},
    }
    visits = [of_kind(one, "DMST-VISITE") for one in VISITS]
    note, audiogram = of_kind("note", "DMST-VISITE", meta=flag), of_kind("audio", "DMST-AUDIO")
    opposed = of_kind("opposed", "DMST-VISITE", "q")
    await keep(http, patient("p"), patient("q"), *visits, note, audiogram, opposed, opposition)
    for name in ("visit0", "note", "opposed"):
        headers = {"content-type": "application/pdf", "x-security-context": f"DocumentReference/{name}"}
        assert (await http.put(f"/fhir/Binary/{name}-bytes", content=CONTENT, headers=headers)).status_code == 201
    return http


def bound(provider: Outside, **changes: Any) -> dict[str, str]:
    """The Authorization header of the professional, bound to the certificate ONE."""
    thumbprint = base64.urlsafe_b64encode(hashlib.sha256(der(ONE)).digest()).decode().rstrip("=")
    about = {"sub": f"f:1:{RPPS}", "azp": "logiciel-mpc", "acr": "eidas1", "SubjectNameID": RPPS, "scope": "openid"}
    return {"authorization": f"Bearer {provider.token(about, **{'cnf': {'x5t#S256': thumbprint}, **changes})}"}


async def test_a15_the_client_gets_what_its_professional_may_see_and_each_access_is_traced(
    server: Server, doctor: httpx.AsyncClient, provider: Outside
) -> None:
    """Only permitted documents; pages that stay the same while others write; bytes by Range; a trace of each."""
    client, token = await over(server, ONE), bound(provider)
    for thief in (await over(server, OTHER), await over(server, None)):
        assert (await thief.get("/fhir/DocumentReference", headers=token)).status_code == 401
    without_second_factor = bound(provider, acr="eidas0")
    assert (await client.get("/fhir/DocumentReference", headers=without_second_factor)).status_code == 403

    visits = f"patient=p&type={systems.DMST_NOMENCLATURE}|DMST-VISITE"
    asked = f"/fhir/DocumentReference?{visits}&_count=3&_sort=_id&_total=accurate"
    first = (await client.get(asked, headers=token)).json()
    await keep(doctor, of_kind("visit00", "DMST-VISITE"), {**of_kind("visit6", "DMST-VISITE"), "description": "new"})
    assert first["resourceType"] == "Bundle", first
    bundle, seen = first, ids_of(first)
    assert (first["total"], seen) == (7, VISITS[:3])
    while following := link(bundle, "next"):
        bundle = (await client.get(following, headers=token)).json()
        seen += ids_of(bundle)
        assert bundle["total"] == 7
    assert seen == VISITS, "nothing twice, nothing left out, nothing that came meanwhile"

    binary = "/fhir/Binary/visit0-bytes"
    accept = {**token, "accept": "application/pdf"}
    whole = await client.get(binary, headers=accept)
    assert (whole.status_code, whole.content, whole.headers["accept-ranges"]) == (200, CONTENT, "bytes")
    part = await client.get(binary, headers={**accept, "range": "bytes=1000-1999"})
    assert (part.status_code, part.content) == (206, CONTENT[1000:2000])
    assert part.headers["content-range"] == f"bytes 1000-1999/{len(CONTENT)}"
    tail = await client.get(binary, headers={**accept, "range": "bytes=-100"})
    assert (tail.status_code, tail.content) == (206, CONTENT[-100:])

    for hidden in ("DocumentReference/note", "Binary/note-bytes", "DocumentReference/opposed", "Binary/opposed-bytes"):
        assert (await client.get(f"/fhir/{hidden}", headers=token)).status_code == 404, hidden
    assert (await client.get("/fhir/DocumentReference?patient=q", headers=token)).json()["total"] == 0
    for closed in ("Consent?patient=p", "Observation?patient=p", "AuditEvent?patient=p"):
        assert (await client.get(f"/fhir/{closed}", headers=token)).status_code == 403, closed

    trail = await server.rows(
        "select interaction, outcome, resource_id, patient_id from access where professional = %s order by id", RPPS
    )
    assert ("search-type", 0, None, "p") in trail
    assert [one for one in trail if one[2] == "visit0-bytes"] == [("read", 0, "visit0-bytes", "p")] * 3
    for name, worker in (("note", "p"), ("note-bytes", "p"), ("opposed", "q"), ("opposed-bytes", "q")):
        assert ("read", 4, name, worker) in trail, name
    assert ("search-type", 4, None, "q") in trail
    shown = (await doctor.get(f"/fhir/AuditEvent?patient=p&agent:identifier={RPPS}&_count=100")).json()
    assert len(shown["entry"]) >= 6, "and the service can show who asked"
