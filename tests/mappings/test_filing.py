"""What is taken out of a record and filed again, and links between two Patients: nothing else changes."""

from datetime import UTC, datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mappings.access_facts import UNFILED, access_facts
from mappings.filing import (
    Decided,
    detachment,
    filed_again,
    is_linked_to,
    is_unfiled,
    linked_to,
    removal,
    shown,
    taken_out,
    unlinked_from,
    withheld,
)

LABEL = {"system": "http://terminology.hl7.org/CodeSystem/v3-Confidentiality", "code": "R"}
security = st.lists(st.just(LABEL), max_size=1)
metas = st.fixed_dictionaries({}, optional={"profile": st.just(["urn:x"]), "security": st.just([LABEL])})


def fiche(worker: str, **more: Any) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": "d1",
        "status": "current",
        "contained": [{"resourceType": "PractitionerRole", "id": "author"}, {"id": "source-patient", "birthDate": "1"}],
        "subject": {"reference": f"Patient/{worker}"},
        "date": f"2026-01-0{len(worker)}T00:00:00Z",
        "context": {"practiceSetting": {"text": "x"}, "sourcePatientInfo": {"reference": "#source-patient"}},
        **more,
    }


@given(meta=metas, status=st.sampled_from(["current", "superseded"]))
def test_filed_again_under_the_same_worker_it_is_what_it_was(meta: dict[str, Any], status: str) -> None:
    """Labels, type and status that people gave it stay, whatever it was made with."""
    before = fiche("a", status=status, category=[{"text": "changed"}], **({"meta": meta} if meta else {}))
    assert filed_again(taken_out(before), fiche("a")) == before


def test_what_is_taken_out_tells_of_nobody_and_is_seen_by_nobody() -> None:
    before = fiche("a", relatesTo=[{"code": "replaces", "target": {"reference": "DocumentReference/d0"}}])
    out = taken_out(before)
    assert "subject" not in out
    assert "source-patient" not in str(out)
    assert "replaces" not in str(out)
    assert access_facts(out).guard & UNFILED
    assert access_facts(out).worker is None
    assert filed_again(out, fiche("bb"))["subject"] == {"reference": "Patient/bb"}


@given(meta=metas)
def test_hidden_and_shown_again_it_is_the_same(meta: dict[str, Any]) -> None:
    before = {"resourceType": "Provenance", "id": "p", **({"meta": meta} if meta else {})}
    assert is_unfiled(withheld(before))
    assert withheld(withheld(before)) == withheld(before)
    assert shown(withheld(before)) == before


links = st.lists(
    st.fixed_dictionaries(
        {
            "other": st.fixed_dictionaries({"reference": st.sampled_from(["Patient/c", "RelatedPerson/b"])}),
            "type": st.sampled_from(["seealso", "refer"]),
        }
    ),
    max_size=3,
)


@given(links=links)
def test_a_link_that_is_taken_back_was_never_there(links: list[dict[str, Any]]) -> None:
    before = {"resourceType": "Patient", "id": "a", "birthDate": "1980-01-01", **({"link": links} if links else {})}
    with_link = linked_to(before, "b")
    assert is_linked_to(with_link, "b")
    assert not is_linked_to(before, "b")
    assert unlinked_from(with_link, "b") == before


def test_neither_provenance_tells_of_the_other_side() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    decided = Decided("89970000108", "medecin-travail", at, "wrong-worker", "service", confirmed_by="89970000207")
    of_the_record = removal("p1", decided, patient_id="a", filed_at=at)
    of_the_documents = detachment("p2", decided, targets=["DocumentReference/d1"])
    assert [target["reference"] for target in of_the_record["target"]] == ["Patient/a"]
    assert "DocumentReference" not in str(of_the_record)
    assert "Patient" not in str(of_the_documents)
    assert [agent["who"]["identifier"]["value"] for agent in of_the_record["agent"]] == ["89970000108", "89970000207"]
