"""$graphql over HTTP: ways to ask, searches, pages, rights, traces and failures; r4/test_graphql.py the language."""

import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest

from fhir_server.r4.graphql.limits import MOST_RESOURCES
from fhir_server.r4.resource_types import TYPE_NUMBER
from tests.support import (
    FHIR_JSON,
    Caller,
    Resource,
    Server,
    document_reference,
    entry,
    found,
    keep,
    observation,
    patient,
    post,
    transaction,
)

Make = Callable[..., Awaitable[Caller]]
INTEGRATOR = Path(__file__).parents[3] / "docs" / "integrator.md"
JSON = "application/json; charset=utf-8"


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """Two workers: readings of one, a document of the other."""
    await keep(
        fhir_client,
        patient("p", active=True, gender="female", address=[{"city": "Lyon"}]),
        patient("q", "AUTRE", active=True),
    )
    readings = [observation("p", id=f"o{n}", effectiveDateTime=f"2026-0{n}-01") for n in range(1, 8)]
    await keep(fhir_client, *readings, document_reference("q", id="d"))
    return fhir_client


async def asked(client: httpx.AsyncClient, query: str, at: str = "", **variables: Any) -> httpx.Response:
    return await client.post(f"/fhir/{at}$graphql", json={"query": query, "variables": variables})


async def data(client: httpx.AsyncClient, query: str, at: str = "", **variables: Any) -> Any:
    answer = await asked(client, query, at, **variables)
    assert (answer.status_code, answer.headers["content-type"]) == (200, JSON), answer.text
    return answer.json()["data"]


def failure(answer: httpx.Response) -> tuple[int, list[str]]:
    """The status, and the issue codes of the errors: each of them as R4 shows it."""
    assert answer.headers["content-type"] == JSON, answer.text
    told = answer.json()
    assert told["data"] is None
    for error in told["errors"]:
        outcome = error["extensions"]["resource"]
        assert outcome["resourceType"] == "OperationOutcome"
        assert [issue["diagnostics"] for issue in outcome["issue"]] == [error["message"]]
    return answer.status_code, [error["extensions"]["resource"]["issue"][0]["code"] for error in told["errors"]]


# Ways to ask for the same

QUERY = "query mine($id: ID!) { Patient(id: $id) { gender } } query other { PatientList { id } }"
GIVEN = {"query": QUERY, "operationName": "mine", "variables": '{"id": "p"}'}
PARAMETERS = {
    "resourceType": "Parameters",
    "parameter": [{"name": name, "valueString": value} for name, value in GIVEN.items()],
}
XML = '<Parameters xmlns="http://hl7.org/fhir">{}</Parameters>'.format(
    "".join(
        f'<parameter><name value="{name}"/><valueString value="{value.replace(chr(34), "&quot;")}"/></parameter>'
        for name, value in GIVEN.items()
    )
)
BESIDE = f"?operationName=mine&variables={quote(GIVEN['variables'])}"
WAYS: dict[str, tuple[str, str, str | bytes | None, str]] = {
    "GET": ("GET", f"{BESIDE}&query={quote(QUERY)}", None, ""),
    "GraphQL": ("POST", BESIDE, QUERY, "application/graphql"),
    "JSON": ("POST", "", orjson.dumps({**GIVEN, "variables": {"id": "p"}, "extensions": {}}), "application/json"),
    "JSON beside the URL": ("POST", f"{BESIDE}&query=nonsense", orjson.dumps({"query": QUERY}), "application/json"),
    "Parameters": ("POST", "", orjson.dumps(PARAMETERS), "application/fhir+json"),
    "Parameters in XML": ("POST", "", XML, "application/fhir+xml"),
    "the URL of a POST": ("POST", f"{BESIDE}&query={quote(QUERY)}", None, ""),
}


