"""Who may see what: the decision explained, and the same decision as a sight of the store."""

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fhir_server import roles
from fhir_server.consent.decide import (
    DECLARING,
    LOOKING,
    Declaring,
    Deny,
    Looking,
    OutOfTeam,
    Permit,
    decide_declaring,
    decide_looking,
)
from fhir_server.roles import Role
from mappings import access_facts as facts

HEALTH = facts.HEADINGS[3] | facts.NOT_A_MODEL
EXPOSURE = facts.HEADINGS[2] | facts.NOT_A_MODEL
LAW = roles.of_the_law()
BITS = [bit for bit in (1 << number for number in range(31)) if bit not in (facts.OUTSIDE,)]
WORKERS = (11, 12)


def reason(role: str, guard: int, **more: object) -> str:
    decision = decide_looking(Looking(LAW.get(role), guard, **more))  # pyright: ignore[reportArgumentType]
    return decision.reason if isinstance(decision, Deny) else "seen"


@pytest.mark.parametrize(
    ("role", "guard", "more", "expected"),
    [
        ("medecin-travail", HEALTH, {}, "seen"),
        ("medecin-travail", HEALTH | facts.NON_TRANSMISSIBLE, {}, "seen"),
        ("medecin-travail", HEALTH, {"opposed": ["C1", "C2", "C3"]}, "seen"),
        ("medecin-travail", facts.UNKNOWN, {}, "not-made-out"),
        ("infirmier", HEALTH, {}, "seen"),
        ("infirmier", HEALTH, {"opposed": ["C2"]}, "opposed"),
        ("infirmier", HEALTH, {"opposed": ["C1", "C3"]}, "seen"),
        ("infirmier", facts.HEADINGS[1] | facts.NOT_A_MODEL | facts.IDENTITY, {"opposed": ["C2"]}, "seen"),
        ("infirmier", HEALTH | facts.NON_TRANSMISSIBLE, {}, "non-transmissible"),
        ("infirmier", HEALTH | facts.QUARANTINE, {}, "quarantine"),
        ("interne", HEALTH, {"opposed": ["C2"]}, "opposed"),
        ("medecin-collaborateur", HEALTH, {"opposed": ["C2"]}, "opposed"),
        ("medecin-praticien-correspondant", HEALTH, {"opposed": ["C1"]}, "opposed"),
        ("medecin-praticien-correspondant", HEALTH, {"opposed": ["C2"]}, "seen"),
        ("assistant", EXPOSURE, {"delegated": True}, "seen"),
        ("assistant", EXPOSURE, {}, "delegation-missing"),
        ("assistant", HEALTH, {"delegated": True}, "heading-closed"),
        ("assistant", HEALTH | EXPOSURE, {"delegated": True}, "heading-closed"),
        ("assistant", facts.UNQUALIFIED | facts.NOT_A_MODEL, {"delegated": True}, "not-qualified"),
        ("iprp", EXPOSURE, {}, "delegation-missing"),
        ("iprp", EXPOSURE, {"delegated": True}, "seen"),
        ("employeur", HEALTH, {}, "not-a-model-document"),
        ("employeur", facts.HEADINGS[5], {}, "seen"),
        ("medecin-inspecteur", HEALTH, {}, "purpose-missing"),
        ("medecin-inspecteur", HEALTH, {"purpose": "PUBHLTH"}, "seen"),
        ("medecin-inspecteur", HEALTH, {"purpose": "TREAT"}, "purpose-missing"),
        ("travailleur", HEALTH, {"is_his": True}, "seen"),
        ("travailleur", HEALTH, {}, "not-his-record"),
        ("travailleur", HEALTH | facts.INVISIBLE_TO_PATIENT, {"is_his": True}, "masked"),
        ("autre-spst", HEALTH, {}, "heading-closed"),
        ("direction", facts.HEADINGS[1] | facts.NOT_A_MODEL, {}, "heading-closed"),
        ("dpo", HEALTH, {}, "heading-closed"),
        ("technique", HEALTH, {}, "heading-closed"),
        ("infirmier", HEALTH | facts.WORKER_UNCLEAR, {}, "worker-unclear"),
        ("travailleur", HEALTH | facts.WORKER_UNCLEAR, {"is_his": True}, "worker-unclear"),
        ("external-system", HEALTH | facts.WORKER_UNCLEAR, {}, "seen"),
        ("somebody", HEALTH, {}, "role-unknown"),
        ("somebody", facts.OUTSIDE, {}, "seen"),
        ("technique", facts.OUTSIDE | facts.QUARANTINE, {}, "quarantine"),
        ("medecin-travail", HEALTH | facts.UNFILED, {}, "not-filed"),
        ("operator", facts.OUTSIDE | facts.UNFILED, {}, "not-filed"),
        ("external-system", HEALTH, {}, "seen"),
        ("device-gateway", EXPOSURE, {}, "heading-closed"),
        ("infirmier", HEALTH, {"team": ["c1"], "centre": "c2"}, "out-of-team"),
        ("infirmier", HEALTH, {"team": ["c1", "c2"], "centre": "c2"}, "seen"),
        ("infirmier", HEALTH, {"team": [], "centre": None}, "seen"),
        ("infirmier", HEALTH, {"team": ["c1"], "centre": "c2", "declared": True}, "seen"),
        ("infirmier", HEALTH, {"team": ["c1"], "centre": "c2", "declared": True, "opposed": ["C2"]}, "opposed"),
        ("infirmier", HEALTH | facts.NON_TRANSMISSIBLE, {"team": [], "declared": True}, "non-transmissible"),
        ("infirmier", facts.HEADINGS[1] | facts.NOT_A_MODEL | facts.IDENTITY, {"team": [], "centre": "c2"}, "seen"),
        ("medecin-travail", HEALTH, {"team": [], "centre": "c2"}, "out-of-team"),
        ("medecin-praticien-correspondant", HEALTH, {"team": [], "centre": "c2"}, "seen"),
    ],
)
def test_the_law_row_by_row(role: str, guard: int, more: Mapping[str, object], expected: str) -> None:
    """R4624-45-5, R4624-45-6, L4624-8, CNIL guide SPST fiche 11."""
    assert reason(role, guard, **more) == expected


