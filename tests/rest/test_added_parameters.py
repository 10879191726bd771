"""SearchParameters that an operator writes: announced, indexed beside everything else, then searched by.

https://hl7.org/fhir/R4/searchparameter.html
"""

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from fhir_server.settings import Settings
from tests.support import (
    EVERYTHING,
    Resource,
    Server,
    codes,
    found,
    in_order,
    issues,
    keep,
    observation,
    patient,
    post,
    put,
    serving,
    transaction,
)
from tests.support import entry as entry_of

QUICK = 0.05
"""Seconds between two looks at the parameters."""
BADGE, COLOURS = "urn:test:badge", "urn:test:colours"


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(parameters_seconds=QUICK)


@pytest.fixture
async def operator(server: Server) -> httpx.AsyncClient:
    return (await server.client(EVERYTHING, role="operator")).http


def parameter(code: str, kind: str, expression: str, **more: Any) -> Resource:
    return {
        "resourceType": "SearchParameter",
        "id": code,
        "url": f"urn:test:parameter:{code}",
        "name": "Parameter",
        "status": "active",
        "description": "A parameter of the test",
        "code": code,
        "base": [expression.partition(".")[0]],
        "type": kind,
        "expression": expression,
        **more,
    }


BADGES = parameter("badge", "token", f"Patient.extension('{BADGE}').value.ofType(Identifier)")


def badge(number: str) -> Resource:
    return {"extension": [{"url": BADGE, "valueIdentifier": {"system": COLOURS, "value": number}}]}


async def status(client: httpx.AsyncClient, code: str) -> dict[str, Any]:
    answer = await client.get(f"/fhir/SearchParameter/{code}/$index-status")
    assert answer.status_code == 200, answer.text
    return {one["name"]: one.get("valueCode", one.get("valueDecimal")) for one in answer.json()["parameter"]}


async def in_use(client: httpx.AsyncClient, *codes_of: str) -> None:
    """Wait until the server searches by these."""
    async with asyncio.timeout(60):
        for code in codes_of:
            while (await status(client, code))["state"] != "active":
                await asyncio.sleep(QUICK)
        await asyncio.sleep(3 * QUICK)  # and every instance has heard of it


KEPT = [
    patient(
        "bruno",
        "ABEL",
        multipleBirthInteger=2,
        contact=[{"name": {"family": "Héron"}, "period": {"start": "2024-01-01", "end": "2024-12-31"}}],
    ),
    patient("anne", "MOREL", link=[{"other": {"reference": "Patient/bruno"}, "type": "seealso"}], **badge("7")),
    patient("carla", "VIDAL", multipleBirthInteger=10, photo=[{"url": "http://test/photos/carla"}], **badge("8")),
    observation("anne", id="o", referenceRange=[{"low": {"value": 60, "system": "urn:s", "code": "bpm"}}]),
]
KINDS = [
    (BADGES, [("Patient?badge=7", ["anne"]), ("Patient?badge=urn:test:colours|8", ["carla"])]),
    (parameter("caller", "string", "Patient.contact.name"), [("Patient?caller=heron", ["bruno"])]),
    (parameter("called", "date", "Patient.contact.period"), [("Patient?called=2024", ["bruno"])]),
    (parameter("birth", "number", "Patient.multipleBirth as integer"), [("Patient?birth=gt2", ["carla"])]),
    (
        parameter("same", "reference", "Patient.link.other", target=["Patient", "RelatedPerson"]),
        [
            ("Patient?same=bruno", ["anne"]),
            ("Patient?same.family=abel", ["anne"]),
            ("Patient?_has:Patient:same:family=morel", ["bruno"]),
        ],
    ),
    (parameter("low", "quantity", "Observation.referenceRange.low"), [("Observation?low=60|urn:s|bpm", ["o"])]),
    (parameter("photo", "uri", "Patient.photo.url"), [("Patient?photo:below=http://test/photos", ["carla"])]),
]


async def test_a_parameter_of_each_type_is_searched_by_once_it_is_indexed(
    operator: httpx.AsyncClient, fhir_client: httpx.AsyncClient
) -> None:
    """Over resources that were there: refused before and while it is made, then exact, sorted, chained, included."""
    await keep(operator, *KEPT)
    queries = [query for _, searches in KINDS for query, _ in searches]
    for query in queries:
        answer = await fhir_client.get(f"/fhir/{query}")
        assert answer.status_code == 400, query
    await keep(operator, *(one for one, _ in KINDS))
    await in_use(operator, *(one["code"] for one, _ in KINDS))
    for _, searches in KINDS:
        for query, expected in searches:
            assert await found(fhir_client, query) == expected, query
    assert await found(fhir_client, "Patient?birth:missing=true") == ["anne"]
    assert await in_order(fhir_client, "Patient?_sort=-birth") == ["carla", "bruno", "anne"]
    assert await in_order(fhir_client, "Patient?_sort=badge") == ["anne", "carla", "bruno"]
    for query in ("Patient?_id=anne&_include=Patient:same", "Patient?_id=bruno&_revinclude=Patient:same"):
        bundle = (await fhir_client.get(f"/fhir/{query}")).json()
        assert {one["resource"]["id"] for one in bundle["entry"]} == {"anne", "bruno"}, query


