"""What a value set selects: https://hl7.org/fhir/R4/valueset.html#compositions"""

from typing import Any

import pytest

from terminology.composition import composed
from terminology.library import Library, Versions, chosen
from terminology.problems import Incomputable, NotKept, TooMuch
from terminology.selection import Gap
from tests.terminology.exposures import (
    AT_WORK,
    EXPOSURES,
    EXPOSURES_SYSTEM,
    ICD,
    SUPPLEMENT,
    SUPPLEMENT_SYSTEM,
    Resource,
    codes,
    concept,
    library,
    only_codes,
    value_set,
    where,
)

ALL = ["physical", "noise", "impulse-noise", "vibration", "chemical", "asbestos", "lead", "benzol"]
OTHER = "http://test/ValueSet/other"


def selected(resource: Resource, at_hand: Library | None = None, versions: Versions | None = None) -> list[str]:
    """The codes, which are all that it selects."""
    found = composed(resource, at_hand or library(), versions or Versions())
    assert not found.gaps
    return only_codes(found.members)


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        (codes(), ALL),
        (codes("lead", "noise"), ["lead", "noise"]),
        (codes("lead", "unknown", "lead"), ["lead"]),
        (where("concept", "is-a", "noise"), ["noise", "impulse-noise"]),
        (where("code", "is-a", "noise"), ["noise", "impulse-noise"]),
        (where("concept", "descendent-of", "physical"), ["noise", "impulse-noise", "vibration"]),
        (where("concept", "is-not-a", "physical"), ["chemical", "asbestos", "lead", "benzol"]),
        (where("concept", "generalizes", "impulse-noise"), ["physical", "noise", "impulse-noise"]),
        (where("concept", "is-a", "unknown"), []),
        (where("concept", "in", "lead, noise,unknown"), ["noise", "lead"]),
        (where("concept", "not-in", "physical,chemical,noise,lead,benzol"), ["impulse-noise", "vibration", "asbestos"]),
        (where("concept", "=", "lead"), ["lead"]),
        (where("code", "regex", "[a-l].*"), ["impulse-noise", "chemical", "asbestos", "lead", "benzol"]),
        (where("display", "regex", ".*agent"), ["physical", "chemical"]),
        (where("display", "=", "Lead"), ["lead"]),
        (where("tableau", "=", "RG42"), ["noise", "impulse-noise"]),
        (where("tableau", "regex", "RG[0-9]"), ["lead"]),
        (where("tableau", "in", "RG1,RG30"), ["asbestos", "lead"]),
        (where("tableau", "exists", "false"), ["physical", "chemical", "benzol"]),
        (where("tableau", "exists", "true"), ["noise", "impulse-noise", "vibration", "asbestos", "lead"]),
        (where("tableau", "not-in", "RG42,RG69,RG1"), ["physical", "chemical", "asbestos", "benzol"]),
        (where("notSelectable", "=", "true"), ["physical", "chemical"]),
        (where("hors-usage", "=", "true"), ["benzol"]),
        (where("parent", "=", "noise"), ["impulse-noise"]),
        (where("child", "=", "noise"), ["physical"]),
        (where("child", "exists", "true"), ["physical", "noise", "chemical"]),
        (where("concept", "is-a", "physical", ("tableau", "=", "RG42"), ("code", "regex", "n.*")), ["noise"]),
    ],
)  # fmt: skip
def test_an_include_takes_codes(include: Resource, expected: list[str]) -> None:
    """All, those that are listed and exist, or those that meet all filters; in the order of the code system."""
    assert selected(value_set(AT_WORK, include)) == expected


@pytest.mark.parametrize(
    ("place", "include"),
    [
        ("property", where("colour", "=", "red")),
        ("op", where("tableau", "is-a", "RG42")),
        ("op", where("concept", "child-of", "noise")),
        (None, where("concept", "exists", "maybe")),
        (None, where("concept", "regex", "(")),
    ],
)
def test_a_filter_that_cannot_be_computed_is_not_passed_over(place: str | None, include: Resource) -> None:
    """An answer without it would be another value set."""
    with pytest.raises(Incomputable) as caught:
        composed(value_set(AT_WORK, codes("lead"), include), library())
    assert caught.value.place == (f"ValueSet.compose.include[1].filter[0].{place}" if place else None)


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        (value_set(AT_WORK, codes("noise"), codes("lead"), codes("noise")), ["noise", "lead"]),
        (value_set(AT_WORK, codes(), exclude=[where("concept", "is-a", "physical"), codes("lead")]),
         ["chemical", "asbestos", "benzol"]),
        (value_set(AT_WORK, codes("noise"), exclude=[codes()]), []),
        (value_set(AT_WORK, codes(), inactive=False), ALL[:-1]),
        (value_set(AT_WORK, codes(), inactive=True), ALL),
        (value_set(AT_WORK), []),
    ],
)  # fmt: skip
def test_includes_are_added_and_excludes_taken_away(resource: Resource, expected: list[str]) -> None:
    """And what is inactive, where the definition says so."""
    assert selected(resource) == expected


