"""CapabilityStatement: it says what this server does, and every line of it is exercised here.

The tests go by the statement, so a line that is added is asked of the server too; one that no table below knows how to
ask fails, and wants its row. What is not claimed is asked as well, and refused.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple

import httpx
import orjson
import pytest

from fhir_server.r4 import structure
from fhir_server.r4.resource_types import RESOURCE_TYPES
from fhir_server.r4.search_parameters import parameter_at
from fhir_server.rest.operations import OPERATIONS
from fhir_server.rest.routes import SHAPES
from tests.resources import minimal
from tests.support import FHIR_JSON, Resource, ids_of, patient, post, put

KEPT = sorted(set(RESOURCE_TYPES) - {"Parameters", "OperationOutcome"})
AT_ONCE = 16


class Ask(NamedTuple):
    """One request of `{type}`, with the resource as its body where it has one, and the status of its answer."""

    method: str
    path: str
    status: int
    headers: dict[str, str] = FHIR_JSON
    body: bytes | None = None


PATCH = {"content-type": "application/json-patch+json"}
# R4 interaction code -> the request that proves it, in the order in which they are asked.
INTERACTIONS = {
    "create": Ask("POST", "/fhir/{type}", 201),
    "update": Ask("PUT", "/fhir/{type}/x1", 201),
    "read": Ask("GET", "/fhir/{type}/x1", 200),
    "vread": Ask("GET", "/fhir/{type}/x1/_history/1", 200),
    "history-instance": Ask("GET", "/fhir/{type}/x1/_history", 200),
    "history-type": Ask("GET", "/fhir/{type}/_history", 200),
    "search-type": Ask("GET", "/fhir/{type}?_id=x1", 200),
    "patch": Ask("PATCH", "/fhir/{type}/x1", 200, PATCH, b"[]"),
    "delete": Ask("DELETE", "/fhir/{type}/x1", 204),
}
SYSTEM = {
    "batch": Ask("POST", "/fhir", 200, body=b'{"resourceType":"Bundle","type":"batch"}'),
    "transaction": Ask("POST", "/fhir", 200, body=b'{"resourceType":"Bundle","type":"transaction"}'),
    "history-system": Ask("GET", "/fhir/_history", 200),
    "search-system": Ask("GET", "/fhir?_type=Patient", 200),
}
CONDITIONS = {
    "conditionalCreate": Ask("POST", "/fhir/{type}", 200, {**FHIR_JSON, "if-none-exist": "_id=x1"}),
    "conditionalUpdate": Ask("PUT", "/fhir/{type}?_id=x1", 200),
    "conditionalDelete": Ask("DELETE", "/fhir/{type}?_id=x1", 204),
}
# The value of a parameter of each type that no resource of these tests has.
NO_SUCH = {
    "token": "no-such",
    "reference": "Patient/no-such",
    "date": "1850",
    "string": "no-such",
    "uri": "urn:no-such",
    "number": "987654",
    "quantity": "987654",
    "special": "-80|-170|1|m",
}
BASIC = {"resourceType": "Basic", "id": "b", "code": {"text": "before"}}
PATCHED = "after"
# Media type -> a patch that changes the text of the code of BASIC.
PATCHES = {
    "application/json-patch+json": b'[{"op":"replace","path":"/code/text","value":"after"}]',
    "application/xml-patch+xml": (
        b'<diff xmlns:f="http://hl7.org/fhir"><replace sel="f:Basic/f:code/f:text/@value">after</replace></diff>'
    ),
    "application/fhir+json": (
        b'{"resourceType":"Parameters","parameter":[{"name":"operation","part":[{"name":"type","valueCode":"replace"},'
        b'{"name":"path","valueString":"Basic.code.text"},{"name":"value","valueString":"after"}]}]}'
    ),
    "application/fhir+xml": (
        b'<Parameters xmlns="http://hl7.org/fhir"><parameter><name value="operation"/>'
        b'<part><name value="type"/><valueCode value="replace"/></part>'
        b'<part><name value="path"/><valueString value="Basic.code.text"/></part>'
        b'<part><name value="value"/><valueString value="after"/></part></parameter></Parameters>'
    ),
}


@pytest.fixture
async def statement(anonymous: httpx.AsyncClient) -> dict[str, Any]:
    answer = await anonymous.get("/fhir/metadata")
    assert answer.status_code == 200
    return answer.json()


@pytest.fixture
def described(statement: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What is said of each type."""
    return {one["type"]: one for one in statement["rest"][0]["resource"]}