@pytest.mark.parametrize("way", WAYS)
async def test_a_query_comes_in_several_ways(kept: httpx.AsyncClient, way: str) -> None:
    """https://hl7.org/fhir/R4/graphql.html#invoking - the answer is JSON, whatever FHIR form is wanted."""
    method, query, content, media_type = WAYS[way]
    headers = {"content-type": media_type} if media_type else {}
    for accept in ("application/json", "application/fhir+xml", "*/*"):
        answer = await kept.request(
            method, f"/fhir/$graphql{query}", content=content, headers={**headers, "accept": accept}
        )
        assert (answer.status_code, answer.headers["content-type"]) == (200, JSON), answer.text
        assert answer.content == b'{"data":{"Patient":{"gender":"female"}}}'
    pretty = await kept.get("/fhir/Patient/p/$graphql", params={"query": "{ gender }", "_pretty": "true"})
    assert pretty.text == '{\n  "data": {\n    "gender": "female"\n  }\n}'


@pytest.mark.parametrize(
    ("content", "media_type", "status", "code"),
    [
        (b"{ PatientList { id", "application/graphql", 400, "structure"),
        (b"\xff", "application/graphql", 400, "structure"),
        (b"[{}]", "application/json", 400, "structure"),
        (b"{", "application/json", 400, "structure"),
        (orjson.dumps(PARAMETERS), "application/json", 400, "structure"),
        (b"{}", "application/json", 400, "invalid"),
        (b'{"query": 1}', "application/json", 400, "invalid"),
        (b'{"query": "{ PatientList { id } }", "operationName": 1}', "application/json", 400, "invalid"),
        (b'{"query": "{ PatientList { id } }", "variables": []}', "application/json", 200, ""),
        (b'{"query": "{ PatientList { id } }", "variables": [1]}', "application/json", 400, "invalid"),
        (b'{"query": "{ PatientList { id } }", "variables": "x"}', "application/json", 400, "structure"),
        (b'{"resourceType": "Patient"}', "application/fhir+json", 400, "structure"),
        (b"x", "text/plain", 415, "not-supported"),
        (b"x" * (1024 * 1024 + 1), "application/graphql", 413, "too-long"),
    ],
)
async def test_what_is_no_query_is_refused(
    fhir_client: httpx.AsyncClient, content: bytes, media_type: str, status: int, code: str
) -> None:
    answer = await fhir_client.post("/fhir/$graphql", content=content, headers={"content-type": media_type})
    assert answer.status_code == status, answer.text
    assert failure(answer)[1] == [code] if code else "errors" not in answer.json()


