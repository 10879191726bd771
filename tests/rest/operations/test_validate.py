"""$validate: https://hl7.org/fhir/R4/resource-operation-validate.html"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from fhir_server.r4.xml import to_xml
from tests.support import FHIR_JSON, Caller, Server, codes, issues, keep, observation, patient

Make = Callable[..., Awaitable[Caller]]
NARRATIVE = {"text": {"status": "generated", "div": '<div xmlns="http://www.w3.org/1999/xhtml">x</div>'}}
CONDITION = {
    "resourceType": "Condition",
    "subject": {"reference": "Patient/p"},
    "abatementDateTime": "2020",
    **NARRATIVE,
}


async def asked(client: httpx.AsyncClient, path: str, resource: Any = None, **headers: str) -> httpx.Response:
    if resource is None:
        return await client.get(f"/fhir/{path}")
    body = resource if isinstance(resource, bytes) else orjson.dumps(resource)
    return await client.post(f"/fhir/{path}", content=body, headers={**FHIR_JSON, **headers})


def told(answer: httpx.Response) -> list[tuple[str, str, str | None]]:
    """(severity, code, place) of each issue of an answer, which is 200 whatever they are."""
    assert answer.status_code == 200, answer.text
    return [(one["severity"], *about) for one, about in zip(answer.json()["issue"], issues(answer), strict=True)]


def parameters(resource: Any, **texts: str) -> dict[str, Any]:
    given = [{"name": name, "valueCode": value} for name, value in texts.items()]
    return {"resourceType": "Parameters", "parameter": [{"name": "resource", "resource": resource}, *given]}


async def test_nothing_wrong_is_said_as_such(fhir_client: httpx.AsyncClient) -> None:
    """Of the resource itself or in Parameters, as JSON or XML; nothing is kept."""
    worker = patient(**NARRATIVE)
    xml = {"content-type": "application/fhir+xml"}
    for answer in (
        await asked(fhir_client, "Patient/$validate", worker),
        await asked(fhir_client, "Patient/$validate", parameters(worker)),
        await asked(fhir_client, "Patient/$validate", to_xml(orjson.dumps(worker)), **xml),
        await asked(fhir_client, "Patient/$validate?profile=http://hl7.org/fhir/StructureDefinition/Patient", worker),
    ):
        assert told(answer) == [("information", "informational", None)]
        assert answer.json()["issue"][0]["diagnostics"] == "All OK"
    assert (await fhir_client.get("/fhir/Patient?_summary=count")).json()["total"] == 0


async def test_structure_and_rules_are_told_with_their_places(fhir_client: httpx.AsyncClient) -> None:
    """All at once: formats, required codes, R4's own rules, and its advice as warnings."""
    wrong = {**CONDITION, "text": None, "recordedDate": "yesterday", "stage": [{"type": {"text": "x"}}]}
    del wrong["text"]
    found = told(await asked(fhir_client, "Condition/$validate", parameters(wrong)))
    assert sorted(found, key=str) == [
        ("error", "invariant", "Condition"),  # con-4
        ("error", "invariant", "Condition.stage[0]"),  # con-1
        ("error", "value", "Condition.recordedDate"),
        ("warning", "invariant", "Condition"),  # dom-6
    ]


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"resourceType": "Patient", "nickname": "x"}, ("structure", "Patient.nickname")),
        ({"resourceType": "Patient", "name": {}}, ("structure", "Patient.name")),
        ({"resourceType": "Observation"}, ("invalid", "resourceType")),
        ({"resourceType": "Bot"}, ("invalid", "resourceType")),
        ({"resourceType": "Patient", "meta": "x"}, ("structure", "Patient.meta")),
    ],
)
async def test_what_is_no_patient_at_all_is_an_answer_too(
    fhir_client: httpx.AsyncClient, wrong: dict[str, Any], expected: tuple[str, str]
) -> None:
    """Rather than a failure: the question was answered."""
    for body in (wrong, parameters(wrong)):
        assert told(await asked(fhir_client, "Patient/$validate", body)) == [("error", *expected)]


async def test_what_is_nested_too_deep_is_told(fhir_client: httpx.AsyncClient) -> None:
    """In every mode, and nothing else is asked of it."""
    deep = b'{"resourceType":"Patient","x":' + b'{"x":' * 900 + b"1" + b"}" * 901
    for mode in ("", "?mode=create"):
        answer = await asked(fhir_client, f"Patient/$validate{mode}", deep)
        assert told(answer) == [("error", "structure", "Patient.x")]
    nested = b'{"resourceType":"Patient","contact":[' + b'{"extension":[' * 300 + b"{}" + b"]}" * 300 + b"]}"
    found = told(await asked(fhir_client, "Patient/$validate?mode=create", nested))
    assert "too-costly" in {code for _, code, _ in found}


