"""The nomenclature is complete, refers to published codes only, and fails closed."""

import re
from pathlib import Path

import pytest

from mappings import nomenclature
from terminology import systems

JDV_J07 = Path(__file__).parents[3] / "shared/data/cda/jdv/JDV_J07_XdsTypeCode_CISIS.xml"


def test_every_kind_has_a_heading_or_is_withheld() -> None:
    """A kind without a heading of R4624-45-4 is never transferred, deposited or shown whole
    to an assistant.
    """
    for kind in nomenclature.kinds().values():
        assert set(kind.categories) <= set(nomenclature.CATEGORIES)
        if not kind.categories:
            assert (kind.transfer, kind.dmp, kind.publishable) == ("no", "no", False)
            assert kind.assistant != "yes"


def test_an_unknown_or_absent_code_is_to_be_qualified() -> None:
    """Nothing that was not coded gets the rights of a coded document."""
    assert nomenclature.kind_of(None).code == "DMST-AUTRE"
    assert nomenclature.kind_of("DMST-INVENTE").code == "DMST-AUTRE"
    assert nomenclature.kind_of("DMST-AUDIO").type_code == "75492-9"


def test_assistants_see_only_headings_1_and_2() -> None:
    """R4624-45-5: an assistant's delegation covers 1° and 2°; 5° only if the service says so."""
    for kind in nomenclature.kinds().values():
        if kind.assistant == "yes":
            assert set(kind.categories) <= {"1", "2"}, kind.code
        if kind.assistant == "configurable":
            assert kind.categories == ("5",)


def test_personal_notes_and_whole_folders_never_leave_for_the_dmp() -> None:
    """R4127-45 and the rule against non-selective deposit."""
    for code in ("DMST-NT", "DMST-FONDS", "DMST-AUTRE", "DMST-ID"):
        kind = nomenclature.kind_of(code)
        assert kind.dmp == "no"
        assert not kind.publishable


def test_candidates_for_the_dmp_have_a_type_that_the_dmp_knows() -> None:
    """51851-4 is not in JDV_J66, and classes 60 and 90 are refused by the DMP."""
    for kind in nomenclature.kinds().values():
        if kind.dmp != "no":
            assert kind.publishable
            assert kind.type_code != "51851-4"
            assert kind.class_code not in {"60", "90"}


def test_types_and_labels_are_those_of_the_published_value_set() -> None:
    """Every national type code, system and label of the table stands so in JDV_J07."""
    if not JDV_J07.exists():
        pytest.skip("JDV_J07 is not at hand beside the repository")
    published = {
        code: (oid, label)
        for code, oid, label in re.findall(
            r'<Concept code="([^"]+)"\s+codeSystem="([^"]+)"\s+displayName="([^"]+)"',
            JDV_J07.read_text("utf-8"),
        )
    }
    for kind in nomenclature.kinds().values():
        if kind.type_code:
            assert kind.type_system is not None
            assert published[kind.type_code] == (systems.OID_OF[kind.type_system], kind.type_display)


def test_the_table_counts_thirty_five_kinds() -> None:
    """One row per line of the proposed nomenclature, none twice; KINDS is the same mapping."""
    assert len(nomenclature.kinds()) == 35
    assert nomenclature.KINDS is nomenclature.kinds()