async def test_failures_are_errors_of_graphql(kept: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    """With the status that REST gives, a place in the query, and the OperationOutcome in `extensions`."""
    await kept.delete("/fhir/DocumentReference/d")
    for query, told in [
        ("{ Patient(id: nobody) { id } }", (404, ["not-found"])),
        ("{ DocumentReference(id: d) { id } }", (410, ["deleted"])),
        ("mutation { PatientDelete(id: p) { id } }", (404, ["not-supported"])),
        ("{ PatientList(nickname: a) { id } }", (400, ["invalid"])),
        ("{ PatientList { a b } }", (400, ["invalid", "invalid"])),
    ]:
        assert failure(await asked(kept, query)) == told
    wrong = (await asked(kept, "{\n PatientList { a } }")).json()
    assert wrong["errors"][0]["locations"] == [{"line": 2, "column": 16}]
    assert failure(await asked(anonymous, "{ PatientList { id } }")) == (401, ["login"])
    assert failure(await asked(kept, "{ id }", "Patient/nobody/")) == (404, ["not-found"])
    assert failure(await asked(kept, "{ id }", "AuditEvent/1/")) == (405, ["not-supported"])
    assert failure(await kept.delete("/fhir/$graphql")) == (405, ["not-supported"])
    assert failure(await kept.get("/fhir/$graphql?query={x}", headers={"accept": "text/turtle"}))[0] == 406
    assert failure(await kept.get("/fhir/$graphql?query={x}&other=1")) == (400, ["invalid"])


async def test_it_is_no_entry_of_a_batch(kept: httpx.AsyncClient) -> None:
    """A Bundle holds resources."""
    one = {"request": {"method": "GET", "url": "$graphql?query={PatientList{id}}"}}
    answer = await kept.post(
        "/fhir", json={"resourceType": "Bundle", "type": "batch", "entry": [one]}, headers=FHIR_JSON
    )
    assert answer.json()["entry"][0]["response"]["status"] == "404 Not Found"


# Searches

SEARCHES = {
    "a search parameter": ("PatientList(family: test)", ["p"]),
    "alternatives": ("PatientList(_id: [p, q, nobody], _sort: _id)", ["p", "q"]),
    "a comma is no separator": ('PatientList(_id: "p,q")', []),
    "a name with a hyphen": ("PatientList(address_city: Lyon)", ["p"]),
    "a token with its system": ('ObservationList(code: "http://loinc.org|8867-4", date: "gt2026-06-15")', ["o7"]),
    "an order, and the first of it": ('ObservationList(_sort: "-date", _count: 2)', ["o7", "o6"]),
    "an order by a name with a hyphen": ("ObservationList(_sort: [value_quantity, date], _count: 1)", ["o1"]),
    "a filter": (
        'ObservationList(_filter: "date lt 2026-02-15 and subject:Patient.name co test", _sort: date)',
        ["o1", "o2"],
    ),
    "alternatives of filters": (
        'ObservationList(_filter: ["date lt 2026-01-15", "date gt 2026-06-15"], _sort: date)',
        ["o1", "o7"],
    ),
    "a FHIRPath, then so many": (
        'ObservationList(fhirpath: "effective > @2026-03", _sort: date, _count: 2)',
        ["o4", "o5"],
    ),
}


@pytest.mark.parametrize("case", SEARCHES)
async def test_a_list_is_searched(kept: httpx.AsyncClient, case: str) -> None:
    """https://hl7.org/fhir/R4/graphql.html#searching"""
    search, ids = SEARCHES[case]
    (hits,) = (await data(kept, f"{{ {search} {{ id }} }}")).values()
    assert [one["id"] for one in hits] == ids


PAGE = "count offset pagesize first previous next last edges { mode score resource { id } }"


async def test_a_connection_is_read_page_by_page(kept: httpx.AsyncClient, client_with: Make) -> None:
    """By its cursors, forth and back; they are of one client, one type and this operation."""
    search = f"""{{ ObservationConnection(subject: p, _sort: date, _count: 3, fhirpath: "id != 'o2'") {{ {PAGE} }} }}"""
    follow = f"query f($cursor: String!) {{ ObservationConnection(_cursor: $cursor) {{ {PAGE} }} }}"

    def ids(page: Mapping[str, Any]) -> list[str]:
        assert all(edge["mode"] == "match" for edge in page["edges"])
        return [edge["resource"]["id"] for edge in page["edges"]]

    async def at(cursor: str) -> Any:
        return (await data(kept, follow, cursor=cursor))["ObservationConnection"]

    one = (await data(kept, search))["ObservationConnection"]
    assert (one["count"], one["offset"], one["pagesize"], ids(one)) == (7, 0, 3, ["o1", "o3"])
    assert one.keys() & {"previous", "last"} == set()
    two = await at(one["next"])
    three = await at(two["next"])
    assert (two["offset"], ids(two), three["offset"], ids(three)) == (3, ["o4", "o5", "o6"], 6, ["o7"])
    assert "next" not in three
    back = await at(three["previous"])
    assert (ids(back), ids(await at(back["previous"])), ids(await at(three["first"]))) == (ids(two), ids(one), ids(one))
    assert (await at(back["next"]))["offset"] == 6

    stranger = await client_with("system/*.rs")
    assert failure(await asked(stranger.http, follow, cursor=one["next"])) == (400, ["invalid"])
    other = follow.replace("Observation", "Patient")
    assert failure(await asked(kept, other, cursor=one["next"])) == (400, ["invalid"])
    assert failure(await asked(kept, follow, cursor="x")) == (400, ["invalid"])
    rest = (await kept.get("/fhir/Observation?_count=1")).json()["link"][1]["url"].partition("_cursor=")[2]
    assert failure(await asked(kept, follow, cursor=rest)) == (400, ["invalid"])
    assert (await kept.get(f"/fhir/Observation?_cursor={one['next']}")).status_code == 400


async def test_a_connection_counts_only_where_it_is_asked(kept: httpx.AsyncClient) -> None:
    """What costs a count of all matches is not made for a client that does not look at it."""
    page = await data(kept, "{ ObservationConnection(_count: 2) { offset pagesize edges { resource { id } } } }")
    assert page["ObservationConnection"].keys() == {"offset", "pagesize", "edges"}
    empty = await data(kept, "{ ObservationConnection(_count: 0) { count edges { mode } } }")
    assert empty == {"ObservationConnection": {"count": 7, "edges": []}}


async def test_what_refers_to_a_resource_is_listed(kept: httpx.AsyncClient) -> None:
    """Of one resource, of each of a list, and as pages that go on at the root."""
    query = '{ ObservationList(_reference: subject, date: "lt2026-03", _sort: date) { id } }'
    assert await data(kept, query, "Patient/p/") == {"ObservationList": [{"id": "o1"}, {"id": "o2"}]}
    assert await data(kept, query, "Patient/q/") == {"ObservationList": []}
    each = """{ PatientList(_sort: _id) { id
        newest: ObservationList(_reference: patient, _sort: "-date", _count: 1) { id }
        all: ObservationList(_reference: subject, _sort: "-date") { id }
        DocumentReferenceList(_reference: patient) { id } } }"""
    p, q = (await data(kept, each))["PatientList"]
    assert [one["id"] for one in p["newest"] + p["all"]] == ["o7", *(f"o{n}" for n in range(7, 0, -1))]
    assert (p["DocumentReferenceList"], q["DocumentReferenceList"], q["all"]) == ([], [{"id": "d"}], [])
    nested = "{ ObservationConnection(_reference: subject, _count: 5) { count next } }"
    page = (await data(kept, nested, "Patient/p/"))["ObservationConnection"]
    follow = "query f($c: ID!) { ObservationConnection(cursor: $c) { edges @flatten { resource @flatten { id } } } }"
    rest = await data(kept, follow, c=page["next"])
    assert (page["count"], len(rest["ObservationConnection"]["id"])) == (7, 2)


async def test_a_list_is_whole_or_an_error(fhir_client: httpx.AsyncClient) -> None:
    """R4: a server SHALL NOT cut it silently. A client may cut it, and a connection has pages."""
    await post(fhir_client, transaction(*(entry(patient()) for _ in range(MOST_RESOURCES + 1))))
    assert failure(await asked(fhir_client, "{ PatientList { id } }")) == (403, ["too-costly"])
    cut = await data(fhir_client, "{ PatientList(_count: 3) { id } one: PatientList(_id: nobody) { id } }")
    assert (len(cut["PatientList"]), cut["one"]) == (3, [])
    both = "{ a: PatientList(_count: 600) { id } b: PatientList(_count: 600) { id } }"
    assert len((await data(fhir_client, both))["b"]) == MOST_RESOURCES - 600
    whole = await data(fhir_client, "{ PatientConnection(_count: 1) { count } }")
    assert whole == {"PatientConnection": {"count": MOST_RESOURCES + 1}}


# Rights and traces

FOLLOWED = "{ ObservationList(_id: o1) { id subject { reference resource { ... on Patient { gender } } } } }"


async def test_who_may_not_read_it_is_told_as_if_it_were_not_there(kept: httpx.AsyncClient, client_with: Make) -> None:
    """A reference to what is hidden and one to what is elsewhere: the same words, and nothing where it is optional."""
    elsewhere = observation("p", id="x", subject={"reference": "https://example.org/Patient/p"})
    await keep(kept, elsewhere)
    few = (await client_with("system/Observation.rs")).http
    hidden, lost = await asked(few, FOLLOWED), await asked(few, FOLLOWED.replace("o1", " x"))
    assert failure(hidden) == failure(lost) == (404, ["not-found"])
    assert hidden.json() == lost.json()
    optional = FOLLOWED.replace("resource", "resource(optional: true)")
    assert await data(few, optional) == {"ObservationList": [{"id": "o1", "subject": {"reference": "Patient/p"}}]}
    assert (await data(kept, FOLLOWED))["ObservationList"][0]["subject"]["resource"] == {"gender": "female"}


async def test_each_right_is_asked_for(kept: httpx.AsyncClient, client_with: Make, server: Server) -> None:
    """`r` to read and to be in focus, `s` to search, also where a chain leads; each refusal is in the trail."""
    reads, searches = await client_with("system/Patient.r"), await client_with("system/Observation.s")
    for client, query, at in [
        (reads, "{ PatientList { id } }", ""),
        (reads, "{ PatientConnection { count } }", ""),
        (reads, "{ ObservationList(_reference: subject) { id } }", "Patient/p/"),
        (searches, "{ Observation(id: o1) { id } }", ""),
        (searches, "{ id }", "Observation/o1/"),
        (searches, '{ ObservationList(_filter: "subject:Patient.gender eq female") { id } }', ""),
    ]:
        assert failure(await asked(client.http, query, at)) == (403, ["forbidden"]), query
    assert await data(reads.http, "{ gender }", "Patient/p/") == {"gender": "female"}
    assert len((await data(searches.http, "{ ObservationList { id } }"))["ObservationList"]) == 7
    refused = await server.rows(
        "select type, interaction from access where outcome = 4 and client_id = %s", reads.client_id
    )
    assert (TYPE_NUMBER["Patient"], "search-type") in refused
    both = "{ Patient(id: nobody) { id } Observation(id: o1) { id } }"
    assert failure(await asked(reads.http, both)) == (404, ["not-found"])
    assert await server.rows(
        "select resource_id from access where outcome = 4 and interaction = 'read' and client_id = %s", reads.client_id
    ) == [("o1",)], "a refusal is traced, also behind another failure"
    assert (TYPE_NUMBER["Observation"], "search-type") in refused


async def test_each_access_is_traced_as_rest_would(kept: httpx.AsyncClient, client_with: Make, server: Server) -> None:
    """A read as a read, also by a reference; a search for each worker shown, without what says who somebody is."""
    caller = await client_with("system/*.rs")
    query = """{ Patient(id: q) { id } ObservationList(_sort: date, _count: 1) { subject { resource { __typename } } }
        PatientList(name: "autre") { id } PatientConnection(gender: female, birthdate: "gt1900") { count } }"""
    await data(caller.http, query)
    rows = await server.rows(
        "select interaction, type, resource_id, patient_id, query, outcome from access where client_id = %s",
        caller.client_id,
    )
    person = TYPE_NUMBER["Patient"]
    assert sorted(rows, key=str) == sorted(
        [
            ("read", person, "q", "q", None, 0),
            ("search-type", TYPE_NUMBER["Observation"], None, "p", "_sort=date&_count=1", 0),
            ("search-type", person, None, "q", "name=***", 0),
            ("search-type", person, None, None, "gender=female&birthdate=***", 0),
            ("read", person, "p", "p", None, 0),
        ],
        key=str,
    )
    few = await client_with("system/Observation.rs")
    assert failure(await asked(few.http, FOLLOWED))[0] == 404
    assert await server.rows(
        "select interaction, type, resource_id from access where client_id = %s and outcome = 4", few.client_id
    ) == [("read", person, "p")]


async def test_a_protected_binary_is_hidden_here_too(
    kept: httpx.AsyncClient, client_with: Make, server: Server
) -> None:
    """By its id, in a list, in a count, and behind a reference."""
    for name, context in (("open", None), ("scan", "DocumentReference/d")):
        headers = {"content-type": "application/pdf", **({"x-security-context": context} if context else {})}
        assert (await kept.put(f"/fhir/Binary/{name}", content=b"%PDF", headers=headers)).status_code == 201
    folder: Resource = {
        "resourceType": "List",
        "id": "l",
        "status": "current",
        "mode": "working",
        "entry": [{"item": {"reference": f"Binary/{name}"}} for name in ("open", "scan")],
    }
    await keep(kept, folder)
    few = await client_with("system/Binary.rs", "system/List.rs")
    enough = await client_with("system/*.rs")
    entries = "{ entry { item { resource(optional: true) { id ... on Binary { contentType } } } } }"
    for client, seen in ((few, ["open"]), (enough, ["open", "scan"])):
        listed = await data(client.http, "{ BinaryList { id } BinaryConnection { count edges { resource { id } } } }")
        assert sorted(one["id"] for one in listed["BinaryList"]) == seen
        assert listed["BinaryConnection"].get("count") in (None, len(seen))
        items = (await data(client.http, entries, "List/l/"))["entry"]
        assert [one["item"]["resource"]["id"] for one in items if "resource" in one["item"]] == seen
    assert failure(await asked(few.http, "{ Binary(id: scan) { id } }")) == (404, ["not-found"])
    assert failure(await asked(few.http, entries.replace("(optional: true)", ""), "List/l/")) == (404, ["not-found"])
    assert (
        await server.rows(
            "select resource_id, patient_id from access where client_id = %s and outcome = 4", few.client_id
        )
        == [("scan", "q")] * 3
    )


async def test_the_schema_is_told_to_who_has_a_token(kept: httpx.AsyncClient) -> None:
    """https://hl7.org/fhir/R4/graphql.html#conformance: introspection SHALL be there."""
    told = await data(kept, "{ __schema { queryType { name } mutationType { name } } }")
    assert told == {"__schema": {"queryType": {"name": "Query"}, "mutationType": None}}
    kind = (await data(kept, "query a($t: String!) { __type(name: $t) { name kind } }", t="Patient"))["__type"]
    assert kind == {"name": "Patient", "kind": "OBJECT"}
    assert failure(await asked(kept, "{ __schema { queryType { name } } }", "Patient/p/")) == (404, ["not-supported"])


# The examples of the documentation

SECTION = INTEGRATOR.read_text(encoding="utf-8").partition("## GraphQL")[2].partition("\n## ")[0]
EXAMPLES = re.findall(r"```graphql\n# (\S+)\n(.*?)```\n+```json\n(.*?)```", SECTION, re.DOTALL)
DOCUMENTED = [
    patient("claire", "DURAND", birthDate="1979-05-04", name=[
        {"use": "official", "family": "DURAND", "given": ["Claire", "Anne"]},
        {"use": "usual", "given": ["Clara"]},
    ]),
    {"resourceType": "Practitioner", "id": "leroy", "name": [{"family": "LEROY"}]},
    *(
        observation("claire", "20564-1", id=f"spo2-{n}", effectiveDateTime=f"2026-0{n}-10",
                    performer=[{"reference": "Practitioner/leroy"}],
                    valueQuantity={"value": 95 + n, "unit": "%"})
        for n in (1, 2, 3)
    ),
    document_reference("claire", id="fitness", date="2026-03-10T09:00:00Z", description="Fitness for work"),
]  # fmt: skip


async def test_the_examples_of_the_documentation_are_true(fhir_client: httpx.AsyncClient) -> None:
    """docs/integrator.md: each query, asked where its first line says, gives what stands below it."""
    await keep(fhir_client, *DOCUMENTED)
    assert await found(fhir_client, "Patient") == ["claire"]
    assert len(EXAMPLES) == 4
    for path, query, expected in EXAMPLES:
        answer = await fhir_client.post(path, content=query, headers={"content-type": "application/graphql"})
        assert answer.json() == orjson.loads(expected), answer.text
