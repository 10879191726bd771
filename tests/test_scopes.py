"""Scopes of SMART v2: one form for what means one thing, and nothing is ever widened.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.caller import Caller, check_scopes
from fhir_server.outcomes import Forbidden
from fhir_server.scopes import LETTERS, Permission, common, constraints_of, covers, is_scope, parse

CATEGORY = "http://terminology.hl7.org/CodeSystem/observation-category"
LABORATORY = f"system/Observation.rs?category={CATEGORY}|laboratory"
VITAL = f"system/Observation.rs?category={CATEGORY}|vital-signs"


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("system/Patient.rs", "system/Patient.rs"),
        ("user/*.cruds", "user/*.cruds"),
        (LABORATORY, LABORATORY),
        (LABORATORY.replace(":", "%3A").replace("/Code", "%2FCode").replace("|", "%7C"), LABORATORY),
        ("system/Observation.s?status=final&category=a", "system/Observation.s?category=a&status=final"),
        ("system/Observation.s?status=final&status=final", "system/Observation.s?status=final"),
        ("user/Patient.r?identifier:missing=false", "user/Patient.r?identifier:missing=false"),
        ("system/*.r?_security=R", "system/*.r?_security=R"),
    ],
)
def test_scopes_are_understood(written: str, meant: str) -> None:
    """And written in one way."""
    assert str(parse(written)) == meant
    assert parse(str(parse(written))) == parse(written)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "openid",
        "launch/patient",
        "system/Patient",
        "system/Patient.",
        "system/Patient.sr",
        "system/Patient.rr",
        "system/Patient.read",
        "system/Nobody.r",
        "System/Patient.r",
        " system/Patient.r",
        "system/Patient.r\n",
        "system/Patient.rs?",
        "system/Patient.rs?gender",
        "system/Patient.rs?gender=",
        "system/Patient.rs?=male",
        "system/Patient.rs?nonsense=1",
        "system/Patient.rs?_id=1",
        "system/Patient.rs?gender=%ff",
        "system/*.rs?category=x",
        "system/Patient.rs?" + "&".join(f"name={number}" for number in range(50)),
    ],
)
def test_what_is_no_scope(text: str) -> None:
    with pytest.raises(ValueError, match="not a scope"):
        parse(text)


NOT_ENFORCED = [
    "user/Patient.r",
    "patient/Patient.r",
    "system/Observation.rs?subject:Patient.name=x",
    "system/Observation.rs?code:in=http://example.org/vs",
    "system/Observation.rs?code:below=http://loinc.org|1",
    "system/Observation.rs?code:text=weight",
    "system/Observation.rs?code:nonsense=1",
    "system/Observation.rs?date=ap2026",
    "system/Observation.rs?date=soon",
    "system/Observation.rs?value-quantity=gt5",
    "system/Observation.rs?code-value-quantity=8302-2$gt5",
    "system/Location.rs?near=48|2|3|km",
    "system/Location.rs?category=laboratory&near=48|2|3|km",
    "system/*.r?_profile:below=http://example.org",
    "system/AuditEvent.rs?patient=Patient/1",
]
NO_SCOPES = [
    "system/Observation.rs?_count=1",
    "system/Observation.rs?_sort=date",
    "system/Observation.rs?_include=Observation:subject",
    "system/Observation.rs?_has:Provenance:target:agent=x",
    "system/Observation.rs?_content=x",
    "system/Observation.rs?_filter=code%20eq%20x",
    "system/Observation.rs?_list=x",
    "system/Observation.rs?subject.name=x",
    "system/Observation.rs?category=x&nonsense=1",
]


@pytest.mark.parametrize("scope", NOT_ENFORCED + NO_SCOPES)
def test_what_is_not_enforced_is_not_granted(scope: str) -> None:
    """Refused where clients are made and tokens asked for; of an outside token left out."""
    with pytest.raises(ValueError, match="not a scope"):
        check_scopes([scope])
    assert common([scope], ["system/*.cruds"]) == ()
    assert is_scope(scope), "who asks for it wants no more"


GRANULAR = [
    LABORATORY,
    "system/Observation.crus?category:not=x&subject=Patient/1,Patient/2",
    "system/Observation.rs?date=ge2026&value-string:contains=x",
    "system/Observation.rs?combo-code=8302-2",
    "system/Patient.rs?identifier:of-type=http://a|b|c",
    "system/Patient.rs?name:exact=DURAND&birthdate:missing=false",
    "system/DocumentReference.r?subject:identifier=urn:a|1",
    "system/*.rs?_security=http://a|R",
    "system/*.r?_profile=http://example.org/p",
]


@pytest.mark.parametrize("scope", GRANULAR)
def test_what_is_enforced_is_granted(scope: str) -> None:
    """In its one form, which means the same again."""
    (granted,) = check_scopes([scope])
    assert check_scopes([granted]) == (granted,)
    assert parse(granted) == parse(scope)


def test_constraints_of_a_caller() -> None:
    """What enforcement will ask: None for any resource, the alternatives, () for none."""
    caller = Caller("c", "c", "external-system", (LABORATORY, VITAL, "system/Patient.rs", "nonsense", "user/Group.r"))
    assert caller.constraints("r", "Observation") == (
        f"category={CATEGORY}|laboratory",
        f"category={CATEGORY}|vital-signs",
    )
    assert caller.constraints("u", "Observation") == ()
    assert caller.constraints("s", "Patient") is None
    assert caller.constraints("r", "Group") == ()
    assert caller.may("r", "Observation")
    assert not caller.may("u", "Observation")
    assert caller.may_wholly("r", "Patient")
    assert not caller.may_wholly("r", "Observation")
    with pytest.raises(Forbidden):
        caller.must_wholly("r", "Observation")
    assert caller.sight("r", "s").bounds == {"Observation": (caller.constraints("r", "Observation"),)}
    assert caller.bound("r", "Patient") == () == caller.bound("r", "Group")
    assert not Caller("c", "c", "external-system", ("system/*.rs",)).sight("r").bounds
    assert constraints_of((LABORATORY, "system/*.r"), "r", "Observation") is None
    assert constraints_of((LABORATORY, "system/*.r"), "s", "Observation") == (f"category={CATEGORY}|laboratory",)


def test_covers() -> None:
    """In any words."""
    assert covers(["system/*.rs"], ["system/Patient.r", "system/*.s"])
    assert covers(["system/Patient.r", "system/Patient.s"], ["system/Patient.rs"])
    assert covers(["system/*.r", "system/Patient.s"], ["system/Patient.rs"])
    assert not covers(["system/Patient.rs"], ["system/*.r"])
    assert not covers(["system/Patient.rs"], ["system/Patient.rs", "system/Group.r"])
    assert not covers([], ["system/Patient.r"])
    assert covers(["system/*.rs"], [LABORATORY])
    assert covers([LABORATORY], [LABORATORY, f"{LABORATORY}&status=final", LABORATORY.replace(".rs", ".r")])
    assert not covers([LABORATORY], ["system/Observation.rs"])
    assert not covers([LABORATORY], [VITAL])
    assert not covers([f"{LABORATORY}&status=final"], [LABORATORY])
    assert covers(["system/*.rs?_tag=a"], ["system/Observation.r?_tag=a&code=x"])
    assert not covers(["user/*.cruds"], ["system/Patient.r"])


def test_common() -> None:
    """What a token says and a role has."""
    assert common(["system/*.cruds"], ["system/Patient.rs"]) == ("system/Patient.rs",)
    assert common(["system/Patient.rs"], ["system/*.cr"]) == ("system/Patient.r",)
    assert common(["openid", "profile", "user/Patient.r", LABORATORY], ["system/*.cruds"]) == (LABORATORY,)
    assert common(["system/Patient.r"], [LABORATORY, "user/*.r"]) == ()
    assert common(["system/*.r"], [LABORATORY]) == (LABORATORY.replace(".rs", ".r"),)
    assert common([LABORATORY], ["system/*.cruds?_tag=a"]) == (
        f"system/Observation.rs?_tag=a&category={CATEGORY}|laboratory",
    )
    of_a_person = common(["user/Patient.rs", LABORATORY.replace("system", "user")], ["system/*.r"], of_user=True)
    assert of_a_person == (LABORATORY.replace(".rs", ".r"), "system/Patient.r")
    assert common(["patient/*.rs"], ["system/*.rs"], of_user=True) == ()


TYPES = ("*", "Patient", "Observation")
SEARCHES = ("", "", "?_tag=a", "?_tag=b", "?_tag=a&_tag=b")
SCOPES = st.builds(
    lambda kind, letters, search: f"system/{kind}." + "".join(one for one in LETTERS if one in letters) + search,
    st.sampled_from(TYPES),
    st.sets(st.sampled_from(LETTERS), min_size=1),
    st.sampled_from(SEARCHES),
)


def allows(scopes: Sequence[str], letter: Permission, kind: str, tags: set[str]) -> bool:
    """Of a resource with these tags, by an own reading of the searches."""
    found = constraints_of(scopes, letter, kind)
    return found is None or any({pair.partition("=")[2] for pair in one.split("&")} <= tags for one in found)


@given(st.lists(SCOPES, max_size=4), st.lists(SCOPES, max_size=4))
def test_common_is_exactly_what_both_allow(asked: list[str], allowed: list[str]) -> None:
    """For every permission on every type, of every resource."""
    both = common(asked, allowed)
    for letter, kind, tags in itertools.product(
        LETTERS, ("Patient", "Observation", "Group"), ({"a"}, {"b"}, {"a", "b"}, set[str]())
    ):
        expected = allows(asked, letter, kind, tags) and allows(allowed, letter, kind, tags)
        assert allows(both, letter, kind, tags) == expected
    assert covers(asked, both)
    assert covers(allowed, both)
