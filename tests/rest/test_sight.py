"""No path shows what a role may not see, and each shows all that it may.

The judge is `decide_looking`, asked of every resource that there is; the archives are random.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import orjson
import pytest

from fhir_server import roles
from fhir_server.consent.decide import Looking, Permit, decide_looking
from fhir_server.records import audit
from fhir_server.settings import Settings
from fhir_server.store.persons import Persons
from fhir_server.store.role_editions import RoleEditions, in_days
from mappings import access_facts as facts
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests.rest.operations.bulk import export, lines
from tests.support import (
    EVERYTHING,
    FOLDERS,
    Caller,
    Resource,
    Server,
    document_reference,
    entry,
    keep,
    observation,
    pages,
    patient,
    post,
    transaction,
)

WORKERS = 3
CENTRES = {"A": "Organization/ca", "B": "Organization/cb"}
"""Centres of the service, by their codes: of the first two workers. The third is in the charge of none."""
SERVICE: list[Resource] = [
    {"resourceType": "Organization", "id": "spst", "name": "Service"},
    *(
        {
            "resourceType": "Organization",
            "id": one.partition("/")[2],
            "identifier": [{"system": systems.CENTRE, "value": code}],
        }
        for code, one in CENTRES.items()
    ),
]
DOCUMENTS = 12
KINDS = ("DMST-VISITE", "DMST-EXPO", "DMST-APT", "DMST-COUV", "DMST-NT", "DMST-AUTRE", "DMST-CORR-EMP", "DMST-DOSI")
TAGS = "urn:test:tags"
LABEL = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
ASKED = "Patient,DocumentReference,Observation,Consent,List,Binary,Organization,Provenance,Communication"


@dataclass
class Archive:
    """What there is, by `Type/id`, and which rights each worker exercises against others."""

    kept: dict[str, Resource]
    opposed: dict[str, set[str]]

    def seen_by(self, looker: "Looker") -> set[str]:
        """What `decide_looking` permits; a Binary is seen with what protects it."""
        return {name for name, one in self.kept.items() if self._permits(looker, one)}

    def _permits(self, looker: "Looker", one: Resource) -> bool:
        guard, worker = facts.access_facts(one)
        decision = decide_looking(
            Looking(
                roles.of_the_law().get(looker.role),
                guard,
                worker is not None and worker == looker.worker,
                self.opposed.get(worker or "", set()),
                looker.delegated,
                looker.purpose,
                [CENTRES[code] for code in looker.team],
                self.kept.get(f"Patient/{worker}", {}).get("managingOrganization", {}).get("reference"),
                worker is not None and worker == looker.declared,
            )
        )
        if not isinstance(decision, Permit):
            return False
        return "securityContext" not in one or self._permits(looker, self.kept[one["securityContext"]["reference"]])


@dataclass(frozen=True)
class Looker:
    role: str
    delegated: bool = False
    purpose: str | None = None
    worker: str | None = None
    team: tuple[str, ...] = ("A", "B")
    declared: str | None = None
    """The worker for whom he declared a reason to look beyond his team."""


LOOKERS = [
    Looker("medecin-travail"),
    Looker("infirmier"),
    Looker("medecin-praticien-correspondant"),
    Looker("assistant", delegated=True),
    Looker("assistant"),
    Looker("iprp", delegated=True),
    Looker("employeur"),
    Looker("medecin-inspecteur", purpose="PUBHLTH"),
    Looker("medecin-inspecteur"),
    Looker("travailleur", worker="p1"),
    Looker("autre-spst"),
    Looker("technique"),
    Looker("device-gateway"),
    Looker("external-system"),
    Looker("infirmier", team=("A",)),
    Looker("infirmier", team=("A",), declared="p1"),
    Looker("medecin-travail", team=()),
]


def resources(dice: random.Random) -> list[Resource]:
    """An archive in the order in which it can be written."""
    made: list[Resource] = [*SERVICE]
    for number in range(WORKERS):
        named: dict[str, Any] = {"identifier": [{"system": FOLDERS, "value": f"f{number}"}]}
        if number < len(CENTRES):
            named["managingOrganization"] = {"reference": list(CENTRES.values())[number]}
        made.append(patient(f"p{number}", "DURAND", **named))
    for number in range(DOCUMENTS):
        labels = [
            {"system": systems.SECURITY_TAG, "code": code}
            for code in ("non-transmissible", "quarantaine")
            if dice.random() < 0.15
        ]
        labels += [
            {"system": systems.TRE_A07, "code": code}
            for code in ("MASQUE_PS", "INVISIBLE_PATIENT")
            if dice.random() < 0.1
        ]
        kind = dice.choice(KINDS)
        headings = [] if dice.random() < 0.3 else [dice.choice("1234567x") for _ in range(dice.randrange(1, 3))]
        whose = f"p{dice.randrange(WORKERS)}"
        made.append(
            document_reference(
                whose,
                id=f"d{number}",
                identifier=[{"system": FOLDERS, "value": f"doc{number}"}],
                type={"coding": [{"system": systems.DMST_NOMENCLATURE, "code": kind}]},
                **(
                    {"category": [{"coding": [{"system": systems.DMST_CATEGORY, "code": one} for one in headings]}]}
                    if headings
                    else {}
                ),
                meta={"tag": [{"system": TAGS, "code": f"d{number}"}], **({"security": labels} if labels else {})},
            )
        )
        if dice.random() < 0.5:
            made.append(
                {
                    "resourceType": "Binary",
                    "id": f"b{number}",
                    "contentType": "application/pdf",
                    "securityContext": {"reference": f"DocumentReference/d{number}"},
                    "data": "JVBERg==",
                }
            )
    for number in range(DOCUMENTS):
        tag = {"tag": [{"system": TAGS, "code": f"o{number}"}]}
        if dice.random() < 0.3:
            tag["tag"].append({"system": systems.DMST_CATEGORY, "code": dice.choice("12")})
        made.append(
            observation(
                f"p{dice.randrange(WORKERS)}", id=f"o{number}", code=dice.choice(("8302-2", "29463-7")), meta=tag
            )
        )
    for number in range(WORKERS):
        item = {"item": {"reference": f"DocumentReference/d{number}"}}
        of_worker = {"subject": {"reference": f"Patient/p{number}"}, "entry": [item]}
        made.append({"resourceType": "List", "id": f"l{number}", "status": "current", "mode": "working", **of_worker})
    made += [
        {
            "resourceType": "Communication",
            "id": f"c{n}",
            "status": "completed",
            "subject": {"reference": f"Patient/p{n}"},
        }
        for n in range(WORKERS)
    ]
    made.append(
        {
            "resourceType": "Provenance",
            "id": "v",
            "target": [{"reference": "DocumentReference/d1"}],
            "recorded": "2026-01-01T00:00:00Z",
            "agent": [{"who": {"reference": "Organization/spst"}}],
        }
    )
    return made


def consents(dice: random.Random) -> tuple[list[Resource], dict[str, set[str]]]:
    """Consents in every state, and what follows from them at this moment."""
    now = datetime.now(UTC)
    made: list[Resource] = []
    opposed: dict[str, set[str]] = {}
    for number in range(WORKERS * 3):
        whose, right = f"p{dice.randrange(WORKERS)}", dice.choice(("C1", "C2", "C3"))
        status = dice.choice(("active", "active", "inactive"))
        verdict = dice.choice(("deny", "deny", "permit"))
        days = dice.choice(((-2, 2), (-2, None), (-3, -1), (1, 2), (None, None)))
        period = {
            name: (now + timedelta(days=day)).isoformat()
            for name, day in zip(("start", "end"), days, strict=True)
            if day
        }
        made.append(
            {
                "resourceType": "Consent",
                "id": f"k{number}",
                "status": status,
                "scope": {"coding": [{"code": "patient-privacy"}]},
                "category": [{"coding": [{"system": WORKER_RIGHT, "code": right}]}],
                "patient": {"reference": f"Patient/{whose}"},
                "dateTime": (now - timedelta(days=9)).isoformat(),
                "policyRule": {"text": "R4624-45-6"},
                "provision": {"type": verdict, **({"period": period} if period else {})},
            }
        )
        if status == "active" and verdict == "deny" and days not in ((-3, -1), (1, 2)):
            opposed.setdefault(whose, set()).add(right)
    return made, opposed


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    """A service that keeps professionals to their teams."""
    return make_settings(out_of_team="reason")


async def join(server: Server, person: str, *team: str) -> None:
    persons = Persons(server.database)
    for code in team:
        await persons.join(person, code, "Dr Test", audit.access(None, "operation", "test"))


@pytest.fixture(params=[1, 2])
async def archive(request: pytest.FixtureRequest, fhir_client: httpx.AsyncClient, server: Server) -> Archive:
    dice = random.Random(request.param)
    await keep(fhir_client, *SERVICE)
    writer = await server.client(EVERYTHING, role="medecin-travail")
    await join(server, writer.client_id, *CENTRES)
    doctor = writer.http
    made = resources(dice)
    rights, opposed = consents(dice)
    for one in (*made, *rights):
        await keep(doctor, {**one, "language": "fr"})  # each has a version that is not the current one
        await keep(doctor, one)
    kept = {f"{one['resourceType']}/{one['id']}": one for one in (*made, *rights)}
    return Archive(kept, opposed)


@pytest.fixture
async def lookers(archive: Archive, server: Server) -> list[tuple[Looker, Caller]]:
    editions = RoleEditions(server.database)
    made: list[tuple[Looker, Caller]] = []
    for one in LOOKERS:
        caller = await server.client(EVERYTHING, role=one.role, purpose=one.purpose, worker=one.worker)
        if one.delegated:
            await editions.delegate(caller.client_id, "Dr Test", *in_days(1))
        await join(server, caller.client_id, *one.team)
        if one.declared:
            said = [{"name": "reason", "valueCode": "BTG"}, {"name": "text", "valueString": "Malaise au poste"}]
            parameters = {"resourceType": "Parameters", "parameter": said}
            answer = await caller.http.post(f"/fhir/Patient/{one.declared}/$declare-access", json=parameters)
            assert answer.status_code == 200, answer.text
        made.append((one, caller))
    return made


def of_type(names: set[str], resource_type: str) -> list[str]:
    return sorted(name.partition("/")[2] for name in names if name.startswith(f"{resource_type}/"))


async def all_of(http: httpx.AsyncClient, query: str) -> list[Resource]:
    """The matches of every page."""
    entries = [one async for page in pages(http, query) for one in page.get("entry", [])]
    return [one["resource"] for one in entries if one.get("search", {}).get("mode", "match") == "match"]


def names_of(found: list[Resource]) -> set[str]:
    return {f"{one['resourceType']}/{one['id']}" for one in found}


async def test_reads_and_histories(archive: Archive, lookers: list[tuple[Looker, Caller]]) -> None:
    """200, or a 404 that says no more than that of what never was; of every version."""
    for looker, caller in lookers:
        seen = archive.seen_by(looker)
        for name in archive.kept:
            for path in (name, f"{name}/_history/1", f"{name}/_history", f"{name}/$meta"):
                answer = await caller.http.get(f"/fhir/{path}", headers={"accept": "application/fhir+json"})
                assert answer.status_code == (200 if name in seen else 404), (looker, path, answer.text)
                if name not in seen:
                    never = await caller.http.get(f"/fhir/{path.replace(name, name.split('/')[0] + '/never')}")
                    assert answer.text.replace(name, f"{name.split('/')[0]}/never") == never.text
        told = [one async for page in pages(caller.http, "_history?_count=50") for one in page.get("entry", [])]
        assert names_of([one["resource"] for one in told]) == seen, looker
        of_documents = (await caller.http.get("/fhir/DocumentReference/_history?_count=1000&_total=accurate")).json()
        assert of_documents["total"] == 2 * len(of_type(seen, "DocumentReference")), looker


async def test_searches_and_their_totals(archive: Archive, lookers: list[tuple[Looker, Caller]]) -> None:
    """The same hits by every way that a page is made, and no number that counts more."""
    for looker, caller in lookers:
        seen = archive.seen_by(looker)
        documents = of_type(seen, "DocumentReference")
        for more in ("", "&_sort=date", "&_sort=-_lastUpdated", "&_sort=type", "&status=current&date:missing=true"):
            found = await all_of(caller.http, f"DocumentReference?_count=3{more}")
            assert sorted(one["id"] for one in found) == documents, (looker, more)
        for kind in ("DocumentReference", "Observation", "Patient", "Consent", "Communication", "List"):
            counted = (await caller.http.get(f"/fhir/{kind}?_summary=count")).json()
            assert counted["total"] == len(of_type(seen, kind)), (looker, kind)
            total = (await caller.http.get(f"/fhir/{kind}?_count=1&_total=accurate")).json()
            assert total["total"] == len(of_type(seen, kind)), (looker, kind)
        for number in range(WORKERS):
            mine = [
                n
                for n in documents
                if archive.kept[f"DocumentReference/{n}"]["subject"]["reference"] == f"Patient/p{number}"
            ]
            for query in (
                f"DocumentReference?patient=p{number}&_sort=-date&_count=2",
                f"Patient/p{number}/DocumentReference?_count=2",
            ):
                assert sorted(one["id"] for one in await all_of(caller.http, query)) == mine, (looker, query)
        assert names_of(await all_of(caller.http, f"?_type={ASKED}&_count=7")) == seen, looker


async def test_what_a_search_is_led_by(archive: Archive, lookers: list[tuple[Looker, Caller]]) -> None:
    """Chains, `_has`, lists and what comes along neither show nor are led by what is not seen: no oracle."""
    for looker, caller in lookers:
        seen = archive.seen_by(looker)
        chained = await all_of(caller.http, "DocumentReference?subject:Patient.family=durand")
        subjects = {
            name: archive.kept[name]["subject"]["reference"] for name in seen if name.startswith("DocumentReference/")
        }
        assert names_of(chained) == {name for name, whose in subjects.items() if whose in seen}, looker
        for code in ("8302-2", "29463-7"):
            had = {
                one["subject"]["reference"]
                for name in seen
                if (one := archive.kept[name])["resourceType"] == "Observation"
                and one["code"]["coding"][0]["code"] == code
            }
            found = await all_of(caller.http, f"Patient?_has:Observation:subject:code={code}")
            assert names_of(found) == had & seen, (looker, code)
        for number in range(DOCUMENTS):
            by_tag = await all_of(caller.http, f"Patient?_has:DocumentReference:subject:_tag={TAGS}|d{number}")
            document = f"DocumentReference/d{number}"
            whose = archive.kept[document]["subject"]["reference"]
            assert names_of(by_tag) == ({whose} & seen if document in seen else set()), (looker, number)
        listed = await all_of(caller.http, "DocumentReference?_list=l1")
        assert names_of(listed) == ({"DocumentReference/d1"} & seen if "List/l1" in seen else set()), looker
        for query in (
            "DocumentReference?_include=DocumentReference:subject",
            "Patient?_revinclude=Observation:subject&_revinclude=DocumentReference:patient&_revinclude=Consent:patient",
        ):
            bundle = (await caller.http.get(f"/fhir/{query}&_count=100")).json()
            assert names_of([one["resource"] for one in bundle.get("entry", [])]) <= seen, (looker, query)


async def test_operations(archive: Archive, server: Server, lookers: list[tuple[Looker, Caller]]) -> None:
    """$everything, $meta, $lastn, $docref, GraphQL, batches and $export."""
    for looker, caller in lookers:
        seen, http = archive.seen_by(looker), caller.http
        for number in range(WORKERS):
            answer = await http.get(f"/fhir/Patient/p{number}/$everything?_count=1000")
            assert answer.status_code == (200 if f"Patient/p{number}" in seen else 404), looker
            assert names_of([one["resource"] for one in answer.json().get("entry", [])]) <= seen
            newest = await http.get(f"/fhir/Observation/$lastn?patient=p{number}&max=100")
            assert names_of([one["resource"] for one in newest.json().get("entry", [])]) <= seen
            documents = await http.get(f"/fhir/DocumentReference/$docref?patient=p{number}")
            assert names_of([one["resource"] for one in documents.json().get("entry", [])]) <= seen
        meta = (await http.get("/fhir/DocumentReference/$meta")).json()
        tags = {
            tag["code"]
            for one in meta.get("parameter", [])
            for tag in one["valueMeta"].get("tag", [])
            if tag["system"] == TAGS
        }
        assert tags == set(of_type(seen, "DocumentReference")), looker
        asked = orjson.dumps(
            {"query": "{ DocumentReferenceList(_count: 1000) { id } PatientList(_count: 1000) { id } }"}
        )
        told = (await http.post("/fhir/$graphql", content=asked, headers={"content-type": "application/json"})).json()[
            "data"
        ]
        assert sorted(one["id"] for one in told["DocumentReferenceList"] or []) == of_type(seen, "DocumentReference"), (
            looker
        )
        batch = {
            "resourceType": "Bundle",
            "type": "batch",
            "entry": [{"request": {"method": "GET", "url": name}} for name in archive.kept],
        }
        answers = (await http.post("/fhir", json=batch)).json()["entry"]
        assert {
            name for name, one in zip(archive.kept, answers, strict=True) if one["response"]["status"][:3] == "200"
        } == seen
    for looker, caller in (lookers[1], lookers[3]):
        done = await export(server, caller.http, f"$export?_type={ASKED}")
        files = [await lines(caller.http, file["url"]) for file in done.manifest["output"]]
        assert names_of([one for file in files for one in file]) == archive.seen_by(looker), looker


async def test_criteria_of_writes_find_only_what_is_seen(
    archive: Archive, lookers: list[tuple[Looker, Caller]]
) -> None:
    """A conditional create, a conditional reference and a conditional delete are no oracles either."""
    for looker, caller in lookers:
        seen = archive.seen_by(looker)
        for number in range(0, DOCUMENTS, 3):
            name = f"DocumentReference/d{number}"
            asked = {"if-none-exist": f"identifier={FOLDERS}|doc{number}"}
            # of what this role may not create: where nothing is found it is refused, where something is, told
            answer = await caller.http.post(
                "/fhir/DocumentReference", json={**archive.kept[name], "status": "nonsense"}, headers=asked
            )
            assert answer.status_code == 422
            linked = {
                "resourceType": "Communication",
                "status": "completed",
                "about": [{"reference": f"DocumentReference?identifier={FOLDERS}|doc{number}"}],
            }
            answer = await post(caller.http, transaction(entry(linked)))
            if name not in seen:
                assert answer.status_code in (403, 412), (looker, answer.text)
                assert f"d{number}" not in answer.text


async def test_nothing_unseen_is_changed(
    archive: Archive, server: Server, lookers: list[tuple[Looker, Caller]]
) -> None:
    """Update, patch, delete and labels: refused, and nothing of what is there in the answer."""
    before = await server.rows("select type, id, version from resource order by rid")
    for looker, caller in lookers:
        seen, http = archive.seen_by(looker), caller.http
        for name in [n for n in archive.kept if n not in seen][::5]:
            is_binary = name.startswith("Binary")
            patch = [{"op": "test", "path": "/status", "value": "never"}]
            answers = [
                await http.put(f"/fhir/{name}", json={**archive.kept[name], "language": "en"}),
                await http.patch(f"/fhir/{name}", json=patch, headers={"content-type": "application/json-patch+json"}),
                await http.delete(f"/fhir/{name}"),
                await http.post(f"/fhir/{name}/$meta-add", json=LABEL),
            ]
            assert {answer.status_code for answer in answers} <= ({403, 404, 405} if is_binary else {403, 404}), (
                looker,
                name,
            )
    assert await server.rows("select type, id, version from resource order by rid") == before