@given(
    role=st.sampled_from([*LAW, "somebody"]),
    bits=st.sets(st.sampled_from(BITS)),
    outside=st.booleans(),
    opposed=st.sets(st.sampled_from(["C1", "C2", "C3", "C4", "C5"])),
    delegated=st.booleans(),
    purpose=st.sampled_from([None, "TREAT", "PUBHLTH", "REQUEST"]),
    worker=st.sampled_from([None, *WORKERS]),
    only=st.sampled_from([None, *WORKERS]),
    team=st.sampled_from([None, (), ("Organization/a",), ("Organization/a", "Organization/b")]),
    centre=st.sampled_from([None, "Organization/a", "Organization/b"]),
    lifted=st.sampled_from([(), WORKERS[:1], WORKERS]),
)
def test_a_sight_covers_what_is_permitted(
    role: str,
    bits: set[int],
    outside: bool,
    opposed: set[str],
    delegated: bool,
    purpose: str | None,
    worker: int | None,
    only: int | None,
    team: tuple[str, ...] | None,
    centre: str | None,
    lifted: tuple[int, ...],
) -> None:
    """The quick answer and the explained one never differ, whatever the resource and the caller are."""
    worker = None if outside else worker
    opposed = opposed if worker else set()
    guard = facts.OUTSIDE if outside else 0
    for bit in bits:
        if not outside or bit in (facts.UNKNOWN, *facts.WITHHELD.values()):  # what tells of no worker has no heading
            guard |= bit
    centre = centre if worker else None
    sight = roles.sight_of(role, purpose, only, delegated=delegated, team=team, lifted=lifted)
    is_his, declared = only is not None and worker == only, worker in lifted
    looking = Looking(LAW.get(role), guard, is_his, opposed, delegated, purpose, team, centre, declared)
    if not outside and not any(guard & bit for bit in (*facts.HEADINGS.values(), facts.UNQUALIFIED, facts.UNKNOWN)):
        return  # every resource of a worker stands somewhere
    held = {*opposed, *([centre] if centre else [])}
    assert sight.covers(guard, worker, held) == isinstance(decide_looking(looking), Permit)


