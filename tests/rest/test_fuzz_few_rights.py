"""Whoever has few rights learns nothing that he may not see, and breaks nothing, whatever he sends.

Every route of the server's own tables, with requests that nobody should send (`fuzzing`). What is kept holds markers,
each in one resource; what a caller may see say `decide_looking` and his scopes. For longer runs: tests/README.md.
"""

import base64
import os
import random
import re
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from starlette.routing import Route as Beside

from fhir_server import roles
from fhir_server.caller import Caller as Who
from fhir_server.consent.decide import Looking, Permit, decide_looking
from fhir_server.store.clients import Clients
from mappings import access_facts as facts
from mappings.consent import WORKER_RIGHT
from terminology import systems
from tests import sharing
from tests.rest.fuzzing import Fuzzer, Request
from tests.rest.operations.bulk import work
from tests.support import EVERYTHING, Resource, Server, keep, observation, patient
from tests.test_outcomes import ISSUE_TYPES

EACH = int(os.environ.get("FUZZ_REQUESTS", "220"))
SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
SLOW = 10.0
MARKER = re.compile(r"MQ\d{4}ZZZ")
MOVES = re.compile(
    r'"(lastUpdated|timestamp|date|issued|recorded|versionId)":"[^"]*"|_cursor=[^"&]*|urn:uuid:[0-9a-f-]{36}'
)
DELETED = ("Observation/gone-0", "Observation/over-0")
SHOWN_FAULTS = 12


@dataclass(frozen=True)
class Version:
    """One version that is or was: its marker, and whether it is the current one."""

    name: str
    marker: str
    resource: Resource


@dataclass
class Archive:
    """What is kept, version by version; the ids that may be guessed."""

    versions: list[Version] = field(default_factory=list)
    ids: dict[str, list[str]] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    def marker(self) -> str:
        return f"MQ{len(self.versions):04d}ZZZ"

    def current(self, name: str) -> Resource | None:
        return next((one.resource for one in reversed(self.versions) if one.name == name), None)


@dataclass(frozen=True)
class Attacker:
    """A caller, what he is called here, and the markers that he may see."""

    name: str
    http: httpx.AsyncClient
    may_see: frozenset[str]
    visible: frozenset[str]


def label(system: str, code: str) -> Resource:
    return {"security": [{"system": system, "code": code}]}


def of_worker(whose: str, mark: str) -> list[Resource]:
    """A little of everything about one worker; `mark` stands where a text may."""
    worker = {"reference": f"Patient/{whose}-0"}
    concept = {"text": mark}
    document = {"content": [{"attachment": {"contentType": "text/plain", "url": "urn:test:x", "title": mark}}]}
    booked = {"participant": [{"actor": worker, "status": "accepted"}], "description": mark}
    return [
        patient(f"{whose}-0", mark, identifier=[{"system": systems.INS_NIR, "value": mark}], birthDate="1980-02-03"),
        observation(f"{whose}-0", id=f"o{whose}-0", valueString=mark),
        {"resourceType": "Appointment", "id": f"a{whose}-0", "status": "booked", **booked},
        {
            "resourceType": "Task",
            "id": f"t{whose}-0",
            "status": "draft",
            "intent": "order",
            "for": worker,
            "description": mark,
        },
        {
            "resourceType": "DocumentReference",
            "id": f"d{whose}-0",
            "status": "current",
            "subject": worker,
            "description": mark,
            **document,
        },
        {
            "resourceType": "List",
            "id": f"l{whose}-0",
            "status": "current",
            "mode": "working",
            "subject": worker,
            "title": mark,
        },
        {
            "resourceType": "Communication",
            "id": f"c{whose}-0",
            "status": "completed",
            "subject": worker,
            "note": [{"text": mark}],
        },
        {
            "resourceType": "Group",
            "id": f"g{whose}-0",
            "type": "person",
            "actual": True,
            "name": mark,
            "member": [{"entity": worker}],
        },
        {"resourceType": "Person", "id": f"n{whose}-0", "name": [{"family": mark}], "link": [{"target": worker}]},
        {
            "resourceType": "Encounter",
            "id": f"e{whose}-0",
            "status": "finished",
            "class": {"display": mark},
            "subject": worker,
        },
        {"resourceType": "AllergyIntolerance", "id": f"i{whose}-0", "patient": worker, "code": concept},
        {"resourceType": "Basic", "id": f"b{whose}-0", "subject": worker, "code": concept},
        {
            "resourceType": "Provenance",
            "id": f"v{whose}-0",
            "target": [worker],
            "recorded": "2026-01-01T00:00:00Z",
            "agent": [{"who": {"display": mark}}],
        },
        {
            "resourceType": "Composition",
            "id": f"m{whose}-0",
            "status": "final",
            "type": concept,
            "subject": worker,
            "date": "2026-01-01",
            "author": [{"display": "x"}],
            "title": mark,
        },
        {
            "resourceType": "Binary",
            "id": f"y{whose}-0",
            "contentType": "text/plain",
            "securityContext": {"reference": f"DocumentReference/d{whose}-0"},
            "data": base64.b64encode(mark.encode()).decode(),
        },
    ]


