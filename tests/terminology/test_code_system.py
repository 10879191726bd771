"""CodeSystems: https://hl7.org/fhir/R4/codesystem.html"""

import pytest

from terminology.code_system import CodeSystem, parse
from terminology.problems import Incomputable
from tests.terminology.exposures import EXPOSURES_SYSTEM, Resource, concept

SYSTEM = parse(EXPOSURES_SYSTEM)


def system(*concepts: Resource, **more: object) -> CodeSystem:
    base = {"resourceType": "CodeSystem", "url": "http://test/s", "status": "active", "content": "complete"}
    return parse({**base, "concept": list(concepts), **more})


def test_concepts_come_in_their_order_with_what_is_said_of_them() -> None:
    """Names, properties, whether they are in use and may be used."""
    assert list(SYSTEM.concepts)[:4] == ["physical", "noise", "impulse-noise", "vibration"]
    noise, group, benzol = SYSTEM.concepts["noise"], SYSTEM.concepts["physical"], SYSTEM.concepts["benzol"]
    assert (noise.display, noise.inactive, noise.abstract) == ("Noise", False, False)
    assert (group.abstract, benzol.inactive) == (True, True)


@pytest.mark.parametrize(
    ("properties", "declared", "inactive", "abstract"),
    [
        ({"inactive": True}, [], True, False),
        ({"inactive": False, "status": "retired"}, [], False, False),
        ({"status": "retired"}, [], True, False),
        ({"status": "deprecated"}, [], False, False),
        ({"abstract": True}, [], False, True),
        ({"notSelectable": False}, [], False, False),
        ({"x": True}, [{"code": "x", "uri": "http://hl7.org/fhir/concept-properties#notSelectable"}], False, True),
    ],
)
def test_standard_properties_are_known_by_name_and_by_uri(
    properties: dict[str, object], declared: list[Resource], inactive: bool, abstract: bool
) -> None:
    """R4 section 4.8.13; `abstract` is what many systems of HL7 say for `notSelectable`."""
    found = system(concept("a", "A", **properties), property=declared).concepts["a"]
    assert (found.inactive, found.abstract) == (inactive, abstract)


def test_of_two_concepts_with_one_code_the_first_counts() -> None:
    """An official example has such a pair."""
    assert system(concept("a", "One"), concept("a", "Two")).concepts["a"].display == "One"


def test_hierarchy_is_told_by_nesting_and_by_properties() -> None:
    """`parent` of the child, `child` of the parent, and `subsumedBy`."""
    found = system(
        concept("a", "A", None, concept("b", "B")),
        concept("c", "C", parent="a"),
        concept("d", "D", child="e"),
        concept("e", "E", subsumedBy="b"),
    )
    assert found.below("a") == {"b", "c", "e"}
    assert found.above("e") == {"a", "b", "d"}
    assert found.below("nothing") == set()


def test_a_circle_ends_where_it_began() -> None:
    """Such a hierarchy is wrong, and does not hang the server."""
    found = system(concept("a", "A", parent="b"), concept("b", "B", parent="a"))
    assert (found.below("a"), found.above("a")) == ({"b"}, {"b"})


def test_a_deep_tree_is_read() -> None:
    """Without recursion."""
    deep = concept("c0", "0")
    for number in range(1, 5000):
        deep = concept(f"c{number}", str(number), None, deep)
    assert len(system(deep).below("c4999")) == 4999


@pytest.mark.parametrize(
    ("one", "other", "outcome"),
    [
        ("noise", "noise", "equivalent"),
        ("physical", "impulse-noise", "subsumes"),
        ("impulse-noise", "physical", "subsumed-by"),
        ("noise", "vibration", "not-subsumed"),
    ],
)
def test_two_codes_are_compared(one: str, other: str, outcome: str) -> None:
    """The four outcomes of R4."""
    assert SYSTEM.compare(one, other) == outcome


@pytest.mark.parametrize(
    "changes", [{"hierarchyMeaning": "part-of"}, {"hierarchyMeaning": "grouped-by"}, {"content": "fragment"}]
)
def test_what_the_hierarchy_does_not_tell_is_not_claimed(changes: Resource) -> None:
    """A part is no kind of the whole; between two codes of a fragment there may be others."""
    found = parse(EXPOSURES_SYSTEM | changes)
    assert found.compare("noise", "noise") == "equivalent"
    with pytest.raises(Incomputable):
        found.compare("noise", "vibration")


def test_case_matters_unless_the_system_says_otherwise() -> None:
    """`caseSensitive`; a code that is written in two cases is found as it stands first."""
    assert SYSTEM.find("NOISE") is None
    found = system(concept("A1", "Upper"), concept("a1", "Lower"), concept("B", "B"), caseSensitive=False)
    assert [found.find(code).display for code in ("A1", "a1", "b")] == ["Upper", "Lower", "B"]  # pyright: ignore[reportOptionalMemberAccess]


@pytest.mark.parametrize("content", ["not-present", "example"])
def test_a_system_whose_codes_are_not_kept_has_none(content: str) -> None:
    """An example is no use, R4 says."""
    found = parse(EXPOSURES_SYSTEM | {"content": content})
    assert not found.lists_codes
    assert found.find("noise") is None


def test_what_lacks_its_value_does_no_harm() -> None:
    """In FHIR an element may have extensions instead."""
    extension = {"extension": [{"url": "http://test", "valueCode": "unknown"}]}
    found = system(
        {"_code": extension, "concept": [concept("a", "A")]},
        {"code": "b", "designation": [{"_value": extension}], "property": [{"_code": extension}]},
    )
    assert list(found.concepts) == ["a", "b"]
    assert (found.concepts["b"].designations, found.concepts["b"].properties) == ([], [])
