"""May this document leave? Default deny; every denial has its code (L4624-8-1, R4624-45-5 to -8, CSP L1111-17 IV)."""

import itertools
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from fhir_server.consent.decide import ALWAYS, BY_RECIPIENT, Deny, Disclosure, DocumentFact, Permit, decide
from mappings.consent import WORKER_RIGHT, consent_facts

NOW = datetime(2026, 10, 15, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True)
class Fact:
    right: str = "C4"
    permit: bool = True
    start: datetime | None = NOW - DAY
    end: datetime | None = None


REPORT = DocumentFact(
    kind="DMST-ETUDE-POSTE",
    current=True,
    transmissible=True,
    qualified_type=True,
    whole_folder=False,
    dmp_candidate=True,
)
TO_DMP = Disclosure("dmp", REPORT, ins_qualified=True, consents=[Fact()], at=NOW)
TO_SOFTWARE = Disclosure("logiciel-metier", REPORT, ins_qualified=False, consents=[], at=NOW)


def reason(disclosure: Disclosure) -> str:
    decision = decide(disclosure)
    return decision.reason if isinstance(decision, Deny) else "permitted"


def of(disclosure: Disclosure, **document: Any) -> Disclosure:
    return replace(disclosure, document=replace(disclosure.document, **document))


def test_what_meets_every_rule_may_leave() -> None:
    """To the DMP with consent, to the service's own software without (R4624-45-8)."""
    assert decide(TO_DMP) == Permit()
    assert decide(TO_SOFTWARE) == Permit()


@pytest.mark.parametrize("kind", ["", "employeur", "assureur", "DMP", "dmp ", "banque"])
def test_an_unknown_kind_of_recipient_gets_nothing(kind: str) -> None:
    """Whatever the worker agreed to."""
    assert reason(replace(TO_DMP, recipient_kind=kind)) == "recipient-kind-unknown"


@pytest.mark.parametrize("disclosure", [TO_DMP, TO_SOFTWARE], ids=["dmp", "logiciel-metier"])
@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"current": False}, "document-not-current"),
        ({"transmissible": False}, "non-transmissible"),
        ({"qualified_type": False}, "type-not-qualified"),
        ({"whole_folder": True}, "whole-folder"),
    ],
)
def test_what_never_leaves_leaves_for_nobody(disclosure: Disclosure, document: dict[str, Any], expected: str) -> None:
    """The rules that hold for every recipient."""
    assert reason(of(disclosure, **document)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"ins_qualified": False}, "ins-not-qualified"), ({"consents": []}, "dmp-consent-missing")],
)
def test_the_dmp_asks_for_more(change: dict[str, Any], expected: str) -> None:
    """A qualified INS and the worker's express consent; the service's own software does not."""
    assert reason(replace(TO_DMP, **change)) == expected
    assert reason(replace(TO_SOFTWARE, **change)) == "permitted"


def test_only_what_the_dmp_takes_goes_there() -> None:
    """The nomenclature says which kinds."""
    assert reason(of(TO_DMP, dmp_candidate=False)) == "not-a-dmp-document"
    assert reason(of(TO_SOFTWARE, dmp_candidate=False)) == "permitted"


@pytest.mark.parametrize(
    ("facts", "permitted"),
    [
        ([Fact()], True),
        ([Fact(permit=False)], False),
        ([Fact(), Fact(permit=False)], False),
        ([Fact(permit=False), Fact()], False),
        ([Fact(end=NOW - DAY)], False),
        ([Fact(end=NOW)], False),
        ([Fact(end=NOW + DAY)], True),
        ([Fact(start=NOW)], True),
        ([Fact(start=NOW + DAY)], False),
        ([Fact(start=None)], True),
        ([Fact(), Fact(permit=False, end=NOW - DAY)], True),
        ([Fact(), Fact(permit=False, start=NOW + DAY)], True),
        ([Fact(right="C1")], False),
        ([Fact(), Fact(right="C1", permit=False)], True),
    ],
)
def test_consent_to_the_dmp_is_express_in_force_and_undenied(facts: list[Fact], permitted: bool) -> None:
    """C4, at this moment; a denial in force beats any permission."""
    expected = "permitted" if permitted else "dmp-consent-missing"
    assert reason(replace(TO_DMP, consents=facts)) == expected


def consent(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "Consent",
        "status": "active",
        "category": [{"coding": [{"system": WORKER_RIGHT, "code": "C4"}]}],
        "dateTime": "2026-10-01",
        "provision": {"type": "permit"},
        **more,
    }


@pytest.mark.parametrize(
    ("resource", "permitted"),
    [
        (consent(), True),
        (consent(provision={"type": "deny"}), False),
        (consent(status="inactive"), False),
        (consent(status="proposed"), False),
        (consent(provision={"type": "permit", "period": {"start": "2026-10-01", "end": "2026-10-14"}}), False),
        (consent(provision={"type": "permit", "period": {"start": "2026-10-01", "end": "2026-10-15"}}), True),
        (consent(provision={"type": "permit", "period": {"end": "2026-10"}}), True),
        (consent(provision={"type": "permit", "period": {"start": "2026-11"}}), False),
        (consent(dateTime="2026-10-16"), False),
        (consent(provision={}), False),
        (consent(category=[{"coding": [{"system": "urn:other", "code": "C4"}]}]), False),
    ],
)
def test_a_consent_resource_decides(resource: dict[str, Any], permitted: bool) -> None:
    """The facts that a Consent holds lead to the decision that it means."""
    assert (reason(replace(TO_DMP, consents=list(consent_facts(resource)))) == "permitted") == permitted


def test_an_undated_permission_is_none_and_an_undated_denial_is_one() -> None:
    """Consent has to be express and dated; an objection holds at once."""
    permission, denial = consent(), consent(provision={"type": "deny"})
    del permission["dateTime"], denial["dateTime"]
    assert list(consent_facts(permission)) == []
    assert reason(replace(TO_DMP, consents=[Fact(), *consent_facts(denial)])) == "dmp-consent-missing"


def test_every_denial_has_a_code_of_its_own_and_a_text() -> None:
    """The codes are stable: recipients of a Task read them."""
    rules = [rule for table in (ALWAYS, *BY_RECIPIENT.values()) for rule in table]
    reasons = [code for code, _, _ in rules]
    assert len(set(reasons)) == len(reasons)
    assert all(text for _, text, _ in rules)
    assert set(reasons) == {
        "document-not-current",
        "non-transmissible",
        "quarantine",
        "type-not-qualified",
        "whole-folder",
        "dmp-consent-missing",
        "ins-not-qualified",
        "not-a-dmp-document",
        "transfer-opposed",
        "not-transferable",
    }


def test_of_all_that_can_be_only_what_meets_every_rule_may_leave() -> None:
    """Every combination of facts: permitted exactly where nothing speaks against it."""
    switches = itertools.product([True, False], repeat=8)
    for kind, (current, transmissible, qualified, folder, candidate, kept_back, ins, agreed) in itertools.product(
        ("dmp", "logiciel-metier", "autre"), switches
    ):
        document = DocumentFact("x", current, transmissible, qualified, folder, candidate, kept_back)
        disclosure = Disclosure(kind, document, ins_qualified=ins, consents=[Fact()] if agreed else [], at=NOW)
        always = current and transmissible and qualified and not folder and not kept_back
        may = {"dmp": always and candidate and ins and agreed, "logiciel-metier": always, "autre": False}[kind]
        assert isinstance(decide(disclosure), Permit) == may, disclosure