def withheld(mark: str) -> list[Resource]:
    """What is hidden of a worker who does not oppose."""
    notes = label(systems.SECURITY_TAG, "non-transmissible")
    made = of_worker("free", mark)
    document = next(one for one in made if one["resourceType"] == "DocumentReference")
    binary = next(one for one in made if one["resourceType"] == "Binary")
    return [
        {**document, "id": "nt-0", "meta": notes},
        {**binary, "id": "ynt-0", "securityContext": {"reference": "DocumentReference/nt-0"}},
        observation("free-0", id="q-0", meta=label(systems.SECURITY_TAG, "quarantaine"), valueString=mark),
        observation("free-0", id="x-0", meta=label(systems.TRE_A07, "MASQUE_PS"), valueString=mark),
        observation("free-0", id="gone-0", meta=notes, valueString=mark),
        observation("shut-0", id="over-0", valueString=mark),
        observation("shut-0", id=mark, valueString="x"),
        {
            "resourceType": "Bundle",
            "id": "u-0",
            "type": "collection",
            "entry": [{"resource": observation("shut-0", id="z", valueString=mark)}],
        },
        {"resourceType": "Questionnaire", "id": "w-0", "status": "draft", "title": mark, "meta": notes},
    ]


def outside() -> list[Resource]:
    """What tells of nobody."""
    return [
        {"resourceType": "Organization", "id": "spst-0", "name": "Service"},
        {"resourceType": "Device", "id": "scale-0"},
        {
            "resourceType": "CodeSystem",
            "id": "cs-0",
            "url": "urn:test:cs",
            "status": "active",
            "content": "complete",
            "concept": [{"code": "a"}],
        },
        {
            "resourceType": "ValueSet",
            "id": "vs-0",
            "url": "urn:test:vs",
            "status": "active",
            "compose": {"include": [{"system": "urn:test:cs"}]},
        },
        {
            "resourceType": "ConceptMap",
            "id": "cm-0",
            "url": "urn:test:cm",
            "status": "active",
            "sourceUri": "urn:test:vs",
            "targetUri": "urn:test:vs",
        },
    ]


async def fill(doctor: httpx.AsyncClient) -> Archive:
    """Each resource twice, the first version with a marker of its own."""
    archive = Archive()
    opposes = {
        "resourceType": "Consent",
        "id": "no-0",
        "status": "active",
        "scope": {"coding": [{"code": "patient-privacy"}]},
        "category": [
            {"coding": [{"system": WORKER_RIGHT, "code": "C2"}]},
            {"coding": [{"system": WORKER_RIGHT, "code": "C1"}]},
        ],
        "patient": {"reference": "Patient/shut-0"},
        "dateTime": "2026-01-01",
        "policyRule": {"text": "x"},
        "provision": {"type": "deny"},
    }
    await keep(doctor, *outside())
    for number in range(len(of_worker("free", ""))):
        for whose in ("free", "shut"):
            for _ in range(2):
                await _keep(doctor, archive, of_worker(whose, archive.marker())[number])
    for number in range(len(withheld(""))):
        for _ in range(1 if number == 6 else 2):
            await _keep(doctor, archive, withheld(archive.marker())[number])
    await keep(doctor, opposes)
    for name in DELETED:
        assert (await doctor.delete(f"/fhir/{name}")).status_code == 204
    # once in the record of who opposes, now in that of another
    await _keep(doctor, archive, observation("shut-0", id="moved-0", valueString=archive.marker()))
    await _keep(doctor, archive, observation("free-0", id="moved-0", valueString=archive.marker()))
    for one in (*archive.versions, *(Version("", "", one) for one in (*outside(), opposes))):
        listed = archive.ids.setdefault(one.resource["resourceType"], [])
        if one.resource["id"] not in listed and not MARKER.search(one.resource["id"]):
            listed.append(one.resource["id"])
    archive.ids["AuditEvent"] = ["0190f0e0-0000-7000-8000-00000000000-0"]
    return archive