async def test_a_profile_that_is_claimed_is_not_checked_and_that_is_said(fhir_client: httpx.AsyncClient) -> None:
    """A warning; a profile that is asked for is refused."""
    worker = patient(**NARRATIVE, meta={"profile": ["http://example.org/profile"]})
    answer = await asked(fhir_client, "Patient/$validate", worker)
    assert told(answer) == [("warning", "not-supported", "Patient.meta.profile")]
    refused = await asked(fhir_client, "Patient/$validate?profile=http://example.org/profile", worker)
    assert (refused.status_code, codes(refused)) == (400, ["not-supported"])


async def test_a_create_or_update_that_would_be_refused_is_told_so(
    fhir_client: httpx.AsyncClient, client_with: Make
) -> None:
    """For its references, its id, or the rights of the client."""
    dangling = observation("nobody", id="o", **NARRATIVE)
    for path, resource, expected in [
        ("Observation/$validate?mode=create", dangling, ("error", "not-found", "Observation.subject.reference")),
        ("Observation/$validate", parameters(dangling, mode="create"),
         ("error", "not-found", "Observation.subject.reference")),
        ("Observation/o/$validate?mode=update", dangling, ("error", "not-found", "Observation.subject.reference")),
        ("Observation/else/$validate?mode=update", dangling, ("error", "invalid", "Observation.id")),
        ("Observation/$validate", dangling, ("information", "informational", None)),
    ]:  # fmt: skip
        assert told(await asked(fhir_client, path, resource)) == [expected]
    reader = await client_with("system/Observation.r")
    answer = await asked(reader.http, "Observation/$validate?mode=create", dangling)
    assert told(answer) == [("error", "forbidden", None)]


async def test_a_delete_that_would_be_refused_is_told_so(fhir_client: httpx.AsyncClient, client_with: Make) -> None:
    """What others refer to stays; who may not delete does not learn whether it is there."""
    await keep(fhir_client, patient("p"), observation("p", id="o"))
    for path, expected in [
        ("Patient/p", ("error", "conflict", None)),
        ("Observation/o", ("information", "informational", None)),
        ("Observation/nobody", ("error", "not-found", None)),
    ]:
        assert told(await asked(fhir_client, f"{path}/$validate?mode=delete")) == [expected]
    reader = await client_with("system/*.r")
    found = [told(await asked(reader.http, f"Patient/{one}/$validate?mode=delete")) for one in ("p", "nobody")]
    assert found == [[("error", "forbidden", None)]] * 2


async def test_what_is_stored_can_be_validated(
    fhir_client: httpx.AsyncClient, client_with: Make, server: Server
) -> None:
    """By its id, as a read: with the right to read, and a trace."""
    await keep(fhir_client, patient("p"), {**CONDITION, "id": "c"})
    found = told(await asked(fhir_client, "Condition/c/$validate"))
    assert found == [("error", "invariant", "Condition")]
    creator = await client_with("system/Condition.c")
    assert (await asked(creator.http, "Condition/c/$validate")).status_code == 403
    rows = await server.rows(
        "select patient_id, outcome from access where interaction in ('read', 'operation') order by id"
    )
    assert [row[1] for row in rows] == [0, 4]
    assert rows[0][0] == "p"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("Patient/$validate", None),
        ("Patient/$validate?mode=update", patient("p")),
        ("Patient/$validate?mode=delete", None),
        ("Patient/p/$validate?mode=create", patient("p")),
        ("Patient/$validate?mode=profile", patient()),
        ("Patient/$validate?verbose=true", patient()),
        ("Patient/$validate", {"resourceType": "Parameters", "parameter": [{"name": "resource"}]}),
    ],
)
async def test_a_question_that_cannot_be_answered_is_refused(
    fhir_client: httpx.AsyncClient, path: str, body: Any
) -> None:
    """No resource, a mode that does not go with the place, an unknown parameter."""
    answer = await asked(fhir_client, path, body)
    assert (answer.status_code, codes(answer)) == (400, ["invalid"])


async def test_who_has_no_right_on_a_type_is_not_answered(client_with: Make) -> None:
    """Default deny, also where nothing is read."""
    stranger = await client_with("system/Patient.rs")
    answer = await asked(stranger.http, "Observation/$validate", observation("p"))
    assert (answer.status_code, codes(answer)) == (403, ["forbidden"])
