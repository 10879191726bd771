"""Scopes of SMART v2: one form for what means one thing, and nothing is ever widened.

https://hl7.org/fhir/smart-app-launch/STU2.2/scopes-and-launch-context.html
"""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server.caller import Caller, check_scopes
from fhir_server.scopes import LETTERS, common, constraints_of, covers, parse

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


@pytest.mark.parametrize("scope", [LABORATORY, "user/Patient.r", "patient/Patient.r", "system/*.r?_security=R"])
def test_what_is_not_enforced_is_not_granted(scope: str) -> None:
    """It is understood, and refused where clients are made and tokens asked for."""
    assert parse(scope)
    with pytest.raises(ValueError, match="not a scope"):
        check_scopes([scope])


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
    assert not caller.may("r", "Observation"), "until it is enforced"
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


def test_common() -> None:
    """What a token says and a role has."""
    assert common(["system/*.cruds"], ["system/Patient.rs"]) == ("system/Patient.rs",)
    assert common(["system/Patient.rs"], ["system/*.cr"]) == ("system/Patient.r",)
    assert common(["openid", "profile", "user/Patient.r", LABORATORY], ["system/*.cruds"]) == ()
    assert common(["system/Patient.r"], [LABORATORY, "user/*.r"]) == ()


TYPES = ("*", "Patient", "Observation")
PLAIN = st.builds(
    lambda kind, letters: f"system/{kind}." + "".join(one for one in LETTERS if one in letters),
    st.sampled_from(TYPES),
    st.sets(st.sampled_from(LETTERS), min_size=1),
)


@given(st.lists(PLAIN, max_size=4), st.lists(PLAIN, max_size=4))
def test_common_is_exactly_what_both_allow(asked: list[str], allowed: list[str]) -> None:
    """For every permission on every type."""
    both = Caller("c", "c", "r", common(asked, allowed))
    one, other = Caller("c", "c", "r", tuple(asked)), Caller("c", "c", "r", tuple(allowed))
    for letter, kind in itertools.product(LETTERS, ("Patient", "Observation", "Group")):
        assert both.may(letter, kind) == (one.may(letter, kind) and other.may(letter, kind))
        assert both.may(letter, kind) == (both.constraints(letter, kind) is None)
    assert covers(asked, both.scopes)
    assert covers(allowed, both.scopes)