async def test_what_is_being_indexed_is_told(make_settings: Callable[..., Settings]) -> None:
    """Not searched, sorted, chained or included by; not in the CapabilityStatement; its progress is for operators."""
    async with serving(make_settings(parameters_seconds=60)) as server:  # heard of, and nobody begins
        operator = (await server.client(EVERYTHING, role="operator")).http
        other = (await server.client(EVERYTHING)).http
        await keep(operator, KINDS[4][0])
    async with serving(make_settings(parameters_seconds=60)) as server:
        operator = (await server.client(EVERYTHING, role="operator")).http
        other = (await server.client(EVERYTHING)).http
        for query in (
            "Patient?same=x",
            "Patient?_sort=same",
            "Patient?_include=Patient:same",
            "Patient?_has:Patient:same:family=x",
        ):
            answer = await other.get(f"/fhir/{query}")
            assert (answer.status_code, codes(answer)) == (400, ["not-supported"]), query
            assert "is being indexed" in answer.text
        statement = (await other.get("/fhir/metadata")).text
        assert "urn:test:parameter:same" not in statement
        assert (await status(operator, "same"))["state"] == "announced"
        assert (await other.get("/fhir/SearchParameter/same/$index-status")).status_code == 403
        few = (await server.client(("system/SearchParameter.r",), role="operator")).http
        assert (await few.get("/fhir/SearchParameter/same/$index-status")).status_code == 403


async def test_the_capability_statement_follows(operator: httpx.AsyncClient, anonymous: httpx.AsyncClient) -> None:
    """A parameter is listed with its own definition as soon as it can be used, and no longer when it is gone."""

    async def listed() -> list[Any]:
        described = (await anonymous.get("/fhir/metadata")).json()["rest"][0]["resource"]
        (of_patient,) = [one for one in described if one["type"] == "Patient"]
        return [one for one in of_patient["searchParam"] if one["name"] == "badge"]

    assert await listed() == []
    await keep(operator, BADGES)
    await in_use(operator, "badge")
    assert await listed() == [{"name": "badge", "definition": BADGES["url"], "type": "token"}]
    assert (await operator.delete("/fhir/SearchParameter/badge")).status_code == 204
    await asyncio.sleep(6 * QUICK)
    assert await listed() == []
    answer = await operator.get("/fhir/Patient?badge=7")
    assert (answer.status_code, codes(answer)) == (400, ["not-supported"])


async def test_a_definition_that_changes_is_indexed_again(operator: httpx.AsyncClient) -> None:
    """Draft takes it away, another expression means other values, and nothing is found by the earlier ones."""
    await keep(operator, *KEPT, BADGES)
    await in_use(operator, "badge")
    assert (await put(operator, {**BADGES, "status": "draft"})).status_code == 200
    await asyncio.sleep(6 * QUICK)
    assert (await operator.get("/fhir/Patient?badge=7")).status_code == 400
    assert (await status(operator, "badge"))["state"] == "retired"
    await keep(
        operator,
        {**BADGES, "expression": "Patient.telecom"},
        patient("dora", telecom=[{"system": "phone", "value": "8"}]),
    )
    await in_use(operator, "badge")
    assert [await found(operator, f"Patient?badge={value}") for value in ("7", "8")] == [[], ["dora"]]


async def test_two_instances_lose_nothing_while_it_is_indexed(
    server: Server, settings: Settings, operator: httpx.AsyncClient
) -> None:
    """The second one goes on writing, one of them is stopped, and every worker is found by his last badge."""
    count = 240
    await post(
        operator,
        transaction(
            *(entry_of(patient(f"p{n}", **badge("old")), method="PUT", url=f"Patient/p{n}") for n in range(count))
        ),
    )
    async with serving(settings) as second:
        other = (await second.client(EVERYTHING)).http
        await keep(operator, BADGES)
        async with serving(settings):  # a third that stops in the middle of it
            for n in range(0, count, 6):
                await keep(other, patient(f"p{n}", **badge("new")), patient(f"q{n}", **badge("new")))
        await in_use(operator, "badge")
        for client in (operator, other):
            assert await found(client, "Patient?badge=new&_count=500") == sorted(
                f"{letter}{n}" for n in range(0, count, 6) for letter in "pq"
            )
            assert len(await found(client, "Patient?badge=old&_count=500")) == count - len(range(0, count, 6))
    said = await status(operator, "badge")
    assert said["done"] == said["of"] >= count