NOISES = value_set("http://test/ValueSet/noises", where("concept", "is-a", "noise"), version="1")
NOISES_2 = value_set("http://test/ValueSet/noises", codes("noise", "vibration"), version="2")
METALS = value_set("http://test/ValueSet/metals", codes("lead", "noise"))


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        ({"valueSet": ["http://test/ValueSet/noises"]}, ["noise", "vibration"]),
        ({"valueSet": ["http://test/ValueSet/noises|1"]}, ["noise", "impulse-noise"]),
        ({"valueSet": ["http://test/ValueSet/noises|1", "http://test/ValueSet/metals"]}, ["noise"]),
        ({"system": EXPOSURES, "valueSet": ["http://test/ValueSet/metals"]}, ["noise", "lead"]),
        (where("tableau", "=", "RG42") | {"valueSet": ["http://test/ValueSet/metals"]}, ["noise"]),
        ({"valueSet": ["#inner"]}, ["asbestos"]),
    ],
)
def test_value_sets_are_imported(include: Resource, expected: list[str]) -> None:
    """By URL, by version, contained; several in one include, and a system beside them, have to select a code all."""
    inner = value_set("", codes("asbestos")) | {"id": "inner"}
    at_hand = library(NOISES, NOISES_2, METALS)
    assert selected(value_set(AT_WORK, include, contained=[inner]), at_hand) == expected
    without = value_set(AT_WORK, codes(), exclude=[include], contained=[inner])
    assert selected(without, at_hand) == [one for one in ALL if one not in expected]


@pytest.mark.parametrize("url", ["http://test/nothing", "http://test/ValueSet/noises|3", "#nothing"])
def test_a_value_set_that_is_not_at_hand_is_told(url: str) -> None:
    """With the place that refers to it."""
    with pytest.raises(NotKept) as caught:
        composed(value_set(AT_WORK, {"valueSet": [url]}), library(NOISES))
    assert caught.value.place == "ValueSet.compose.include[0].valueSet"


def test_a_circle_of_value_sets_is_told() -> None:
    """Not walked for ever."""
    one = value_set(AT_WORK, {"valueSet": [OTHER]})
    with pytest.raises(Incomputable):
        composed(one, library(one, value_set(OTHER, {"valueSet": [AT_WORK]})))


def test_a_definition_that_says_nothing_is_told() -> None:
    """Neither composition nor expansion: what it selects is not known, which is not the same as nothing."""
    with pytest.raises(Incomputable):
        composed({"resourceType": "ValueSet", "url": AT_WORK, "status": "active"}, library())


OLDER = EXPOSURES_SYSTEM | {
    "version": "1",
    "date": "2020",
    "concept": [concept("noise", "Noise"), concept("cold", "Cold")],
}
NEWER = EXPOSURES_SYSTEM | {"version": "10", "date": "2024-03", "concept": [concept("noise", "Noise")]}
DRAFT = EXPOSURES_SYSTEM | {"version": "11", "status": "draft", "concept": [concept("draft", "Draft")]}


@pytest.mark.parametrize(
    ("resource", "versions", "expected"),
    [
        (value_set(AT_WORK, codes()), Versions(), ["noise"]),
        (value_set(AT_WORK, codes(version="1")), Versions(), ["noise", "cold"]),
        (value_set(AT_WORK, codes(version="11")), Versions(), ["draft"]),
        (value_set(AT_WORK, codes(version="1")), Versions(forced={EXPOSURES: "10"}), ["noise"]),
        (value_set(AT_WORK, codes()), Versions(preferred={EXPOSURES: "1"}), ["noise", "cold"]),
        (value_set(AT_WORK, codes(version="10")), Versions(preferred={EXPOSURES: "1"}), ["noise"]),
        (value_set(AT_WORK, codes()), Versions(checked={EXPOSURES: "1"}), ["noise", "cold"]),
        (value_set(AT_WORK, codes("cold", "noise")), Versions(), ["noise"]),
        (value_set(AT_WORK, codes(), lockedDate="2021-05-01"), Versions(), ["noise", "cold"]),
        (value_set(AT_WORK, codes(), lockedDate="2024-03-09"), Versions(), ["noise"]),
    ],
)
def test_the_version_that_is_meant_is_taken(resource: Resource, versions: Versions, expected: list[str]) -> None:
    """The stated one; else what the client prefers; else the newest in force, at the locked date where there is one."""
    at_hand = Library(library(OLDER, NEWER, DRAFT).code_systems | {})
    systems = [one for one in at_hand.code_systems[EXPOSURES] if one.version != "2"]
    assert selected(resource, Library({EXPOSURES: systems}), versions) == expected


