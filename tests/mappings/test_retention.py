"""Facts of retention out of FHIR, and what a hold or a destruction leaves in FHIR."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any

import pytest

from mappings import retention
from mappings.nomenclature import kinds
from mappings.retention import Destruction, Exposure, worker_facts
from terminology import systems

AT = datetime(2036, 1, 2, 3, 4, 5, tzinfo=UTC)
SUBJECT = {"reference": "Patient/w"}


def exposure(**more: Any) -> dict[str, Any]:
    code = {"coding": [{"system": systems.RETENTION_CLASS, "code": "CHEM50"}]}
    return {"resourceType": "Observation", "status": "final", "code": code, "subject": SUBJECT, **more}


def encounter(**more: Any) -> dict[str, Any]:
    return {"resourceType": "Encounter", "status": "finished", "subject": SUBJECT, **more}


def document(kind: str | None, start: str | None = None) -> dict[str, Any]:
    return {
        "resourceType": "DocumentReference",
        "id": "d",
        "meta": {"versionId": "2"},
        "status": "current",
        "type": {"coding": [{"system": systems.DMST_NOMENCLATURE, "code": kind}] if kind else []},
        "subject": SUBJECT,
        "date": "2026-11-01T10:00:00Z",
        "content": [{"attachment": {"url": "Binary/b"}}, {"attachment": {"url": "http://test/fhir/Binary/c"}}],
        **({"context": {"period": {"start": start}}} if start else {}),
    }


def test_the_last_visit_is_the_latest_that_anything_tells() -> None:
    """Register, Encounters, and the day on a sheet that is made at a visit; what did not take place is no visit."""
    patient = {
        "resourceType": "Patient",
        "birthDate": "1960",
        "deceasedDateTime": "2011-02",
        "extension": [{"url": systems.EXTENSION_LAST_VISIT, "valueDate": "1990"}],
    }
    facts = worker_facts([patient])
    assert (facts.birth, facts.death, facts.last_visit) == (date(1960, 12, 31), date(2011, 2, 28), date(1990, 12, 31))
    assert facts.seen == date(1990, 1, 1)
    told = [patient, encounter(period={"end": "1995-06-07"}), encounter(status="cancelled", period={"end": "2020"})]
    assert worker_facts(told).last_visit == date(1995, 6, 7)
    assert worker_facts([*told, document("DMST-VISITE", "1999-01")]).last_visit == date(1999, 1, 31)
    assert worker_facts([*told, document("DMST-CORR-MED", "1999-01")]).last_visit == date(1995, 6, 7)
    scanned = document("DMST-VISITE", "2026-01-01T08:00:00Z")
    assert worker_facts([*told, scanned]).last_visit == date(1995, 6, 7), "the hour of the scanner"
    assert worker_facts([*told, encounter()]).last_visit is None, "a visit without a day"
    assert worker_facts([encounter(status="in-progress", period={"start": "2020"})]).last_visit is None


def test_an_hour_counts_here_and_in_utc() -> None:
    """The later day of the two."""
    assert retention.span("2020-12-31T23:30:00-02:00") == (date(2020, 12, 31), date(2021, 1, 1))
    assert retention.span("2021-01-01T00:30:00+02:00") == (date(2020, 12, 31), date(2021, 1, 1))


def test_exposures_are_observations_in_our_code_system() -> None:
    """With an end, without one, never; what was entered in error says nothing."""
    assert worker_facts([exposure(effectivePeriod={"start": "1980", "end": "1985"})]).exposures == (
        Exposure("CHEM50", date(1985, 12, 31)),
    )
    assert worker_facts([exposure(effectiveDateTime="1985-03")]).exposures == (Exposure("CHEM50", date(1985, 3, 31)),)
    assert worker_facts([exposure(effectivePeriod={"start": "1980"})]).exposures == (Exposure("CHEM50", None),)
    assert worker_facts([exposure(status="entered-in-error")]) == worker_facts([])
    assert worker_facts([exposure(code={"coding": [{"system": "urn:x", "code": "CHEM50"}]})]) == worker_facts([])
    never = exposure(valueBoolean=False)
    assert worker_facts([never]).but_never() == {"CHEM50"}
    assert worker_facts([{**never, "status": "preliminary"}]).but_never() == frozenset()
    assert worker_facts([never, exposure()]).but_never() == frozenset(), "one says so, another does not"


def test_documents_that_cannot_be_without_an_exposure_bind_the_folder() -> None:
    """An exposure sheet does; a lab report, which may be of anything, binds itself alone."""
    assert worker_facts([document("DMST-EXPO")]).imposed == {"CHEM50"}
    assert worker_facts([document("DMST-DOSI")]).imposed == {"ION75"}
    assert worker_facts([document("DMST-BIOL"), document("DMST-FONDS"), document("DMST-ID")]).imposed == frozenset()
    (unqualified,) = worker_facts([document(None)]).documents
    assert unqualified.classes is None
    assert (unqualified.version, unqualified.received) == (2, date(2026, 11, 1))


def test_every_class_of_the_nomenclature_and_of_the_figures_has_its_code() -> None:
    """terminology/tables/retention_class.json lists them all, and is R4."""
    from fhir_server.retention.periods import NO_EXPOSURE, load
    from fhir_server.settings import Settings

    system = json.loads(files("terminology").joinpath("tables/retention_class.json").read_text("utf-8"))
    codes = {concept["code"] for concept in system["concept"]}
    assert system["url"] == systems.RETENTION_CLASS
    assert {code for kind in kinds().values() for code in kind.retention} <= codes
    assert codes == {*load(Settings()).exposures, *NO_EXPOSURE}
    assert set(kinds()) >= retention.VISIT_KINDS


def test_a_hold_suspends_until_it_is_lifted(is_r4: Callable[[dict[str, Any]], None]) -> None:
    """A Flag, whose period does not matter; who and when is in a Provenance."""
    flag = retention.hold("f", "w", reason="contentieux prud'homal", by="dpo", at=AT)
    is_r4(flag)
    assert worker_facts([flag]).holds == ("Flag/f",)
    assert worker_facts([{**flag, "period": {"end": "2000"}}]).holds == ("Flag/f",)
    lifted = retention.released(flag, AT)
    is_r4(lifted)
    assert worker_facts([lifted]).holds == ()
    assert lifted["period"] == {"start": "2036-01-02T03:04:05.000Z", "end": "2036-01-02T03:04:05.000Z"}
    for one, activity in ((False, "hold"), (True, "unhold")):
        proof = retention.held_provenance("p", "f", lifted=one, by="dpo", at=AT)
        is_r4(proof)
        assert proof["activity"]["coding"][0]["code"] == activity


def test_the_proof_of_a_destruction_holds_nothing_of_the_document(is_r4: Callable[[dict[str, Any]], None]) -> None:
    """Which, when, why, by whom, and the fingerprint."""
    proof = retention.destroyed(
        Destruction(
            provenance_id="p",
            document_id="d",
            patient_id="w",
            reasons=(("D40", "R4624-45-9", date(2030, 12, 31)), ("CHEM50", "R4412-55", date(2035, 12, 31))),
            approvers=("dpo", "medecin"),
            sha256=("ab" * 32,),
            at=AT,
        )
    )
    is_r4(proof)
    person = {"coding": [{"system": systems.PROVENANCE_PARTICIPANT, "code": "author"}]}
    assert proof == {
        "resourceType": "Provenance",
        "id": "p",
        "target": [
            {
                "type": "DocumentReference",
                "identifier": {"system": systems.DESTROYED, "value": "DocumentReference/d"},
                "display": "Document détruit",
            }
        ],
        "occurredDateTime": "2036-01-02T03:04:05.000Z",
        "recorded": "2036-01-02T03:04:05.000Z",
        "policy": [f"{systems.RETENTION_POLICY}/R4624-45-9", f"{systems.RETENTION_POLICY}/R4412-55"],
        "reason": [
            {"coding": [{"system": systems.RETENTION_CLASS, "code": "D40"}], "text": "R4624-45-9: 2030-12-31"},
            {"coding": [{"system": systems.RETENTION_CLASS, "code": "CHEM50"}], "text": "R4412-55: 2035-12-31"},
        ],
        "activity": {"coding": [{"system": systems.ISO_21089, "code": "destroy"}]},
        "agent": [
            {
                "type": person,
                "who": {"type": "Practitioner", "identifier": {"system": systems.USER, "value": name}},
            }
            for name in ("dpo", "medecin")
        ]
        + [
            {
                "type": {"coding": [{"system": systems.PROVENANCE_PARTICIPANT, "code": "performer"}]},
                "who": {"type": "Device", "identifier": {"system": systems.CLIENT, "value": "dmst-fhir"}},
            }
        ],
        "entity": [
            {
                "role": "removal",
                "what": {"type": "Binary", "identifier": {"system": systems.SHA256, "value": "ab" * 32}},
            },
            {"role": "source", "what": {"reference": "Patient/w"}},
        ],
    }


@pytest.mark.parametrize("name", ["DocumentReference/d", "DocumentReference/d/_history/3"])
def test_what_refers_to_it_keeps_its_name(name: str) -> None:
    """A reference becomes one that leads nowhere; identifier and words that stood beside it stay."""
    listed = {"resourceType": "List", "entry": [{"item": {"reference": name}}, {"item": {"reference": "Patient/w"}}]}
    assert retention.without(listed, ["DocumentReference/d"])["entry"] == [
        {"item": retention.gone("DocumentReference/d")},
        {"item": {"reference": "Patient/w"}},
    ]
    fingerprint = {"system": systems.SHA256, "value": "ab"}
    entity = {"what": {"reference": name, "identifier": fingerprint}}
    assert retention.without(entity, ["DocumentReference/d"])["what"]["identifier"] == fingerprint
    assert retention.binaries_of(document("DMST-VISITE"), "http://test/fhir") == ("b", "c")
