"""The systems are well-formed and each stands there once."""

import re

from terminology import systems

CONSTANTS = {name: value for name, value in vars(systems).items() if name.isupper() and isinstance(value, str)}


def test_no_two_names_mean_the_same_uri() -> None:
    """A URI lives once; two professions of one OID would drift apart."""
    values = [value for name, value in CONSTANTS.items() if name not in {"FR_CORE", "OWN"}]
    assert len(values) == len(set(values))


def test_every_constant_is_a_uri_or_an_oid() -> None:
    """FHIR needs absolute URIs; CDA needs bare OIDs."""
    for name, value in CONSTANTS.items():
        if name.endswith("_OID"):
            assert re.fullmatch(r"[0-2](\.(0|[1-9]\d*))+", value), name
        else:
            assert re.match(r"(https?://|urn:)", value), name
            assert not value.endswith("/")


def test_the_ins_oids_are_the_four_of_the_referentiel() -> None:
    """Real, provisional, test and demonstration matricules differ by their last arc only."""
    assert [f"1.2.250.1.213.1.4.{arc}" for arc in (8, 9, 10, 11)] == [
        systems.INS_NIR_OID,
        systems.INS_NIA_OID,
        systems.INS_TEST_OID,
        systems.INS_DEMO_OID,
    ]


def test_nos_systems_follow_the_published_pattern() -> None:
    """`NOS/TRE_X/FHIR/TRE-X`: the underscore becomes a hyphen and the name repeats."""
    for name, value in CONSTANTS.items():
        if name.startswith(("TRE_", "JDV_")) and not name.endswith("_OID"):
            folder, last = value.removeprefix(systems.NOS + "/").split("/FHIR/")
            assert last == folder.replace("_", "-", 1), name