def test_every_reason_is_met() -> None:
    """Each rule of the table denies something of the law's table above."""
    marks = test_the_law_row_by_row.pytestmark  # pyright: ignore[reportFunctionMemberAccess]
    assert {name for name, _, _ in LOOKING} == {row[3] for row in marks[0].args[1]} - {"seen"}


def test_an_edition_may_take_away_and_never_give() -> None:
    """The service's doctor lays down less than the law allows."""
    less = Role("a", "b", read=(1,), write=(), delegation=True, team=True)
    assert roles.restricted({"assistant": less})["assistant"] == less
    silent = Role("a", "b", read=(1,), write=(), delegation=True)
    assert roles.restricted({"assistant": silent})["assistant"] == less, "who is of a team stays of it"
    for more in (
        Role("a", "b", read=(1, 2, 3), write=(1,), delegation=True, team=True),
        Role("a", "b", read=(1, 2), write=(3,), delegation=True, team=True),
        Role("a", "b", read=(1, 2), write=(1, 2), team=True),
        Role("a", "b", read=(1,), sees=("quarantaine",), delegation=True, team=True),
        Role("a", "b", read=(1,), delegation=True, recalls=True, team=True),
        Role("a", "b", read=(1,), delegation=True, break_glass=True),
    ):
        with pytest.raises(ValueError, match="goes beyond R4624-45-5"):
            roles.restricted({"assistant": more})
    nurse = LAW["infirmier"]
    with pytest.raises(ValueError, match="goes beyond"):
        roles.restricted({"infirmier": Role("a", "b", read=nurse.read, write=nurse.write, unqualified=True)})
    with pytest.raises(ValueError, match="no role of the law"):
        roles.restricted({"stagiaire": less})


@pytest.mark.parametrize(
    "row",
    [
        {"label": "a", "source": "b", "read": [8]},
        {"label": "a", "source": "b", "sees": ["everything"]},
        {"label": "a", "source": "b", "read": [1], "unqualified": True},
        {"label": "a", "source": "b", "raed": [1]},
        {"label": "a", "source": "b", "read": "all"},
        {"label": "a"},
    ],
)
def test_a_table_that_cannot_be_meant_is_refused(row: dict[str, object]) -> None:
    """With the role at fault."""
    with pytest.raises(ValueError, match=r"^somebody: "):
        roles.read_table({"somebody": row})


SAID = "Malaise au poste, seul médecin présent"
DECLARED: list[tuple[str, str, str, OutOfTeam, str]] = [
    ("medecin-travail", "BTG", SAID, "told", "counts"),
    ("infirmier", "BTG", SAID, "emergency", "counts"),
    ("infirmier", "remplacement", SAID, "reason", "counts"),
    ("infirmier", "remplacement", SAID, "emergency", "emergency-only"),
    ("assistant", "remplacement", SAID, "reason", "counts"),
    ("assistant", "BTG", SAID, "reason", "no-break-glass"),
    ("iprp", "BTG", SAID, "told", "no-break-glass"),
    ("medecin-praticien-correspondant", "BTG", SAID, "reason", "no-team"),
    ("medecin-inspecteur", "BTG", SAID, "reason", "no-team"),
    ("travailleur", "BTG", SAID, "reason", "no-team"),
    ("dpo", "BTG", SAID, "reason", "no-team"),
    ("external-system", "BTG", SAID, "reason", "no-team"),
    ("somebody", "BTG", SAID, "reason", "no-team"),
    ("infirmier", "TREAT", SAID, "reason", "reason-unknown"),
    ("infirmier", "BTG", "urgence", "reason", "reason-without-words"),
    ("infirmier", "BTG", "x" * 501, "reason", "reason-without-words"),
    ("infirmier", "BTG", SAID + "\n", "reason", "reason-without-words"),
]


@pytest.mark.parametrize(("role", "code", "text", "mode", "expected"), DECLARED)
def test_who_may_declare_a_reason(role: str, code: str, text: str, mode: OutOfTeam, expected: str) -> None:
    """A vital emergency is for the health professionals of the service, and opens nothing that the law keeps."""
    decision = decide_declaring(Declaring(LAW.get(role), code, text, mode))
    assert (decision.reason if isinstance(decision, Deny) else "counts") == expected


def test_every_refusal_of_a_declaration_is_met() -> None:
    assert {name for name, _, _ in DECLARING} == {row[4] for row in DECLARED} - {"counts"}
