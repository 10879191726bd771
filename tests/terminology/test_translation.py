"""$translate, as far as it is a matter of meaning.

https://hl7.org/fhir/R4/conceptmap.html, https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from typing import Any

import pytest

from fhir_server.r4 import structure
from terminology.problems import Incomputable, NotKept, TooMuch
from terminology.translation import Asked, Translation, other_maps, translate
from tests.terminology.exposures import EXPOSURES, ICD, Resource

MAP = "http://test/ConceptMap/expositions-cim"
OTHER = "http://test/ConceptMap/other"


def target(code: str | None, equivalence: str = "equivalent", **more: Any) -> Resource:
    return {**({"code": code} if code else {}), "equivalence": equivalence, **more}


def mapping(url: str, elements: dict[str, list[Resource]], unmapped: Resource | None = None, **more: Any) -> Resource:
    """A map from exposures to a classification."""
    group: Resource = {
        "source": EXPOSURES,
        "target": ICD,
        "targetVersion": "10",
        "element": [{"code": code} | ({"target": targets} if targets else {}) for code, targets in elements.items()],
    }
    if unmapped:
        group["unmapped"] = unmapped
    return {"resourceType": "ConceptMap", "url": url, "version": "1", "status": "active", "group": [group], **more}


LIMITS = {"sourceUri": "http://test/vs/a", "targetCanonical": "http://test/vs/b|2"}
SIMPLE = mapping(
    MAP,
    {
        "noise": [target("W42", display="Exposition au bruit"), target("Z57.0", "wider")],
        "cold": [target(None, "unmatched", comment="nothing fits")],
        "damp": [],
        "lead": [target("T56.0", "disjoint")],
    },
    **LIMITS,
)


def translated(*maps: Resource, others: dict[str, list[Resource]] | None = None, **asked: Any) -> Translation:
    """What is found, whose parameters are valid R4."""
    question = Asked(**{"system": EXPOSURES, "code": "noise", **asked})
    found = translate(maps or [SIMPLE], [question], others or {})
    assert structure.check({"resourceType": "Parameters", "parameter": found.parameters()}) == []
    return found


def pairs(found: Translation) -> list[tuple[str, str | None]]:
    return [(one.equivalence, one.coding.get("code")) for one in found.matches]


def test_a_code_has_its_counterparts() -> None:
    """Each with its equivalence and the map that says so."""
    found = translated()
    assert found.parameters() == [
        {"name": "result", "valueBoolean": True},
        {
            "name": "match",
            "part": [
                {"name": "equivalence", "valueCode": "equivalent"},
                {
                    "name": "concept",
                    "valueCoding": {"system": ICD, "version": "10", "code": "W42", "display": "Exposition au bruit"},
                },
                {"name": "source", "valueUri": f"{MAP}|1"},
            ],
        },
        {
            "name": "match",
            "part": [
                {"name": "equivalence", "valueCode": "wider"},
                {"name": "concept", "valueCoding": {"system": ICD, "version": "10", "code": "Z57.0"}},
                {"name": "source", "valueUri": f"{MAP}|1"},
            ],
        },
    ]


@pytest.mark.parametrize(
    ("code", "matches", "word"),
    [
        ("cold", [("unmatched", None)], "no counterpart"),
        ("damp", [], "no counterpart"),
        ("lead", [("disjoint", "T56.0")], "no counterpart"),
        ("unknown", [], "No map says anything"),
    ],
)
def test_a_code_without_counterpart_is_told(code: str, matches: list[tuple[str, str | None]], word: str) -> None:
    """`result` is false where nothing but unmatched and disjoint is found."""
    found = translated(code=code)
    assert (found.result, pairs(found)) == (False, matches)
    assert word in (found.message or "")


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ({"source": "http://test/vs/a"}, True),
        ({"source": "http://test/vs/a|5"}, True),
        ({"source": "http://test/vs/b"}, False),
        ({"target": "http://test/vs/b"}, True),
        ({"target": "http://test/vs/b|2"}, True),
        ({"target": "http://test/vs/b|3"}, False),
        ({"target": "http://test/vs/a"}, False),
        ({"target_system": ICD}, True),
        ({"target_system": EXPOSURES}, False),
        ({"version": "7"}, True),
        ({"system": ICD}, False),
    ],
)
def test_only_maps_that_fit_are_used(asked: dict[str, Any], fits: bool) -> None:
    """By the value sets that they are between, and the systems that their groups are between."""
    assert bool(translated(**asked).matches) is fits


@pytest.mark.parametrize(
    ("asked", "fits"),
    [({"source": "http://test/vs/a"}, True), ({"target": "http://test/vs/b"}, False)],
)
def test_a_map_that_names_no_value_sets(asked: dict[str, Any], fits: bool) -> None:
    """Is for codes of any value set, and promises none to lead to."""
    free = {name: value for name, value in SIMPLE.items() if name not in LIMITS}
    assert bool(translated(free, **asked).matches) is fits


def test_a_group_of_another_version_is_passed_over() -> None:
    """`sourceVersion`, where the client says which version his code is of."""
    group = SIMPLE["group"][0] | {"sourceVersion": "2"}
    assert translated(SIMPLE | {"group": [group]}, version="1").matches == []
    assert translated(SIMPLE | {"group": [group]}, version="2").result


@pytest.mark.parametrize(
    ("code", "matches"),
    [("W42", [("equivalent", "noise")]), ("Z57.0", [("narrower", "noise")]), ("T56.0", [("disjoint", "lead")])],
)
def test_in_reverse(code: str, matches: list[tuple[str, str]]) -> None:
    """From target to source; what is wider on the one side is narrower on the other."""
    found = translated(system=ICD, code=code, reverse=True, source="http://test/vs/b", target="http://test/vs/a")
    assert pairs(found) == matches
    assert {one.coding["system"] for one in found.matches} == {EXPOSURES}
    assert translated(system=ICD, code=code, reverse=True, target_system=EXPOSURES).matches
    assert not translated(system=ICD, code=code, reverse=True, source="http://test/vs/a").matches


def test_each_counterpart_comes_once() -> None:
    """Where a map says the same twice; two maps are two sources."""
    twice = SIMPLE | {"group": SIMPLE["group"] * 2}
    assert len(translated(twice).matches) == 2
    assert len(translated(SIMPLE, SIMPLE | {"url": OTHER}).matches) == 4


@pytest.mark.parametrize(
    ("unmapped", "coding"),
    [
        ({"mode": "provided"}, {"system": ICD, "version": "10", "code": "heat"}),
        ({"mode": "fixed", "code": "Z57", "display": "Autre"},
         {"system": ICD, "version": "10", "code": "Z57", "display": "Autre"}),
    ],
)  # fmt: skip
def test_codes_that_a_map_does_not_list_follow_its_rule(unmapped: Resource, coding: Resource) -> None:
    """As they are, or all as one; no more is claimed than that they are related."""
    one = mapping(MAP, {"noise": [target("W42")], "cold": [target(None, "unmatched")], "damp": []}, unmapped)
    found = translated(one, code="heat")
    assert [(match.equivalence, match.coding) for match in found.matches] == [("relatedto", coding)]
    assert found.result
    assert "No map lists the code" in (found.message or "")
    assert pairs(translated(one, code="noise")) == [("equivalent", "W42")]
    assert pairs(translated(one, code="cold")) == [("unmatched", None)]
    assert translated(one, code="damp").matches == []
    assert translated(one, code="heat", system=ICD, reverse=True).matches == []
    unsaid = mapping(MAP, {"noise": [target("W42")]}, {"mode": "fixed"})
    assert translated(unsaid, code="heat").matches == []


def test_another_map_may_be_asked_for_the_others() -> None:
    """`other-map`, and so on."""
    first = mapping(MAP, {"noise": [target("W42")]}, {"mode": "other-map", "url": f"{OTHER}|1"})
    second = mapping(OTHER, {"heat": [target("W92")]})
    assert other_maps(first) == {OTHER}
    found = translated(first, code="heat", others={OTHER: [second]})
    assert [(one.coding["code"], one.source) for one in found.matches] == [("W92", f"{OTHER}|1")]
    assert translated(first, code="noise").result, "it is not needed for a code that is listed"
    with pytest.raises(NotKept):
        translated(first, code="heat")
    circle = mapping(OTHER, {}, {"mode": "other-map", "url": MAP})
    with pytest.raises(Incomputable):
        translated(first, code="heat", others={OTHER: [circle], MAP: [first]})


def test_maps_refer_to_one_another_within_bounds() -> None:
    """A short chain of maps with several groups asks the last one a million times; a long one exhausts the stack."""

    def chain(length: int, groups: int) -> dict[str, list[Resource]]:
        maps = [mapping(f"{OTHER}{n}", {}, {"mode": "other-map", "url": f"{OTHER}{n + 1}"}) for n in range(length)]
        last = mapping(f"{OTHER}{length}", {"heat": [target("W92")]})
        return {one["url"]: [one | {"group": one["group"] * groups}] for one in (*maps, last)}

    def ends(length: int, groups: int) -> bool:
        others = chain(length, groups)
        return translated(*others[f"{OTHER}0"], code="heat", others=others).result

    assert ends(15, 1)
    with pytest.raises(Incomputable):
        ends(400, 1)
    with pytest.raises(TooMuch):
        ends(7, 20)
    with pytest.raises(TooMuch):
        translated(dependencies=[(f"urn:test:{n}", {"text": "x"}) for n in range(101)])


DEPENDS = mapping(
    MAP,
    {
        "noise": [
            target("H83.3", dependsOn=[{"property": "http://test/ear", "system": "http://test/side", "value": "both"}]),
            target("H91", "wider", product=[{"property": "http://test/cause", "system": ICD, "value": "W42"}]),
        ]
    },
)


@pytest.mark.parametrize(
    ("dependencies", "expected", "lacking"),
    [
        ([], ["H91"], True),
        ([("http://test/ear", {"coding": [{"system": "http://test/side", "code": "both"}]})], ["H83.3", "H91"], False),
        ([("http://test/ear", {"coding": [{"system": "http://test/other", "code": "both"}]})], ["H91"], False),
        ([("http://test/ear", {"text": "both"})], ["H83.3", "H91"], False),
        ([("http://test/other", {"text": "both"})], ["H91"], True),
    ],
)
def test_a_counterpart_may_depend_on_more(dependencies: Any, expected: list[str], lacking: bool) -> None:
    """`dependency`; what would have to be told is in the message."""
    found = translated(DEPENDS, dependencies=dependencies)
    assert [code for _, code in pairs(found)] == expected
    assert ("http://test/ear" in (found.message or "")) is lacking


def test_a_counterpart_may_need_more_to_say_the_same() -> None:
    """`product`."""
    (match,) = [one for one in translated(DEPENDS).parameters() if one["name"] == "match"]
    assert match["part"][2] == {
        "name": "product",
        "part": [
            {"name": "element", "valueUri": "http://test/cause"},
            {"name": "concept", "valueCoding": {"system": ICD, "code": "W42"}},
        ],
    }


def test_several_codes_are_translated_together() -> None:
    """The codings of a concept."""
    questions = [Asked(EXPOSURES, "noise"), Asked(EXPOSURES, "lead"), Asked(ICD, "noise")]
    assert [code for _, code in pairs(translate([SIMPLE], questions, {}))] == ["W42", "Z57.0", "T56.0"]
    with pytest.raises(TooMuch):
        translate([SIMPLE], questions * 40, {})