def test_every_version_is_taken_where_that_is_asked() -> None:
    """`*`: https://hl7.org/fhir/R4/valueset-definitions.html#ValueSet.compose.include.version"""
    found = selected(value_set(AT_WORK, codes(version="*")), library(OLDER))
    assert found == [*ALL, "cold"]


def test_a_version_that_was_to_be_checked_and_differs_is_told() -> None:
    """`check-system-version`."""
    checked = Versions(checked={EXPOSURES: "1"})
    with pytest.raises(Incomputable):
        composed(value_set(AT_WORK, codes(version="2")), library(), checked)


@pytest.mark.parametrize(
    ("changes", "include", "codes_there", "gap"),
    [
        ({"content": "fragment"}, codes(), ALL, Gap(True, "fragment")),
        ({"content": "fragment"}, where("tableau", "=", "RG1"), ["lead"], Gap(False, "fragment")),
        ({"content": "fragment"}, codes("noise", "other"), ["noise", "other"], None),
        ({"content": "not-present"}, codes(), [], Gap(True, "not-present")),
        ({"content": "not-present"}, where("concept", "is-a", "noise"), [], Gap(False, "not-present")),
        ({"content": "not-present"}, codes("noise"), ["noise"], None),
        ({"version": "3"}, codes(version="2"), [], Gap(True, "absent")),
        ({"url": "http://test/another"}, codes(), [], Gap(True, "absent")),
        ({"url": "http://test/another"}, where("x", "=", "y"), [], Gap(False, "absent")),
        ({"url": "http://test/another"}, codes("noise", "any"), ["noise", "any"], None),
    ],
)  # fmt: skip
def test_what_cannot_be_listed_is_a_gap(
    changes: Resource, include: Resource, codes_there: list[str], gap: Gap | None
) -> None:
    """Codes that are listed are taken at their word where the whole code system is not at hand to check them."""
    other = EXPOSURES_SYSTEM | changes
    found = composed(
        value_set(AT_WORK, include), Library({other["url"]: library(other).code_systems[other["url"]][-1:]})
    )
    assert only_codes(found.members) == codes_there
    assert found.gaps == ({EXPOSURES: gap} if gap else {})


WHOLE_ICD = codes(system=ICD)
SOME_ICD = {"system": ICD, "filter": [{"property": "concept", "op": "is-a", "value": "J"}]}


@pytest.mark.parametrize(
    ("resource", "verdicts"),
    [
        (value_set(AT_WORK, WHOLE_ICD), [True, True]),
        (value_set(AT_WORK, SOME_ICD), [None, None]),
        (value_set(AT_WORK, SOME_ICD, codes("A", system=ICD)), [True, None]),
        (value_set(AT_WORK, WHOLE_ICD, exclude=[codes("A", system=ICD)]), [False, True]),
        (value_set(AT_WORK, WHOLE_ICD, exclude=[SOME_ICD]), [None, None]),
        (value_set(AT_WORK, codes("A", "B", system=ICD), exclude=[SOME_ICD]), [None, None]),
        (value_set(AT_WORK, codes("A", "B", system=ICD), exclude=[WHOLE_ICD]), [False, False]),
        (value_set(AT_WORK, WHOLE_ICD | {"valueSet": [OTHER]}), [True, False]),
        (value_set(AT_WORK, SOME_ICD | {"valueSet": [OTHER]}), [None, None]),
        (value_set(AT_WORK, {"valueSet": [OTHER]}, WHOLE_ICD, exclude=[{"valueSet": [OTHER]}]), [False, True]),
    ],
)
def test_gaps_are_reckoned_with(resource: Resource, verdicts: list[bool | None]) -> None:
    """In, out, or nobody here knows: of a code system that is not at hand."""
    found = composed(resource, library(value_set(OTHER, codes("A", system=ICD))))
    assert [found.verdict((ICD, code)) for code in "AB"] == verdicts


@pytest.mark.parametrize(
    ("resource", "tokens"),
    [
        (value_set(AT_WORK, codes("lead")), {(EXPOSURES, "lead")}),
        (value_set(AT_WORK, WHOLE_ICD, codes("lead")), {(ICD, None), (EXPOSURES, "lead")}),
        (value_set(AT_WORK, SOME_ICD), NotKept),
        (value_set(AT_WORK, WHOLE_ICD, exclude=[codes("A", system=ICD)]), NotKept),
    ],
)
def test_a_search_asks_by_tokens(resource: Resource, tokens: Any) -> None:
    """A code system as a whole is one; what cannot be said so is told."""
    found = composed(resource, library())
    if isinstance(tokens, set):
        assert found.tokens() == tokens
    else:
        with pytest.raises(tokens):
            found.tokens()