def body_of(resource_type: str, resource_id: str = "x1") -> bytes:
    return orjson.dumps({**minimal(resource_type), "id": resource_id})


async def asked(client: httpx.AsyncClient, ask: Ask, resource_type: str) -> str | None:
    """What is wrong with the answer, None where it is as it should be."""
    content = (ask.body or body_of(resource_type)) if ask.method in ("POST", "PUT", "PATCH") else None
    path = ask.path.format(type=resource_type)
    answer = await client.request(ask.method, path, content=content, headers=ask.headers)
    return None if answer.status_code == ask.status else f"{answer.status_code} {answer.text[:200]}"


async def each(items: Iterable[Any], ask: Callable[[Any], Awaitable[str | None]]) -> dict[Any, str]:
    """The faults of the items that have one; a few are asked at a time."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(item: Any) -> tuple[Any, str | None]:
        async with gate:
            return item, await ask(item)

    return {item: fault for item, fault in await asyncio.gather(*map(one, items)) if fault}


async def keep_one_of_each(client: httpx.AsyncClient, described: dict[str, dict[str, Any]]) -> None:
    async def keep(name: str) -> str | None:
        return await asked(client, INTERACTIONS["update"], name)

    assert await each([name for name in KEPT if "update" in codes(described[name])], keep) == {}


def codes(said: dict[str, Any]) -> set[str]:
    return {one["code"] for one in said["interaction"]}


async def test_the_statement_is_valid_r4(statement: dict[str, Any]) -> None:
    """As our own check reads R4."""
    assert structure.check(statement) == []
    assert (statement["fhirVersion"], statement["kind"]) == ("4.0.1", "instance")
    assert statement["implementation"]["url"] == "http://test/fhir"


def test_every_type_that_is_kept_is_listed_once(statement: dict[str, Any]) -> None:
    """All of R4 but the containers of an exchange."""
    assert sorted(one["type"] for one in statement["rest"][0]["resource"]) == KEPT


async def test_each_interaction_of_each_type_is_as_claimed(
    fhir_client: httpx.AsyncClient, described: dict[str, dict[str, Any]]
) -> None:
    """What is claimed is done; what is not is refused with 405, or 404 where the path has no such shape."""

    async def ask(name: str) -> str | None:
        for code, one in INTERACTIONS.items():
            if code in codes(described[name]):
                fault = await asked(fhir_client, one, name)
            else:
                fault = await refused(fhir_client, one, name)
            if fault:
                return f"{code}: {fault}"
        return None

    assert {code for name in KEPT for code in codes(described[name])} <= INTERACTIONS.keys()
    assert await each([name for name in KEPT if name != "AuditEvent"], ask) == {}


async def refused(client: httpx.AsyncClient, ask: Ask, resource_type: str) -> str | None:
    fault = await asked(client, ask, resource_type)
    return None if fault and fault[:3] in ("404", "405") else f"done, and not claimed ({fault})"


async def test_the_trail_is_for_reading(fhir_client: httpx.AsyncClient, described: dict[str, dict[str, Any]]) -> None:
    """Nobody writes AuditEvents but this server, which shows each by its number."""
    said = described["AuditEvent"]
    assert codes(said) == {"read", "search-type"}
    assert said["versioning"] == "no-version"
    await put(fhir_client, patient("p"))
    found = (await fhir_client.get("/fhir/AuditEvent?_count=1")).json()["entry"][0]["resource"]["id"]
    assert (await fhir_client.get(f"/fhir/AuditEvent/{found}")).status_code == 200
    for code in INTERACTIONS.keys() - codes(said):
        assert await refused(fhir_client, INTERACTIONS[code], "AuditEvent") is None, code


@pytest.mark.parametrize("name", ["Parameters", "OperationOutcome"])
async def test_containers_of_an_exchange_are_not_kept(fhir_client: httpx.AsyncClient, name: str) -> None:
    """They are not listed, and nothing is done with them."""
    for code, one in INTERACTIONS.items():
        assert await refused(fhir_client, one, name) is None, code


async def test_conditions_are_met_on_the_types_that_claim_them(
    fhir_client: httpx.AsyncClient, described: dict[str, dict[str, Any]]
) -> None:
    """Conditional create, update and delete by the criteria of a resource that is there; update as create."""
    await keep_one_of_each(fhir_client, described)

    async def ask(name: str) -> str | None:
        for flag, one in CONDITIONS.items():
            claimed = described[name].get(flag, False) not in (False, "not-supported")
            fault = await (asked if claimed else refused)(fhir_client, one, name)
            if fault and (claimed or not fault.startswith("done, and not claimed (4")):
                return f"{flag}: {fault}"
        return None

    written = [name for name in KEPT if "update" in codes(described[name])]
    assert all(described[name]["updateCreate"] for name in written), "keep_one_of_each has just done it"
    assert {described[name]["conditionalDelete"] for name in written} == {"single"}
    assert await each(written, ask) == {}


async def test_versions_are_kept_where_it_is_claimed(
    fhir_client: httpx.AsyncClient, described: dict[str, dict[str, Any]]
) -> None:
    """`versioned` and `readHistory`: the version before the last is read, and If-Match is heeded."""
    first, second = patient("p"), patient("p", "AUTRE")
    for one in (first, second):
        await put(fhir_client, one)
    said = described["Patient"]
    assert (said["versioning"], said["readHistory"]) == ("versioned", True)
    old = await fhir_client.get("/fhir/Patient/p/_history/1")
    assert old.json()["name"] == first["name"]
    assert (await put(fhir_client, first, if_match='W/"1"')).status_code == 412


async def test_each_search_parameter_of_each_type_is_searched_by(
    fhir_client: httpx.AsyncClient, described: dict[str, dict[str, Any]]
) -> None:
    """None is refused and none is passed over: by a value that it has not, the one resource of a type is not found."""
    await keep_one_of_each(fhir_client, described)
    lines = [
        (name, parameter["name"], value_of(name, parameter))
        for name in KEPT
        for parameter in parameters(described, name)
    ]
    assert len(lines) == len({(name, code) for name, code, _ in lines}), "none is listed twice"

    async def ask(line: tuple[str, str, str]) -> str | None:
        name, code, value = line
        answer = await fhir_client.get(f"/fhir/{name}", params={code: value})
        if answer.status_code != 200:
            return f"{answer.status_code} {answer.text[:200]}"
        return f"found {ids_of(answer.json())}" if ids_of(answer.json()) else None

    assert await each(lines, ask) == {}


async def test_each_parameter_of_all_resources_is_searched_by(
    fhir_client: httpx.AsyncClient, statement: dict[str, Any], described: dict[str, dict[str, Any]]
) -> None:
    """Over all types at once, by a value that nothing has; `_type` by a type of which there is nothing."""
    await keep_one_of_each(fhir_client, described)
    said = statement["rest"][0]["searchParam"]
    assert {"_type", "_id", "_lastUpdated", "_tag", "_profile", "_security", "_text"} <= {one["name"] for one in said}
    await fhir_client.delete("/fhir/Basic/x1")
    for one in said:
        value = "Basic" if one["name"] == "_type" else NO_SUCH[one["type"]]
        answer = await fhir_client.get("/fhir", params={one["name"]: value})
        assert (answer.status_code, ids_of(answer.json())) == (200, []), (one, answer.text)


def parameters(described: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return described[name]["searchParam"]


def value_of(name: str, parameter: dict[str, Any]) -> str:
    """A value that nothing has; of a composite, one for each component. In the trail, a worker nobody else asks for."""
    if parameter["type"] == "reference":
        return f"Patient/{name}-{parameter['name']}"[:64]
    if parameter["type"] == "composite":
        parts = parameter_at(parameter["definition"]).components
        return "$".join(NO_SUCH[parameter_at(url).type] for url, _ in parts)
    return NO_SUCH[parameter["type"]]


async def test_each_include_of_each_type_is_followed(
    fhir_client: httpx.AsyncClient, described: dict[str, dict[str, Any]]
) -> None:
    """searchInclude and searchRevInclude: a search that asks for all of them is answered."""
    await keep_one_of_each(fhir_client, described)
    lines = [
        (name, keyword, values[at : at + 100])
        for name in KEPT
        for keyword, values in (
            ("_include", described[name].get("searchInclude", [])),
            ("_revinclude", described[name].get("searchRevInclude", [])),
        )
        for at in range(0, len(values), 100)
    ]

    async def ask(line: tuple[str, str, list[str]]) -> str | None:
        name, keyword, values = line
        answer = await fhir_client.get(f"/fhir/{name}", params=[("_id", "x1"), *((keyword, value) for value in values)])
        fine = answer.status_code == 200 and ids_of(answer.json()) == ["x1"]
        return None if fine else f"{answer.status_code} {answer.text[:200]}"

    faults = await each(range(len(lines)), lambda at: ask(lines[at]))
    assert {lines[at][:2]: fault for at, fault in faults.items()} == {}


async def test_each_operation_is_reached_where_it_is_claimed(
    fhir_client: httpx.AsyncClient, statement: dict[str, Any], described: dict[str, dict[str, Any]]
) -> None:
    """On the system, on types and on instances, by each method that it has; elsewhere there is no such operation."""
    await keep_one_of_each(fhir_client, described)
    names = {one.name[1:] for one in OPERATIONS}
    claimed = {name: {one["name"] for one in described[name].get("operation", ())} for name in KEPT}
    on_system = {one["name"] for one in statement["rest"][0].get("operation", ())}
    assert on_system == {one.name[1:] for one in OPERATIONS if "system" in one.levels}
    assert on_system | {code for codes in claimed.values() for code in codes} == names, "each is somewhere"
    lines = [
        (level, name, one)
        for one in OPERATIONS
        for level in one.levels
        for name in (KEPT if level != "system" else ("",))
    ]

    async def ask(at: int) -> str | None:
        level, name, one = lines[at]
        places = {"T": name, "I": "x1"}
        path = "/".join(("/fhir", *(places[part] for part in SHAPES[level]), one.name))
        offered = any(other.name == one.name and level in other.levels and other.is_about(name) for other in OPERATIONS)
        expected = level == "system" or (offered and one.name[1:] in claimed[name])
        for method in one.methods:
            answer = await fhir_client.request(method, path)
            reached = answer.status_code not in (404, 405) and answer.status_code < 500
            if reached != expected:
                return f"{method} {path}: {answer.status_code} {answer.text[:200]}"
        return None

    assert list((await each(range(len(lines)), ask)).values()) == []


@pytest.mark.parametrize("code", SYSTEM)
async def test_what_the_system_does_is_claimed_and_what_not_is_refused(
    fhir_client: httpx.AsyncClient, statement: dict[str, Any], code: str
) -> None:
    """Batches, transactions, and what is asked of all types together."""
    claimed = {one["code"] for one in statement["rest"][0]["interaction"]}
    assert claimed <= SYSTEM.keys()
    fault = await asked(fhir_client, SYSTEM[code], "Bundle")
    assert (fault is None) == (code in claimed), fault


async def test_each_format_is_answered_for_each_type(
    fhir_client: httpx.AsyncClient, statement: dict[str, Any], described: dict[str, dict[str, Any]]
) -> None:
    """JSON and XML, by `_format` and by Accept, of every resource that is kept; another is 406."""
    await keep_one_of_each(fhir_client, described)
    lines = [(name, given) for name in KEPT if "update" in codes(described[name]) for given in statement["format"]]

    async def ask(line: tuple[str, str]) -> str | None:
        name, given = line
        form = "xml" if "xml" in given else "json"
        for sent in ({"params": {"_format": given}}, {"headers": {"accept": given}}):
            answer = await fhir_client.get(f"/fhir/{name}/x1", **sent)
            if answer.status_code != 200 or form not in answer.headers["content-type"]:
                return f"{answer.status_code} {answer.headers['content-type']} {answer.text[:100]}"
            if not answer.content.startswith(b"<" if form == "xml" else b"{"):
                return f"not {form}"
        return None

    assert await each(lines, ask) == {}
    assert (await fhir_client.get("/fhir/Basic/x1", params={"_format": "text/turtle"})).status_code == 406


async def test_each_patch_format_changes_a_resource(fhir_client: httpx.AsyncClient, statement: dict[str, Any]) -> None:
    """All that are listed and no other."""
    assert set(statement["patchFormat"]) == PATCHES.keys()
    for media_type, body in PATCHES.items():
        await put(fhir_client, BASIC)
        answer = await fhir_client.patch("/fhir/Basic/b", content=body, headers={"content-type": media_type})
        assert (answer.status_code, answer.json()["code"]["text"]) == (200, PATCHED), media_type
    other = await fhir_client.patch("/fhir/Basic/b", content=b"x", headers={"content-type": "text/plain"})
    assert other.status_code == 415


async def test_the_security_that_is_described_is_kept(anonymous: httpx.AsyncClient, statement: dict[str, Any]) -> None:
    """SMART: the token endpoint is where the statement says, and without a token nothing else is answered."""
    said = statement["rest"][0]["security"]
    assert [one["coding"][0]["code"] for one in said["service"]] == ["SMART-on-FHIR", "OAuth"]
    (token,) = (one["valueUri"] for one in said["extension"][0]["extension"] if one["url"] == "token")
    assert (await anonymous.post(token)).status_code == 400
    assert (await anonymous.get("/fhir/.well-known/smart-configuration")).json()["token_endpoint"] == token
    assert (await anonymous.get("/fhir/Patient")).status_code == 401
    created: Resource = patient("p")
    assert (await post(anonymous, created)).status_code == 401