async def _keep(doctor: httpx.AsyncClient, archive: Archive, resource: Resource) -> None:
    await keep(doctor, resource)
    archive.versions.append(Version(f"{resource['resourceType']}/{resource['id']}", archive.marker(), resource))


async def taken(doctor: httpx.AsyncClient, server: Server) -> list[str]:
    """What the doctor holds and nobody else may use: pages, a job with its files, an upload."""
    page = (await doctor.get("/fhir/Observation?_count=2")).json()
    following = next(one["url"] for one in page["link"] if one["relation"] == "next")
    asked = await doctor.get("/fhir/$export", headers={"prefer": "respond-async"})
    job = asked.headers["content-location"].rpartition("/")[2]
    await work(server)
    upload = await doctor.post(
        "/fhir/Binary/$upload",
        headers={"tus-resumable": "1.0.0", "upload-length": "5", "upload-metadata": "filetype dGV4dC9wbGFpbg=="},
    )
    cursor = following.partition("_cursor=")[2].partition("&")[0]
    return [
        cursor,
        job,
        "Observation.1.ndjson",
        "errors.0.ndjson",
        upload.headers.get("location", "x").rpartition("/")[2],
    ]


def permits(who: Who, one: Resource, archive: Archive) -> bool:
    guard, worker = facts.access_facts(one)
    if not who.may("r", one["resourceType"]):
        return False
    looking = Looking(
        roles.of_the_law().get(who.role),
        guard,
        worker is not None and worker == who.worker,
        {"C1", "C2"} if worker == "shut-0" else (),
        who.delegated,
        who.purpose,
    )
    if not isinstance(decide_looking(looking), Permit):
        return False
    protector = one.get("securityContext", {}).get("reference")
    return protector is None or permits(who, archive.current(protector) or {}, archive)


def attacker(name: str, http: httpx.AsyncClient, who: Who | None, archive: Archive) -> Attacker:
    """Of an earlier version he sees what he may see of it by itself and of what it is now."""
    may_see, visible = set[str](), set[str]()
    for one in archive.versions:
        if who and permits(who, archive.current(one.name) or {}, archive):
            visible.add(one.name)
            if permits(who, one.resource, archive):
                may_see.add(one.marker)
    return Attacker(name, http, frozenset(may_see), frozenset(visible))


async def attackers(server: Server, archive: Archive) -> list[Attacker]:
    made: list[Attacker] = []
    for name, role, scopes, worker in (
        ("a nurse", "infirmier", EVERYTHING, None),
        ("an assistant without delegation", "assistant", EVERYTHING, None),
        ("an employer", "employeur", EVERYTHING, None),
        ("a gateway of devices", "device-gateway", EVERYTHING, None),
        ("a worker", "travailleur", EVERYTHING, "free-0"),
        ("one scope", "external-system", ("system/Organization.rs",), None),
        ("who may write only", "external-system", ("system/Observation.cu",), None),
    ):
        caller = await server.client(scopes, role=role, worker=worker)
        who = Who(caller.client_id, name, role, tuple(scopes), worker=worker)
        made.append(attacker(name, caller.http, who, archive))
    clients = Clients(server.database)
    client_id, _ = await clients.add("expired", EVERYTHING, "medecin-travail")
    token, _ = await clients.give_token(client_id, EVERYTHING, -5)
    made.append(attacker("no token", await server.http({}), None, archive))
    made.append(attacker("an expired token", await server.http({"authorization": f"Bearer {token}"}), None, archive))
    return made


def samples() -> list[Resource]:
    """Resources without markers, to be written and spoiled."""
    provided = sharing.provide(7, "Patient/free-0")
    return [
        *of_worker("free", "text"),
        *of_worker("shut", "text"),
        *outside(),
        provided,
        *(one["resource"] for one in provided["entry"]),
    ]