EXPANDED = {
    "timestamp": "2026-01-01",
    "contains": [
        {"display": "Group", "contains": [{"system": ICD, "code": "J45", "display": "Asthme"}]},
        {"system": EXPOSURES, "code": "benzol"},
        {"system": ICD, "code": "J", "abstract": True},
    ],
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"compose": None}, ["J45", "benzol", "J"]),
        ({}, ["J45", "benzol", "J"]),
        ({"compose": {"include": [where("colour", "=", "red")]}}, ["J45", "benzol", "J"]),
        ({"compose": {"include": [codes("lead")]}}, ["lead"]),
    ],
)
def test_an_expansion_that_comes_along_serves_where_the_definition_does_not(
    changes: Resource, expected: list[str]
) -> None:
    """Not at hand, not computable, or not there; the definition is preferred, since an expansion grows old."""
    resource = value_set(AT_WORK, SOME_ICD) | {"expansion": EXPANDED} | changes
    found = composed({name: one for name, one in resource.items() if one}, library())
    assert only_codes(found.members) == expected
    assert found.members[next(iter(found.members))].system in (ICD, EXPOSURES)
    if "benzol" in expected:
        assert found.members[EXPOSURES, "benzol"].inactive
        assert found.members[ICD, "J"].abstract


@pytest.mark.parametrize(
    "changes",
    [
        {"total": 4},
        {"offset": 2},
        {"extension": [{"url": "http://hl7.org/fhir/StructureDefinition/valueset-unclosed", "valueBoolean": True}]},
    ],
)
def test_a_part_of_an_expansion_is_not_taken_for_the_whole(changes: Resource) -> None:
    """A page of it, or one that says that it is not finished."""
    resource = {"resourceType": "ValueSet", "url": AT_WORK, "status": "active", "expansion": EXPANDED | changes}
    with pytest.raises(Incomputable):
        composed(resource, library())


def test_one_code_is_asked_for_without_the_others() -> None:
    """As far as it is concerned the selection is the same."""
    resource = value_set(AT_WORK, codes(), exclude=[where("tableau", "=", "RG42")])
    whole = composed(resource, library())
    for code in [*ALL, "unknown"]:
        one = composed(resource, library(), only=code)
        assert set(one.members) == {(EXPOSURES, code)} & set(whole.members)


def test_a_supplement_that_a_value_set_asks_for_has_to_be_there() -> None:
    """https://hl7.org/fhir/R4/extension-valueset-supplement.html"""
    extension = {"url": "http://hl7.org/fhir/StructureDefinition/valueset-supplement", "valueCanonical": SUPPLEMENT}
    resource = value_set(AT_WORK, codes("lead"), extension=[extension])
    assert selected(resource, library(SUPPLEMENT_SYSTEM)) == ["lead"]
    with pytest.raises(NotKept):
        composed(resource, library())


def test_a_supplement_is_not_taken_for_a_code_system() -> None:
    """Whoever names it as one gets nothing from it."""
    found = composed(value_set(AT_WORK, codes(system=SUPPLEMENT)), library(SUPPLEMENT_SYSTEM))
    assert found.gaps == {SUPPLEMENT: Gap(True, "absent")}


def test_a_value_set_that_selects_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its codes fill the memory."""
    monkeypatch.setattr("terminology.selection.MOST", 3)
    with pytest.raises(TooMuch):
        composed(value_set(AT_WORK, codes("lead"), codes()), library())


def test_a_value_set_that_is_too_much_work_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """By many parts, or many filters, of a large code system."""
    monkeypatch.setattr("terminology.composition.MOST_WORK", 30)
    assert selected(value_set(AT_WORK, codes(), exclude=[codes("lead")]))
    for resource in (
        value_set(AT_WORK, *[codes()] * 5),
        value_set(AT_WORK, *[where("concept", "=", "lead")] * 5),
        value_set(AT_WORK, codes("lead"), exclude=[codes()] * 5),
        value_set(AT_WORK, {"system": EXPOSURES, "valueSet": ["#all"] * 5, "concept": [{"code": "lead"}]})
        | {"contained": [value_set("urn:test:all", codes()) | {"id": "all"}]},
    ):
        with pytest.raises(TooMuch):
            composed(resource, library())


@pytest.mark.parametrize(
    ("versions", "newest"),
    [
        (["9", "10"], "10"),
        (["1.9.0", "1.10.0"], "1.10.0"),
        (["2024-01", "2023-12-31"], "2024-01"),
        (["a", "b"], "b"),
        ([None, "1"], "1"),
    ],
)
def test_the_newest_version_is_told_by_its_numbers(versions: list[str | None], newest: str) -> None:
    """Not by its letters."""
    resources = [{"version": one, "status": "active"} for one in versions]
    assert (chosen(resources) or {})["version"] == newest
    assert (chosen([*resources, {"version": "999", "status": "retired"}]) or {})["version"] == newest
