"""Scopes with a search: no path shows what they do not allow, and each shows all that they do.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html - the judge reads the JSON by itself; the
archives and the scopes are random. Each resource has two versions, which other scopes may allow.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.caller import check_scopes
from fhir_server.store.bounds import rows_meet
from fhir_server.store.clients import Clients
from fhir_server.store.search_index import rows_of
from tests.rest.operations.bulk import export, lines
from tests.support import (
    EVERYTHING,
    FOLDERS,
    Caller,
    Resource,
    Server,
    document_reference,
    entry,
    ids_of,
    keep,
    link,
    observation,
    pages,
    patient,
    post,
    put,
    transaction,
)

TAGS = "urn:test:tags"
CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
KINDS = "urn:test:kinds"
WORKERS, DOCUMENTS, READINGS = 3, 7, 7
TYPES = ("Patient", "DocumentReference", "Observation", "List", "Binary")
SEEDS = (1, 2)
CALLERS = 4
DOCTOR = "medecin-travail"
"""His role hides nothing of these archives."""

Says = Callable[[Resource], bool]


def codings(one: Resource, *path: str) -> list[tuple[str | None, str | None]]:
    """Every (system, code) of the CodeableConcepts there."""
    found: Any = one
    for name in path:
        found = found.get(name, {}) if isinstance(found, dict) else {}
    concepts = found if isinstance(found, list) else [found] if found else []
    return [(c.get("system"), c.get("code")) for concept in concepts for c in concept.get("coding", [concept])]


def refers(name: str) -> Says:
    return lambda one: one.get("subject", {}).get("reference") == name


def has(system: str, code: str, *path: str) -> Says:
    return lambda one: (system, code) in codings(one, *path)


CRITERIA: dict[str, list[tuple[str, Says]]] = {
    "Patient": [
        ("family=dup", lambda one: one["name"][0]["family"].lower().startswith("dup")),
        ("family:exact=DURAND", lambda one: one["name"][0]["family"] == "DURAND"),
        ("family:contains=RAN", lambda one: "ran" in one["name"][0]["family"].lower()),
        ("gender=female,unknown", lambda one: one.get("gender") in ("female", "unknown")),
        ("birthdate=lt1980", lambda one: "birthDate" in one and one["birthDate"] < "1980"),
        ("birthdate:missing=true", lambda one: "birthDate" not in one),
        (f"_tag={TAGS}|a", has(TAGS, "a", "meta", "tag")),
    ],
    "DocumentReference": [
        (f"category={KINDS}|k1", has(KINDS, "k1", "category")),
        (f"category={KINDS}|k1,{KINDS}|k2", lambda o: bool({"k1", "k2"} & {c for _, c in codings(o, "category")})),
        ("category:not=k1", lambda one: "k1" not in {code for _, code in codings(one, "category")}),
        ("category:missing=true", lambda one: not one.get("category")),
        ("subject=Patient/p1", refers("Patient/p1")),
        ("date=ge2026-03", lambda one: "date" in one and one["date"] >= "2026-03"),
        ("date=eb2026-03", lambda one: "date" in one and one["date"] < "2026-03"),
        (f"_tag={TAGS}|a&subject=Patient/p0,Patient/p1",
         lambda o: has(TAGS, "a", "meta", "tag")(o) and o["subject"]["reference"] in ("Patient/p0", "Patient/p1")),
    ],
    "Observation": [
        (f"category={CATEGORY}|laboratory", has(CATEGORY, "laboratory", "category")),
        (f"category={CATEGORY}|", lambda one: CATEGORY in {system for system, _ in codings(one, "category")}),
        ("code=8302-2", lambda one: codings(one, "code")[0][1] == "8302-2"),
        ("combo-code:not=8302-2", lambda one: codings(one, "code")[0][1] != "8302-2"),
        ("subject:Patient=p2", refers("Patient/p2")),
        ("value-string=alpha", lambda one: one.get("valueString", "").lower().startswith("alpha")),
        ("_profile=urn:test:profile", lambda one: "urn:test:profile" in one["meta"].get("profile", [])),
    ],
    "List": [("subject=Patient/p1", refers("Patient/p1")), ("status=current", lambda one: one["status"] == "current")],
    "Binary": [],
    "*": [(f"_tag={TAGS}|a", has(TAGS, "a", "meta", "tag")),
          (f"_tag:not={TAGS}|a", lambda one: (TAGS, "a") not in codings(one, "meta", "tag"))],
}  # fmt: skip


@dataclass(frozen=True)
class Granted:
    """A scope, and what it says of a resource."""

    type: str
    letters: str
    search: str
    says: Says

    def __str__(self) -> str:
        return f"system/{self.type}.{self.letters}{'?' if self.search else ''}{self.search}"


def everything(_: Resource) -> bool:
    return True


def scopes_of(dice: random.Random) -> list[Granted]:
    """Some for every type: none, one or several, with searches or without."""
    made: list[Granted] = []
    for kind in ("Patient", "DocumentReference", "Observation", "List", "Binary"):
        for _ in range(dice.choice((0, 1, 1, 1, 2, 2))):
            letters = dice.choice(("rs", "rs", "rs", "crus", "cruds", "r", "s"))
            is_plain = not CRITERIA[kind] or dice.random() < 0.15
            made.append(Granted(kind, letters, *(("", everything) if is_plain else dice.choice(CRITERIA[kind]))))
    if dice.random() < 0.3:
        made.append(Granted("*", dice.choice(("r", "rs")), *dice.choice(CRITERIA["*"])))
    return made or [Granted("Patient", "rs", *CRITERIA["Patient"][0])]


@dataclass
class Archive:
    """What there is, by `Type/id`: its two versions."""

    before: dict[str, Resource]
    now: dict[str, Resource]


@dataclass
class Looker:
    """A client with its scopes; what they allow, as an own reading of them says."""

    scopes: list[Granted]
    caller: Caller
    archive: Archive

    @property
    def http(self) -> httpx.AsyncClient:
        return self.caller.http

    def has(self, letters: str, kind: str) -> bool:
        """On the type at all."""
        return all(any(one.type in ("*", kind) and letter in one.letters for one in self.scopes) for letter in letters)

    def may(self, letters: str, one: Resource) -> bool:
        kind = one["resourceType"]
        return all(
            any(s.type in ("*", kind) and letter in s.letters and s.says(one) for s in self.scopes)
            for letter in letters
        ) and ("r" not in letters or "securityContext" not in one or self._protector_is_read(one))

    def _protector_is_read(self, one: Resource) -> bool:
        return self.may("r", self.archive.now[one["securityContext"]["reference"]])

    def allowed(self, letters: str, *kinds: str) -> set[str]:
        names = {name for name, one in self.archive.now.items() if not kinds or one["resourceType"] in kinds}
        return {name for name in names if self.may(letters, self.archive.now[name])}

    def versions(self, letters: str, kind: str = "") -> set[str]:
        """`Type/id/version` of what is allowed both now and as it was."""
        names = [name for name in self.allowed(letters) if name.startswith(kind)]
        return {f"{name}/2" for name in names} | {
            f"{name}/1" for name in names if self.may(letters, self.archive.before[name])
        }

    def __repr__(self) -> str:
        return " ".join(map(str, self.scopes))


def drawn(dice: random.Random) -> Iterator[Resource]:
    """One version of everything, in the order in which it can be written."""

    def meta(number: str) -> Resource:
        tags = [{"system": TAGS, "code": code} for code in ("a", "b") if dice.random() < 0.5]
        profile = {"profile": ["urn:test:profile"]} if dice.random() < 0.5 else {}
        return {"tag": [*tags, {"system": TAGS, "code": number}], **profile}

    for n in range(WORKERS):
        born = {"birthDate": dice.choice(("1975-02-03", "1990-01-01"))} if dice.random() < 0.7 else {}
        gender = {"gender": dice.choice(("female", "male"))} if dice.random() < 0.8 else {}
        family = dice.choice(("DURAND", "Durand", "DUPONT", "Dupré"))
        yield patient(f"p{n}", family, meta=meta(f"p{n}"), **born, **gender)
    for n in range(DOCUMENTS):
        chosen = [dice.choice(("k1", "k2", "k3")) for _ in range(dice.randrange(3))]
        kinds = [{"coding": [{"system": KINDS, "code": one}]} for one in chosen]
        date = {"date": dice.choice(("2026-01-05T10:00:00Z", "2026-04-05T10:00:00Z"))} if dice.random() < 0.8 else {}
        more = {"category": kinds} if kinds else {}
        identifier = [{"system": FOLDERS, "value": f"doc{n}"}]
        yield document_reference(
            f"p{n % WORKERS}", id=f"d{n}", identifier=identifier, meta=meta(f"d{n}"), **more, **date
        )
        if n % 2:
            yield {
                "resourceType": "Binary",
                "id": f"b{n}",
                "meta": meta(f"b{n}"),
                "contentType": "application/pdf",
                "securityContext": {"reference": f"DocumentReference/d{n}"},
                "data": "JVBERg==",
            }
    for n in range(READINGS):
        category = [{"coding": [{"system": CATEGORY, "code": dice.choice(("laboratory", "exam"))}]}]
        made = observation(f"p{n % WORKERS}", code=dice.choice(("8302-2", "29463-7")), id=f"o{n}", meta=meta(f"o{n}"))
        made.pop("valueQuantity", None)
        yield {**made, "valueString": dice.choice(("Alpha un", "beta")), **({"category": category} if n % 4 else {})}
    for n in range(2):
        listed = {"entry": [{"item": {"reference": f"DocumentReference/d{n}"}}]}
        about = {"subject": {"reference": f"Patient/p{n}"}, "status": dice.choice(("current", "retired"))}
        yield {"resourceType": "List", "id": f"l{n}", "mode": "working", "meta": meta(f"l{n}"), **about, **listed}


def by_name(made: Iterable[Resource]) -> dict[str, Resource]:
    return {f"{one['resourceType']}/{one['id']}": one for one in made}


@pytest.fixture(params=SEEDS)
async def lookers(request: pytest.FixtureRequest, server: Server) -> list[Looker]:
    dice = random.Random(request.param)
    doctor = (await server.client(EVERYTHING, role=DOCTOR)).http
    archive = Archive(by_name(drawn(dice)), by_name(drawn(dice)))
    for versions in (archive.before, archive.now):
        await keep(
            doctor, *({**one, "language": "fr" if versions is archive.before else "en"} for one in versions.values())
        )
    archive.now = {name: {**one, "language": "en"} for name, one in archive.now.items()}
    chosen = [scopes_of(dice) for _ in range(CALLERS)]
    return [Looker(one, await server.client([str(s) for s in one], role=DOCTOR), archive) for one in chosen]


def names_of(found: Iterable[Resource]) -> set[str]:
    return {f"{one['resourceType']}/{one['id']}" for one in found}


def of_bundle(bundle: Resource, mode: str | None = None) -> list[Resource]:
    return [
        one["resource"] for one in bundle.get("entry", []) if mode is None or one.get("search", {}).get("mode") == mode
    ]


async def all_of(http: httpx.AsyncClient, query: str) -> set[str]:
    """The matches of every page."""
    return names_of([one async for page in pages(http, query) for one in of_bundle(page, "match")])


async def versions_of(http: httpx.AsyncClient, query: str) -> set[str]:
    told = [one async for page in pages(http, query) for one in page.get("entry", [])]
    return {f"{r['resourceType']}/{r['id']}/{r['meta']['versionId']}" for one in told if (r := one["resource"])}


async def test_reads_and_histories(lookers: list[Looker]) -> None:
    """Each version where it is allowed as it was and as it is; else what is told of what never was."""
    for looker in lookers:
        http, allowed, versions = looker.http, looker.allowed("r"), looker.versions("r")
        for name in looker.archive.now:
            kind = name.partition("/")[0]
            for path, seen in (
                (name, name in allowed),
                (f"{name}/_history/2", name in allowed),
                (f"{name}/_history/1", f"{name}/1" in versions),
                (f"{name}/$meta", name in allowed),
            ):
                answer = await http.get(f"/fhir/{path}", headers={"accept": "application/fhir+json"})
                expected = 200 if seen else 404 if looker.has("r", kind) else 403
                assert answer.status_code == expected, (looker, path, answer.text)
                if expected == 404:
                    never = await http.get(f"/fhir/{path.replace(name, f'{kind}/never')}")
                    assert answer.text.replace(name, f"{kind}/never") == never.text
            answer = await http.get(f"/fhir/{name}/_history")
            assert answer.status_code == (200 if name in allowed else 404 if looker.has("r", kind) else 403)
            if name in allowed:
                shown = {f"{name}/{one['meta']['versionId']}" for one in of_bundle(answer.json())}
                if kind != "Binary":
                    assert shown == {one for one in versions if one.startswith(f"{name}/")}, (looker, name)
                    assert answer.json()["total"] == len(shown)
                first = (await http.get(f"/fhir/{name}/_history?_count=1&_total=accurate")).json()
                assert first.get("total", 0) <= len(shown), (looker, name)
        for kind in ("Patient", "DocumentReference", "Observation"):
            if looker.has("rs", kind):
                told = await versions_of(http, f"{kind}/_history?_count=3&_total=accurate")
                assert told == looker.versions("rs", f"{kind}/"), (looker, kind)
            else:
                assert (await http.get(f"/fhir/{kind}/_history")).status_code == 403
        if any(looker.has("rs", kind) for kind in TYPES):
            told = await versions_of(http, "_history?_count=4")
            without_binaries = {one for one in told if not one.startswith("Binary")}
            expected = {one for one in looker.versions("rs") if not one.startswith("Binary")}
            assert without_binaries == expected, looker


async def test_searches_and_what_they_are_led_by(lookers: list[Looker]) -> None:
    """Hits, totals, several types at once, chains, `_has`, lists, and what comes along."""
    for looker in lookers:
        http, now = looker.http, looker.archive.now
        for kind in TYPES[:-1]:
            if not looker.has("s", kind):
                assert (await http.get(f"/fhir/{kind}")).status_code == 403
                continue
            seen = looker.allowed("s", kind)
            for more in ("", "&_sort=_id", "&_sort=-_lastUpdated", "&_lastUpdated=gt2000"):
                assert await all_of(http, f"{kind}?_count=2{more}") == seen, (looker, kind, more)
            counted = (await http.get(f"/fhir/{kind}?_summary=count")).json()
            total = (await http.get(f"/fhir/{kind}?_count=1&_total=accurate")).json()
            assert counted["total"] == total["total"] == len(seen), (looker, kind)
            for n in range(WORKERS) if kind in ("DocumentReference", "Observation") else ():
                mine = {name for name in seen if now[name]["subject"]["reference"] == f"Patient/p{n}"}
                for query in (f"{kind}?patient=p{n}&_sort=-date&_count=2", f"Patient/p{n}/{kind}?_count=2"):
                    assert await all_of(http, query) == mine, (looker, query)
        asked = [kind for kind in TYPES[:-1] if looker.has("s", kind)]
        if asked:
            assert await all_of(http, f"?_type={','.join(asked)}&_count=3") == looker.allowed("s", *asked), looker
        await _led(looker)
        await _along(looker)


async def _led(looker: Looker) -> None:
    http, now = looker.http, looker.archive.now
    patients, documents = looker.allowed("s", "Patient"), looker.allowed("s", "DocumentReference")
    if looker.has("s", "Patient") and looker.has("s", "DocumentReference"):
        for family in ("durand", "dup"):
            met = {name for name in patients if now[name]["name"][0]["family"].lower().startswith(family)}
            led = {name for name in documents if now[name]["subject"]["reference"] in met}
            query = f"DocumentReference?subject:Patient.family={family}"
            assert await all_of(http, query) == led, (looker, family)
        for n in range(DOCUMENTS):
            whose = {now[f"DocumentReference/d{n}"]["subject"]["reference"]} & patients
            query = f"Patient?_has:DocumentReference:subject:identifier={FOLDERS}|doc{n}"
            assert await all_of(http, query) == (whose if f"DocumentReference/d{n}" in documents else set()), looker
    if looker.has("s", "List") and looker.has("s", "DocumentReference"):
        listed = {"DocumentReference/d1"} & documents if "List/l1" in looker.allowed("s") else set[str]()
        assert await all_of(http, "DocumentReference?_list=l1") == listed, looker


async def _along(looker: Looker) -> None:
    """What comes along is read: the scopes to read say which."""
    http, now = looker.http, looker.archive.now
    readable = looker.allowed("r")
    if looker.has("s", "DocumentReference"):
        bundle = (await http.get("/fhir/DocumentReference?_include=DocumentReference:subject&_count=100")).json()
        hits = names_of(of_bundle(bundle, "match"))
        expected = {now[name]["subject"]["reference"] for name in hits} & readable
        assert names_of(of_bundle(bundle, "include")) == expected, looker
    if looker.has("s", "Patient"):
        query = "Patient?_revinclude=Observation:subject&_revinclude=DocumentReference:patient&_count=100"
        bundle = (await http.get(f"/fhir/{query}")).json()
        hits = names_of(of_bundle(bundle, "match"))
        back = {n for n in readable if n[0] in "DO" and now[n]["subject"]["reference"] in hits}
        assert names_of(of_bundle(bundle, "include")) == back, looker


async def test_operations(lookers: list[Looker], server: Server) -> None:
    """$everything, $meta, $lastn, GraphQL, batches, transactions that read, and $export."""
    for looker in lookers:
        http, now = looker.http, looker.archive.now
        both, readable = looker.allowed("rs"), looker.allowed("r")
        for n in range(WORKERS):
            answer = await http.get(f"/fhir/Patient/p{n}/$everything?_count=1000")
            expected = 200 if f"Patient/p{n}" in readable else 404 if looker.has("r", "Patient") else 403
            assert answer.status_code == expected, (looker, answer.text)
            if expected == 200:
                shown = names_of(of_bundle(answer.json())) - {f"Patient/p{n}"}
                mine = {one for one in both if now[one].get("subject", {}).get("reference") == f"Patient/p{n}"}
                assert mine <= shown <= both, (looker, n)
            newest = await http.get(f"/fhir/Observation/$lastn?patient=p{n}&max=100")
            if looker.has("s", "Observation"):
                mine = {one for one in looker.allowed("s", "Observation") if refers(f"Patient/p{n}")(now[one])}
                assert names_of(of_bundle(newest.json())) == mine, looker
        if looker.has("rs", "DocumentReference"):
            meta = (await http.get("/fhir/DocumentReference/$meta")).json()
            tags = {t["code"] for one in meta.get("parameter", []) for t in one["valueMeta"].get("tag", [])}
            assert tags - {"a", "b"} == {one.partition("/")[2] for one in both if one.startswith("Doc")}, looker
        await _graphql(looker)
        batch = [{"request": {"method": "GET", "url": name}} for name in now]
        answers = (await http.post("/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": batch})).json()
        got = {n for n, one in zip(now, answers["entry"], strict=True) if one["response"]["status"][:3] == "200"}
        assert got == readable, looker
    for looker in lookers[:2]:
        asked = [kind for kind in ("Patient", "DocumentReference", "Observation") if looker.has("rs", kind)]
        if asked:
            done = await export(server, looker.http, f"$export?_type={','.join(asked)}")
            files = [await lines(looker.http, file["url"]) for file in done.manifest["output"]]
            assert names_of([one for file in files for one in file]) == looker.allowed("rs", *asked), looker


async def _graphql(looker: Looker) -> None:
    """The hits of a list, and what they refer to."""
    if not looker.has("s", "DocumentReference"):
        return
    text = (
        "{ DocumentReferenceList(_count: 1000) { id subject { resource(optional: true) { ... on Patient { id } } } } }"
    )
    headers = {"content-type": "application/json"}
    answer = await looker.http.post("/fhir/$graphql", content=orjson.dumps({"query": text}), headers=headers)
    told = answer.json()["data"]["DocumentReferenceList"] or []
    assert {f"DocumentReference/{one['id']}" for one in told} == looker.allowed("s", "DocumentReference"), looker
    for one in told:
        whose = looker.archive.now[f"DocumentReference/{one['id']}"]["subject"]["reference"]
        shown = one.get("subject", {}).get("resource")
        assert bool(shown) == (whose in looker.allowed("r")), (looker, one)


async def test_writes(lookers: list[Looker], server: Server) -> None:
    """What is written is allowed as it is before and as it is afterwards; nothing else is changed."""
    label = {"resourceType": "Parameters", "parameter": [{"name": "meta", "valueMeta": {"tag": [{"code": "x"}]}}]}
    json_patch = {"content-type": "application/json-patch+json"}
    for number, looker in enumerate(lookers):
        http, archive = looker.http, looker.archive
        for name, one in list(archive.now.items()):
            kind, _, own = name.partition("/")
            if kind == "Binary":
                continue
            wanted = {**archive.before[name], "language": f"x-{number}"}
            answer = await put(http, wanted)
            allowed = looker.may("u", one) and looker.may("u", wanted)
            assert answer.status_code == (200 if allowed else 403), (looker, name, answer.text)
            if allowed:
                shown = answer.content != b""
                assert shown == looker.may("r", wanted), (looker, name)
                archive.now[name], archive.before[name] = wanted, one
            one = archive.now[name]
            patch = [{"op": "replace", "path": "/language", "value": "de"}]
            answer = await http.patch(f"/fhir/{name}", content=orjson.dumps(patch), headers=json_patch)
            has_both = looker.has("ru", kind)
            expected = 200 if looker.may("ru", one) else 404 if has_both else 403
            assert answer.status_code == expected, (looker, name, answer.text)
            if expected == 200:
                archive.now[name] = {**one, "language": "de"}
            answer = await http.post(f"/fhir/{name}/$meta-add", json=label)
            expected = 200 if looker.may("u", one) else 404 if looker.has("u", kind) else 403
            assert answer.status_code == expected, (looker, name, answer.text)
            new = {**{k: v for k, v in one.items() if k != "id"}, "identifier": [{"value": f"new{number}{own}"}]}
            answer = await http.post(f"/fhir/{kind}", json=new)
            assert answer.status_code == (201 if looker.may("c", new) else 403), (looker, name, answer.text)
            answer = await post(http, transaction(entry({**new, "id": "x"})))
            assert answer.status_code == (200 if looker.may("c", new) else 403), (looker, name, answer.text)
            if kind == "DocumentReference":
                found = looker.may("s", one)
                asked = {"if-none-exist": f"identifier={FOLDERS}|doc{own[1:]}"}
                answer = await http.post(f"/fhir/{kind}", json=new, headers=asked)
                if not looker.has("cs", kind):
                    assert answer.status_code == 403
                else:
                    expected = 200 if found else 201 if looker.may("c", new) else 403
                    assert answer.status_code == expected, (looker, name, answer.text)
    gone: set[str] = set()
    for looker in lookers:
        for name in [n for n in looker.archive.now if n.startswith("Observation") and n not in gone]:
            answer = await looker.http.delete(f"/fhir/{name}")
            allowed = looker.may("d", looker.archive.now[name])
            assert (answer.status_code in (200, 204)) == allowed, (looker, name, answer.text)
            gone |= {name} if allowed else set()


ASKED: dict[str, list[str]] = {
    "Patient": ["name=dup", "birthdate=1975", "birthdate=ne1975", "birthdate=gt1975-02", "birthdate=sa1975",
                "birthdate=le1975-02-03", "birthdate=ge1975-02-03,lt1900", "gender:not=male", "family:contains=U"],
    "DocumentReference": ["identifier=urn:test:folder|", "identifier:missing=true", "date=eq2026-01-05",
                          "date=lt2026-01-05T10:00:00Z", "date=le2026-01-05T10:00:00Z", "date=gt2026-01-05",
                          "date=eb2026-04-05", "subject=p1", "subject:identifier=a|b", "status=current"],
    "Observation": ["code=|8302-2", "combo-code=8302-2", "combo-code:missing=true", "value-string:exact=Alpha un",
                    "value-string:contains=ALPHA", "_profile=urn:test:other", "_tag=o3"],
    "List": ["item=DocumentReference/d1", "item=d0,d1"],
}  # fmt: skip


@pytest.fixture
async def archive(server: Server) -> tuple[Archive, httpx.AsyncClient]:
    """One archive, and a doctor who may do everything."""
    dice = random.Random(3)
    doctor = (await server.client(EVERYTHING, role=DOCTOR)).http
    made = Archive({}, by_name(drawn(dice)))
    await keep(doctor, *made.now.values())
    return made, doctor


async def test_a_search_means_in_a_scope_what_it_means_as_a_search(
    archive: tuple[Archive, httpx.AsyncClient],
) -> None:
    """PostgreSQL asks the index, reads ask the document: both find the same, whatever is asked."""
    made, doctor = archive
    searches = {kind: [*more, *(search for search, _ in CRITERIA[kind])] for kind, more in ASKED.items()}
    found_some = 0
    for kind, several in searches.items():
        documents = {name: one for name, one in made.now.items() if one["resourceType"] == kind}
        for search in several:
            check_scopes([f"system/{kind}.rs?{search}"])
            found = await all_of(doctor, f"{kind}?{search}")
            met = {name for name, one in documents.items() if rows_meet(((search,),), kind, rows_of(one))}
            assert met == found, (kind, search)
            found_some += bool(found) and found != documents.keys()
    assert found_some > 20, "most searches tell some from others"


LABORATORY = f"system/Observation.rs?category={CATEGORY}|laboratory"


async def test_a_token_is_given_for_less(server: Server, anonymous: httpx.AsyncClient) -> None:
    """By the token endpoint: a part of what the client has; never what cannot be enforced, nor what it has not."""
    client = await server.client(["system/Observation.rs", "system/Patient.rs?gender=female"], role=DOCTOR)
    for asked, status in (
        (LABORATORY, 200),
        ("system/Patient.r?gender=female", 200),
        ("system/Patient.r", 400),
        ("system/Patient.r?gender=male", 400),
        ("system/Observation.rs?subject:Patient.name=x", 400),
        ("system/Observation.rs?_count=1", 400),
    ):
        form = {"grant_type": "client_credentials", "scope": asked}
        answer = await anonymous.post("/oauth2/token", data=form, auth=(client.client_id, client.secret))
        assert answer.status_code == status, (asked, answer.text)
        assert answer.json().get("scope", asked) == asked
        assert status == 200 or answer.json() == {"error": "invalid_scope"}


async def narrowed(server: Server, wide: Caller, *scopes: str) -> httpx.AsyncClient:
    """The same client with a token for less."""
    token, _ = await Clients(server.database).give_token(wide.client_id, scopes, 15)
    return await server.http({"authorization": f"Bearer {token}"})


async def test_page_links_and_files_follow_the_token_of_now(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """A link that was given for more shows less to a token for less; a file, which nobody looks into, is refused."""
    laboratory: Resource = {"category": [{"coding": [{"system": CATEGORY, "code": "laboratory"}]}]}
    await keep(fhir_client, patient("p1"))
    for n in range(8):
        await keep(fhir_client, observation("p1", id=f"o{n}", **(laboratory if n % 2 else {})))
    wide = await server.client(["system/Observation.rs"], role=DOCTOR)
    first = (await wide.http.get("/fhir/Observation?_count=2&_sort=_lastUpdated&_total=accurate")).json()
    assert (first["total"], ids_of(first)) == (8, ["o0", "o1"])
    following, less = link(first, "next") or "", await narrowed(server, wide, LABORATORY)
    page = (await less.get(following)).json()
    assert (page["total"], ids_of(page)) == (4, ["o3", "o5"])
    done = await export(server, wide.http, "$export?_type=Observation")
    (file,) = done.manifest["output"]
    assert (await less.get(file["url"])).status_code == 403
    own = await export(server, less, "$export?_type=Observation")
    (file,) = own.manifest["output"]
    assert {one["id"] for one in await lines(less, file["url"])} == {"o1", "o3", "o5", "o7"}


async def test_what_leaves_the_scope_between_two_pages_is_gone(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """Pages show what the first one saw, but not what scopes no longer allow; what comes in later is not of then."""
    laboratory = [{"coding": [{"system": CATEGORY, "code": "laboratory"}]}]
    exam = [{"coding": [{"system": CATEGORY, "code": "exam"}]}]
    await keep(fhir_client, patient("p1"))
    for n in range(6):
        await keep(fhir_client, observation("p1", id=f"o{n}", category=exam if n == 4 else laboratory))
    http = (await server.client([LABORATORY], role=DOCTOR)).http
    for query in ("Observation?_count=1&_sort=_id", "Observation?_count=1", "?_type=Observation&_count=1"):
        for n, category in ((2, laboratory), (4, exam), (3, laboratory)):
            await keep(fhir_client, observation("p1", id=f"o{n}", category=category))
        first = (await http.get(f"/fhir/{query}")).json()
        shown = ids_of(first)
        await keep(
            fhir_client,
            observation("p1", id="o2", category=exam),
            observation("p1", id="o4", category=laboratory),
            observation("p1", id="o3", category=laboratory, status="amended"),
        )
        page = first
        while url := link(page, "next"):
            page = (await http.get(url)).json()
            shown += ids_of(page)
        assert {"o2", "o4"}.isdisjoint(shown[1:]), (query, shown)
        assert {*shown, "o2"} == {"o0", "o1", "o2", "o3", "o5"}, (query, shown)


async def test_conditions_find_only_what_is_allowed(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """Conditional updates, patches, deletions and references lead to nothing else, and tell nothing of it."""
    for n, family in enumerate(("DURAND", "DUPONT")):
        await keep(fhir_client, patient(f"p{n}", family, identifier=[{"system": FOLDERS, "value": f"f{n}"}]))
    scopes = ["system/Patient.cruds?family:exact=DURAND", "system/Observation.crus"]
    http = (await server.client(scopes, role=DOCTOR)).http
    mine, other = f"Patient?identifier={FOLDERS}|f0", f"Patient?identifier={FOLDERS}|f1"
    patch = [{"op": "add", "path": "/language", "value": "fr"}]
    json_patch = {"content-type": "application/json-patch+json"}
    assert (await http.patch(f"/fhir/{mine}", content=orjson.dumps(patch), headers=json_patch)).status_code == 200
    assert (await http.patch(f"/fhir/{other}", content=orjson.dumps(patch), headers=json_patch)).status_code == 404
    known = patient("p0", "DURAND", identifier=[{"system": FOLDERS, "value": "f0"}])
    assert (await http.put(f"/fhir/{mine}", json=known)).status_code == 200
    assert (await http.put(f"/fhir/{mine}", json={**known, "name": [{"family": "MARTIN"}]})).status_code == 403
    for reference, status in ((mine, 200), (other, 412)):
        linked = {**observation("x"), "subject": {"reference": reference}}
        answer = await post(http, transaction(entry(linked)))
        assert answer.status_code == status, answer.text
        assert "p1" not in answer.text
    assert (await http.delete(f"/fhir/{other}")).status_code == 204, "as where there is none"
    assert (await fhir_client.get("/fhir/Patient/p1")).status_code == 200
    assert (await http.delete("/fhir/Patient/p1")).status_code == 403
    in_one = transaction(
        entry(patient("p9", "DURAND"), method="PUT", url="Patient/p9"),
        entry(patient("p1", "DURAND"), method="PUT", url="Patient/p1"),
    )
    assert (await post(http, in_one)).status_code == 403
    assert (await fhir_client.get("/fhir/Patient/p9")).status_code == 404, "all or nothing"


async def test_what_looks_at_no_single_resource_is_refused(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """Operations that read definitions whole, or write without asking, need the whole type."""
    value_set = {"resourceType": "ValueSet", "id": "v", "url": "urn:test:v", "status": "active"}
    compose = {"include": [{"system": "urn:test:s", "concept": [{"code": "a"}]}]}
    await keep(fhir_client, {**value_set, "compose": compose})
    part = ["system/ValueSet.rs?status=active", "system/CodeSystem.rs", "system/Observation.cruds?status=final"]
    http = (await server.client(part, role="operator")).http
    whole = (await server.client(["system/ValueSet.rs", "system/CodeSystem.rs", "system/Observation.rs"])).http
    for path in ("ValueSet/$expand?url=urn:test:v", "Observation?code:in=urn:test:v"):
        assert (await whole.get(f"/fhir/{path}")).status_code == 200, path
        assert (await http.get(f"/fhir/{path}")).status_code == 403, path
    assert (await http.get("/fhir/ValueSet/v")).status_code == 200
    trail = (await server.client(["system/AuditEvent.r?patient=p1", "system/*.rs?_tag=a"], role="operator")).http
    assert {(await trail.get(f"/fhir/{path}")).status_code for path in ("AuditEvent", "AuditEvent/1")} == {403}
    wish = {"resourceType": "Parameters", "parameter": [{"name": "expungeDeletedResources", "valueBoolean": True}]}
    assert (await http.post("/fhir/Observation/$expunge", json=wish)).status_code == 403


async def test_a_refusal_is_traced(server: Server, fhir_client: httpx.AsyncClient) -> None:
    """As one that the role makes: with the worker whose record it is."""
    await keep(fhir_client, patient("p1"), observation("p1", id="o1"))
    caller = await server.client([LABORATORY], role=DOCTOR)
    assert (await caller.http.get("/fhir/Observation/o1")).status_code == 404
    rows = await server.rows(
        "select outcome, patient_id from access where client_id = %s and resource_id = 'o1'", caller.client_id
    )
    assert {row[1] for row in rows} >= {"p1"}
    assert 0 not in {row[0] for row in rows}


async def test_a_binary_is_changed_by_who_may_read_what_protects_it(
    server: Server, fhir_client: httpx.AsyncClient
) -> None:
    """Scopes on the document limit its Binary, for reading and for writing."""
    binary: Resource = {"resourceType": "Binary", "contentType": "text/plain", "data": "YQ=="}
    await keep(fhir_client, patient("p1"))
    for n, kind in enumerate(("k1", "k2")):
        category = [{"coding": [{"system": KINDS, "code": kind}]}]
        await keep(fhir_client, document_reference("p1", id=f"d{n}", category=category))
        await keep(fhir_client, {**binary, "id": f"b{n}", "securityContext": {"reference": f"DocumentReference/d{n}"}})
    scopes = [f"system/DocumentReference.rs?category={KINDS}|k1", "system/Binary.cruds"]
    http = (await server.client(scopes, role=DOCTOR)).http
    for n, (read, written) in enumerate(((200, 200), (404, 403))):
        assert (await http.get(f"/fhir/Binary/b{n}")).status_code == read
        context = {"reference": f"DocumentReference/d{n}"}
        change = {**binary, "id": f"b{n}", "data": "Yg==", "securityContext": context}
        assert (await put(http, change)).status_code == written
    found = (await http.get("/fhir/Binary")).json()
    assert ids_of(found) == ["b0"]
