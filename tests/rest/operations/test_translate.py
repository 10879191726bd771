"""ConceptMap/$translate: https://hl7.org/fhir/R4/conceptmap-operation-translate.html"""

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import orjson
import pytest

from tests.rest.operations.terms import answered, official, posted, told
from tests.support import FHIR_JSON, Caller, Resource, Server, codes, issues, keep
from tests.terminology.exposures import EXPOSURES, ICD
from tests.terminology.test_translation import DEPENDS, MAP, OTHER, SIMPLE, mapping, target

Make = Callable[..., Awaitable[Caller]]
TRANSLATE = "ConceptMap/$translate"
KEPT = SIMPLE | {"id": "simple"}
NOISE = {"system": EXPOSURES, "code": "noise"}
ADDRESS_USE, V3 = "http://hl7.org/fhir/address-use", "http://terminology.hl7.org/CodeSystem/v3-AddressUse"


@pytest.fixture
async def kept(fhir_client: httpx.AsyncClient) -> httpx.AsyncClient:
    """A map from exposures to a classification."""
    await keep(fhir_client, KEPT)
    return fhir_client


def matches(found: Resource) -> list[tuple[str, str | None]]:
    """Equivalence and code of each."""
    all_parts = [{part["name"]: part for part in one["part"]} for one in found["parameter"] if one["name"] == "match"]
    return [
        (parts["equivalence"]["valueCode"], parts.get("concept", {}).get("valueCoding", {}).get("code"))
        for parts in all_parts
    ]


BOTH = [("equivalent", "W42"), ("wider", "Z57.0")]


@pytest.mark.parametrize(
    ("path", "named", "expected"),
    [
        (TRANSLATE, {"url": MAP, **NOISE}, BOTH),
        (TRANSLATE, {"url": MAP, "conceptMapVersion": "1", **NOISE}, BOTH),
        (TRANSLATE, {"url": f"{MAP}|1", **NOISE, "version": "2"}, BOTH),
        (TRANSLATE, {"conceptMap": SIMPLE, **NOISE}, BOTH),
        (TRANSLATE, {"url": MAP, "coding": NOISE}, BOTH),
        (TRANSLATE, {"url": MAP, "codeableConcept": {"coding": [{"code": "x"}, NOISE]}}, BOTH),
        (TRANSLATE, {"url": MAP, **NOISE, "targetsystem": ICD}, BOTH),
        (TRANSLATE, {"url": MAP, **NOISE, "targetsystem": EXPOSURES}, []),
        (TRANSLATE, {"url": MAP, **NOISE, "source": "http://test/vs/a", "target": "http://test/vs/b"}, BOTH),
        (TRANSLATE, {"url": MAP, **NOISE, "target": "http://test/vs/c"}, []),
        (TRANSLATE, {"url": MAP, "system": ICD, "code": "Z57.0", "reverse": True}, [("narrower", "noise")]),
        (TRANSLATE, {"url": MAP, **NOISE, "reverse": True}, []),
        (TRANSLATE, {"url": MAP, "system": EXPOSURES, "code": "cold"}, [("unmatched", None)]),
        (TRANSLATE, {"url": MAP, "system": EXPOSURES, "code": "lead"}, [("disjoint", "T56.0")]),
        (TRANSLATE, {"url": MAP, "system": EXPOSURES, "code": "unknown"}, []),
        (TRANSLATE, NOISE, BOTH),
        (TRANSLATE, {**NOISE, "target": "http://test/vs/b|2"}, BOTH),
        (TRANSLATE, {**NOISE, "targetsystem": "http://test/elsewhere"}, []),
        (TRANSLATE, {"system": ICD, "code": "W42", "reverse": True}, [("equivalent", "noise")]),
        (TRANSLATE, {"system": "http://test/nothing", "code": "x"}, []),
        ("ConceptMap/simple/$translate", NOISE, BOTH),
        ("ConceptMap/simple/$translate", {"coding": NOISE}, BOTH),
    ],
)
async def test_a_code_is_translated(
    kept: httpx.AsyncClient, path: str, named: dict[str, Any], expected: list[tuple[str, str | None]]
) -> None:
    """By a map that is named, sent along or an instance, or by all that fit; `result` says whether there is a match."""
    found = await answered(kept, path, named)
    assert matches(found) == expected
    assert told(found)["result"] is any(equivalence not in ("unmatched", "disjoint") for equivalence, _ in expected)