def hidden_in(archive: Archive, who: Attacker, text: str) -> set[str]:
    """The markers in a text that this caller may not see, as they are or as the bytes of a Binary in JSON."""
    found = set(MARKER.findall(text))
    if "TVE" in text:  # base64 of MQ
        coded = {base64.b64encode(one.marker.encode()).decode(): one.marker for one in archive.versions}
        found |= {marker for code, marker in coded.items() if code in text}
    return found - who.may_see


def beside_fhir(routes: Iterable[Any]) -> Iterable[tuple[str, str]]:
    """Method and path of each route outside FHIR, those of included routers too."""
    for route in routes:
        if isinstance(route, Beside):
            yield from ((method, route.path) for method in sorted(route.methods or ()))
        else:
            included = getattr(route, "original_router", None)
            yield from beside_fhir(included.routes if included else ())


class Hunt:
    """Sends requests and notes what is wrong with their answers."""

    def __init__(self, archive: Archive, doctor: httpx.AsyncClient, beside: list[tuple[str, str]]) -> None:
        self.archive = archive
        self.doctor = doctor
        self.beside = beside
        self.faults: dict[str, str] = {}
        self.sent = 0
        self.statuses: dict[int, int] = {}
        self.jobs: dict[str, list[str]] = {}

    async def run(self, who: Attacker, seed: int, number: int) -> None:
        dice = random.Random(f"{seed} {who.name}")
        fuzzer = Fuzzer(dice, self.archive.ids, self.archive.others, samples(), self.beside)
        for _ in range(number):
            request = fuzzer.request()
            answer = await self._ask(who, request)
            if answer is None:
                continue
            fuzzer.learn(answer.text)
            self._judge(who, request, answer)
            if request.method in ("GET", "HEAD") and answer.status_code not in (401, 405):
                await self._compare(who, request, answer)

    async def _ask(self, who: Attacker, request: Request) -> httpx.Response | None:
        headers = [(key.encode(), value.encode("utf-8", "replace")) for key, value in request.headers.items()]
        try:
            made = who.http.build_request(request.method, request.path, headers=headers, content=request.body)
        except (httpx.InvalidURL, UnicodeError, ValueError):
            return None
        began = time.monotonic()
        try:
            answer = await who.http.send(made)
        except Exception as error:
            self._note(who, request, f"{type(error).__name__} came through")
            return None
        self.sent += 1
        self.statuses[answer.status_code] = self.statuses.get(answer.status_code, 0) + 1
        if (took := time.monotonic() - began) > SLOW:
            self._note(who, request, f"took {took:.0f} s")
        return answer

    def _judge(self, who: Attacker, request: Request, answer: httpx.Response) -> None:
        if answer.status_code >= 500:
            self._note(who, request, f"{answer.status_code} {answer.text[:300]}")
        told = answer.text + " ".join(f"{key}: {value}" for key, value in answer.headers.items())
        if leaked := hidden_in(self.archive, who, told):
            whose = [one.name for one in self.archive.versions if one.marker in leaked]
            self._note(who, request, f"LEAK of {whose[:3]} {answer.text[:300]}")
        if answer.status_code >= 400 and answer.url.path.startswith("/fhir") and request.method != "HEAD":
            self._judge_outcome(who, request, answer)
        if answer.status_code == 202 and "content-location" in answer.headers:
            self.jobs.setdefault(who.name, []).append(answer.headers["content-location"])

    def _judge_outcome(self, who: Attacker, request: Request, answer: httpx.Response) -> None:
        """An OperationOutcome with codes of R4, in JSON or XML; GraphQL says it in its own way."""
        if answer.text.startswith("<"):
            found = re.findall(r'<code value="([a-z-]+)"/>', answer.text)
            if not answer.text.startswith("<OperationOutcome") and "<OperationOutcome" not in answer.text[:200]:
                found = []
        else:
            try:
                outcome: Any = answer.json()
            except ValueError:
                outcome = {}
            if "errors" in outcome and "$graphql" in request.path:
                return
            found = (
                [one.get("code") for one in outcome.get("issue", [])]
                if outcome.get("resourceType") == "OperationOutcome"
                else []
            )
        if not found or not set(found) <= ISSUE_TYPES:
            self._note(who, request, f"no OperationOutcome: {answer.status_code} {answer.text[:200]!r}")

    async def _compare(self, who: Attacker, request: Request, answer: httpx.Response) -> None:
        """What is hidden answers as what never was."""
        hidden = [
            one
            for one in request.known
            if not any(name.rpartition("/")[2] == one for name in who.visible)
            and any(version.resource["id"] == one for version in self.archive.versions)
        ]
        if not hidden:
            return
        twin = request.path
        for one in hidden:
            twin = twin.replace(one, one.replace("-0", "-9"))
        other = await self._ask(who, Request(request.method, twin, request.headers, request.body))
        if other is None:
            return
        texts = []
        for one, path in ((answer, request.path), (other, twin)):
            text = one.text
            for name in hidden if path == twin else ():
                text = text.replace(name.replace("-0", "-9"), name)
            texts.append((one.status_code, MOVES.sub("", text)))
        if texts[0] != texts[1] and not await self._is_changed(request):
            self._note(
                who,
                request,
                f"hidden is not as absent: {texts[0][0]} {texts[0][1][:200]} / {texts[1][0]} {texts[1][1][:200]}",
            )

    async def _is_changed(self, request: Request) -> bool:
        """Somebody of those who may has meanwhile made something else of it: what is hidden is not known any more."""
        name = "/".join(request.path.partition("?")[0].split("/")[2:4])
        kept = sum(one.name == name for one in self.archive.versions)
        now = await self.doctor.get(f"/fhir/{name}", headers={"accept": "application/fhir+json"})
        if now.status_code == 410 and name in DELETED:
            return False
        return now.status_code != 200 or now.json().get("meta", {}).get("versionId") != str(kept)

    async def fetch(self, who: Attacker) -> None:
        """The files of the exports that he asked for."""
        for url in self.jobs.pop(who.name, [])[-6:]:
            status = await who.http.get(url)
            if status.status_code == 200:
                for file in (*status.json()["output"], *status.json()["deleted"]):
                    answer = await who.http.get(file["url"])
                    self._judge(who, Request("GET", f"/fhir/{file['url']}"), answer)

    def _note(self, who: Attacker, request: Request, fault: str) -> None:
        shape = re.sub(r"[a-z]+-0|\d+", "_", request.path.partition("?")[0])[:80]
        self.faults.setdefault(
            f"{who.name} {request.method} {shape} {fault[:60]}", f"{who.name}: {fault}\n    {request}"
        )

    def report(self) -> str:
        listed: Iterable[str] = list(self.faults.values())[:SHOWN_FAULTS]
        return f"{len(self.faults)} faults in {self.sent} requests\n" + "\n".join(listed)