@pytest.mark.parametrize(
    ("changes", "code", "where"),
    [
        ({"type": "composite"}, "not-supported", "type"),
        ({"type": "special"}, "not-supported", "type"),
        ({"code": "family"}, "duplicate", "code"),
        ({"code": "_badge"}, "value", "code"),
        ({"base": ["AuditEvent"]}, "not-supported", "base[0]"),
        ({"base": ["Patient", "Observation"]}, "not-supported", "expression"),
        ({"expression": "Patient.nickname"}, "not-supported", "expression"),
        ({"expression": "Patient.name.select(given)"}, "not-supported", "expression"),
        ({"expression": "Patient.name"}, "not-supported", "expression"),
        ({"expression": "(" * 600 + "Patient.gender"}, "not-supported", "expression"),
        ({"type": "reference", "expression": "Patient.link.other"}, "required", "target"),
    ],
)  # fmt: skip
async def test_what_cannot_be_indexed_is_refused(
    operator: httpx.AsyncClient, changes: dict[str, Any], code: str, where: str
) -> None:
    """With 422 and the place, whoever asks in a transaction too; as a draft it is a resource like any other."""
    wanted = {**BADGES, **changes}
    for answer in (
        await put(operator, wanted),
        await post(operator, transaction(entry_of(wanted, method="PUT", url="SearchParameter/badge"))),
    ):
        assert (answer.status_code, issues(answer)) == (422, [(code, f"SearchParameter.{where}")]), answer.text
    assert (await operator.get("/fhir/SearchParameter/badge")).status_code == 404
    assert (await put(operator, {**wanted, "status": "draft"})).status_code == 201


async def test_two_parameters_of_one_code_are_told_apart_or_refused(operator: httpx.AsyncClient) -> None:
    """One code on two types is two parameters; on one type, or under one url, it is a clash that writes nothing."""
    await keep(operator, BADGES)
    same_code = parameter("badge", "string", "Patient.contact.name", id="second", url="urn:test:second")
    answer = await put(operator, same_code)
    assert (answer.status_code, issues(answer)) == (422, [("duplicate", "SearchParameter.code")])
    same_url = parameter("face", "string", "Patient.contact.name", url=BADGES["url"])
    answer = await put(operator, same_url)
    assert (answer.status_code, issues(answer)) == (422, [("duplicate", "SearchParameter.url")])
    assert (await operator.get("/fhir/SearchParameter/second")).status_code == 404
    await keep(operator, parameter("badge", "string", "Person.telecom.value", id="second", url="urn:test:second"))


async def test_only_an_operator_decides_what_is_searched(
    operator: httpx.AsyncClient, fhir_client: httpx.AsyncClient
) -> None:
    """Anybody else keeps a plain resource, whatever it says, and leaves an operator's alone."""
    nonsense = parameter("nonsense", "token", "Patient.nickname")
    await keep(fhir_client, BADGES, nonsense)
    await asyncio.sleep(6 * QUICK)
    answer = await fhir_client.get("/fhir/Patient?badge=7")
    assert (answer.status_code, codes(answer)) == (400, ["not-supported"])
    assert (await operator.get("/fhir/SearchParameter/badge/$index-status")).status_code == 404
    await keep(operator, {**BADGES, "description": "By an operator"})
    await in_use(operator, "badge")
    for answer in (
        await put(fhir_client, {**BADGES, "status": "retired"}),
        await fhir_client.delete("/fhir/SearchParameter/badge"),
    ):
        assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
    assert (await status(operator, "badge"))["state"] == "active"
    standard = parameter(
        "gender", "token", "Patient.gender", url="http://hl7.org/fhir/SearchParameter/individual-gender"
    )
    await keep(operator, standard)
    assert (await operator.get("/fhir/SearchParameter/gender/$index-status")).status_code == 404


async def test_the_trail_keeps_no_value_of_an_added_parameter(server: Server, operator: httpx.AsyncClient) -> None:
    """Nobody knows whether it says who somebody is."""
    await keep(operator, BADGES)
    await in_use(operator, "badge")
    await operator.get("/fhir/Patient?badge=7")
    assert await server.rows("select query from access where query like 'badge%%'") == [("badge=***",)]


async def test_the_command_line_lists_them(operator: httpx.AsyncClient, settings: Settings) -> None:
    """With state and progress."""
    await keep(operator, *KEPT, BADGES)
    await in_use(operator, "badge")
    assert settings.postgres
    assert settings.redis
    secrets = {
        "DMST_FHIR_POSTGRES": settings.postgres.get_secret_value(),
        "DMST_FHIR_REDIS": settings.redis.get_secret_value(),
        "DMST_FHIR_KEYS": str(settings.keys),
    }
    command = [sys.executable, "-m", "fhir_server", "search-parameters", "--data", str(settings.data)]
    ran = await asyncio.create_subprocess_exec(
        *command, env=os.environ | secrets, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    told, _ = await ran.communicate()
    assert ran.returncode == 0
    assert {b"20001", b"badge", b"Patient", b"token", b"active", b"3/3"} <= set(told.split())