async def test_a_match_says_everything_that_the_map_says(kept: httpx.AsyncClient) -> None:
    """Equivalence, concept with version and display, and the map."""
    found = await answered(kept, TRANSLATE, {"url": MAP, **NOISE})
    assert found["parameter"][1]["part"] == [
        {"name": "equivalence", "valueCode": "equivalent"},
        {
            "name": "concept",
            "valueCoding": {"system": ICD, "version": "10", "code": "W42", "display": "Exposition au bruit"},
        },
        {"name": "source", "valueUri": f"{MAP}|1"},
    ]


async def test_the_newest_maps_in_force_are_used_where_none_is_named(kept: httpx.AsyncClient) -> None:
    """One version of each, and no retired one."""
    newer = mapping(MAP, {"noise": [target("W42.9")]}, id="newer") | {"version": "2"}
    retired = mapping(OTHER, {"noise": [target("old")]}, id="retired") | {"status": "retired"}
    await keep(kept, newer, retired)
    assert matches(await answered(kept, TRANSLATE, NOISE)) == [("equivalent", "W42.9")]
    assert matches(await answered(kept, TRANSLATE, {"url": MAP, **NOISE})) == [("equivalent", "W42.9")]
    assert matches(await answered(kept, TRANSLATE, {"url": OTHER, **NOISE})) == [("equivalent", "old")]


async def test_the_example_of_hl7_translates(fhir_client: httpx.AsyncClient) -> None:
    """Its pairs, either way, and its rule for all other codes."""
    example = official("conceptmap-example")
    await keep(fhir_client, example)
    named = {"source": example["sourceUri"], "target": example["targetUri"], "system": ADDRESS_USE}
    found = await answered(fhir_client, TRANSLATE, {**named, "code": "home"})
    assert (told(found)["result"], matches(found)) == (True, [("equivalent", "H")])
    found = await answered(fhir_client, TRANSLATE, {**named, "code": "old"})
    assert (told(found)["result"], matches(found)) == (False, [("disjoint", "BAD")])
    found = await answered(fhir_client, TRANSLATE, {**named, "code": "billing"})
    assert matches(found) == [("relatedto", "temp")]
    assert "No map lists the code" in told(found)["message"]
    reverse = {"system": V3, "code": "TMP", "reverse": True, "url": example["url"]}
    assert matches(await answered(fhir_client, TRANSLATE, reverse)) == [("equivalent", "temp")]


async def test_another_map_is_asked_for_other_codes(kept: httpx.AsyncClient) -> None:
    """`other-map`; 422 where it is not kept."""
    named = {"system": EXPOSURES, "code": "heat"}
    await keep(kept, KEPT | mapping(MAP, {"noise": [target("W42")]}, {"mode": "other-map", "url": OTHER}))
    answer = await posted(kept, TRANSLATE, {"url": MAP, **named})
    assert (answer.status_code, issues(answer)) == (422, [("not-found", "ConceptMap.group.unmapped.url")])
    await keep(kept, mapping(OTHER, {"heat": [target("W92")]}, {"mode": "other-map", "url": MAP}, id="other"))
    assert matches(await answered(kept, TRANSLATE, {"url": MAP, **named})) == [("equivalent", "W92")]
    answer = await posted(kept, TRANSLATE, {"url": MAP, "system": EXPOSURES, "code": "cold"})
    assert (answer.status_code, codes(answer)) == (422, ["not-supported"])