@pytest.mark.timeout(max(300, SECONDS * 2 + 300))
async def test_no_error_of_ours_and_no_leak(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    """No answer of 500 and more, every refusal an OperationOutcome, no marker of what is hidden anywhere."""
    doctor = (await server.client(EVERYTHING, role="medecin-travail")).http
    archive = await fill(doctor)
    archive.others = await taken(doctor, server)
    beside = list(beside_fhir(server.app.routes))
    assert any(path == "/oauth2/token" for _, path in beside)
    hunt = Hunt(archive, doctor, beside)
    everybody = await attackers(server, archive)
    assert len({who.may_see for who in everybody}) >= 4
    assert all(who.may_see < {one.marker for one in archive.versions} for who in everybody)
    until = time.monotonic() + SECONDS
    seed = SEED
    while True:
        for who in everybody:
            await hunt.run(who, seed, EACH)
        await work(server)
        for who in everybody:
            await hunt.fetch(who)
        seed += 1
        if time.monotonic() > until or len(hunt.faults) > 200:
            break
    logged = "".join(capfd.readouterr())
    with capfd.disabled():
        sys.stdout.write(
            f"\n{hunt.sent} requests, seeds {SEED} to {seed - 1}: {dict(sorted(hunt.statuses.items()))}" + "\n"
            if SECONDS
            else ""
        )
    assert not hunt.faults, hunt.report()
    assert not MARKER.search(logged), "the log holds what was kept"
    assert hunt.statuses.keys() >= {200, 201, 400, 401, 403, 404, 405, 422}