async def test_a_counterpart_may_depend_on_more(kept: httpx.AsyncClient) -> None:
    """`dependency`."""
    await keep(kept, DEPENDS | {"id": "simple"})
    found = await answered(kept, TRANSLATE, {"url": MAP, **NOISE})
    assert matches(found) == [("wider", "H91")]
    assert "http://test/ear" in told(found)["message"]
    concept = {"coding": [{"system": "http://test/side", "code": "both"}]}
    dependency = {"name": "dependency", "part": [
        {"name": "element", "valueUri": "http://test/ear"}, {"name": "concept", "valueCodeableConcept": concept},
    ]}  # fmt: skip
    asked = [{"name": "url", "valueUri": MAP}, {"name": "coding", "valueCoding": NOISE}, dependency]
    body = orjson.dumps({"resourceType": "Parameters", "parameter": asked})
    answer = await kept.post(f"/fhir/{TRANSLATE}", content=body, headers=FHIR_JSON)
    assert matches(answer.json()) == [("equivalent", "H83.3"), ("wider", "H91")]
    del dependency["part"][1]
    body = orjson.dumps({"resourceType": "Parameters", "parameter": asked})
    answer = await kept.post(f"/fhir/{TRANSLATE}", content=body, headers=FHIR_JSON)
    assert (answer.status_code, issues(answer)) == (400, [("invalid", "dependency")])


ON = "ConceptMap/simple/$translate"


@pytest.mark.parametrize(
    ("path", "named", "status", "issue"),
    [
        (TRANSLATE, {}, 400, ("required", "code")),
        (TRANSLATE, {"url": MAP, "code": "noise"}, 400, ("required", "system")),
        (TRANSLATE, {"url": MAP, "coding": {"code": "noise"}}, 400, ("required", "coding")),
        (TRANSLATE, {"url": MAP, "codeableConcept": {"coding": [{"code": "noise"}]}}, 400,
         ("required", "codeableConcept")),
        (TRANSLATE, {"url": MAP, **NOISE, "coding": NOISE}, 400, ("invalid", "coding")),
        (TRANSLATE, {"url": MAP, "coding": NOISE, "version": "1"}, 400, ("invalid", "version")),
        (TRANSLATE, {"url": MAP, "conceptMap": SIMPLE, **NOISE}, 400, ("invalid", "conceptMap")),
        (TRANSLATE, {"conceptMapVersion": "1", **NOISE}, 400, ("invalid", "conceptMapVersion")),
        (TRANSLATE, {"url": MAP, **NOISE, "reverse": "no"}, 400, ("invalid", "reverse")),
        (TRANSLATE, {"url": MAP, **NOISE, "targetSystem": ICD}, 400, ("invalid", None)),
        (TRANSLATE, {"url": MAP, **NOISE, "dependency": "x"}, 400, ("invalid", "dependency")),
        (TRANSLATE, {"url": "http://test/unknown", **NOISE}, 404, ("not-found", "url")),
        (TRANSLATE, {"url": MAP, "conceptMapVersion": "9", **NOISE}, 404, ("not-found", "url")),
        (ON, {"url": MAP, **NOISE}, 400, ("invalid", "url")),
        ("ConceptMap/never/$translate", NOISE, 404, ("not-found", None)),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_told(
    kept: httpx.AsyncClient, path: str, named: dict[str, Any], status: int, issue: tuple[str, str | None]
) -> None:
    """With its place."""
    answer = await posted(kept, path, named)
    assert (answer.status_code, issues(answer)) == (status, [issue])


async def test_who_may_not_read_concept_maps_learns_nothing(
    kept: httpx.AsyncClient, server: Server, client_with: Make
) -> None:
    """403, of what is there and what is not; who may is traced."""
    few = (await client_with("system/Patient.r", "system/ConceptMap.s")).http
    answers = [
        await posted(few, TRANSLATE, {"url": MAP, **NOISE}),
        await posted(few, TRANSLATE, {"url": "http://test/unknown", **NOISE}),
        await posted(few, TRANSLATE, NOISE),
        await posted(few, ON, NOISE),
    ]
    assert {(answer.status_code, answer.text) for answer in answers} == {(403, answers[0].text)}
    enough = await client_with("system/ConceptMap.r")
    for path, named in ((TRANSLATE, NOISE), (TRANSLATE, {"url": MAP, **NOISE}), (ON, NOISE)):
        assert (await posted(enough.http, path, named)).status_code == 200
    rows = await server.rows("select interaction, query from access where client_id = %s order by at", enough.client_id)
    assert rows == [("operation", "$translate"), ("operation", "$translate"), ("read", None)]
