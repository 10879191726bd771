"""What RNIV says of names, matricules, statuses and attributes."""

import itertools

import pytest

from fhir_server.linkage import traits


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("LE GOFF", "LeGoff"),
        ("DE LA TOUR", "Delatour"),
        ("D'ARTAGNAN", "d’Artagnan"),
        ("CŒURDEROY", "COEURDEROY"),
        ("GARÇON--MÜLLER", "garcon muller"),
        ("LÆTITIA", "LAETITIA"),
    ],
)
def test_names_written_otherwise_are_the_same_once_glued(one: str, other: str) -> None:
    """Accents, ligatures, case, hyphen, apostrophe and space do not make another name (EXI ID 10)."""
    assert traits.glued(one) == traits.glued(other)


@pytest.mark.parametrize(
    ("name", "halves"),
    [
        ("MARTIN-DUPONT", ("MARTIN", "DUPONT")),
        ("MARTIN--DUPONT", ("MARTIN", "DUPONT")),
        ("DA SILVA PEREIRA", ("DASILVA", "PEREIRA")),
        ("D'ARTAGNAN DE L'HERAULT", ("DARTAGNAN", "DELHERAULT")),
        ("LE GOFF", ()),
        ("DE LA TOUR", ()),
        ("MARTIN", ()),
        ("", ()),
    ],
)
def test_a_double_name_has_halves_and_a_particle_is_none(name: str, halves: tuple[str, ...]) -> None:
    """Particles stay with the name they introduce."""
    assert traits.halves(name) == halves


@pytest.mark.parametrize(
    "matricule",
    [
        "180032B02040123",
        "109076322083489",
        "209076322083439",
        "209066322012355",
        "109076322088835",
        "101066322075460",
        "277076322082910",
        "279035121518989",
        "277010115400329",
    ],
)
def test_published_test_matricules_have_valid_keys(matricule: str) -> None:
    """Vectors of the INSi and ANS test fixtures, Corsica and NIA included."""
    assert traits.has_valid_key(matricule)


def test_a_wrong_key_is_seen_and_does_not_raise() -> None:
    """Two of the CNDA fixtures carry wrong keys; garbage is no matricule either."""
    assert not traits.has_valid_key("181036322045660")
    assert not traits.has_valid_key("")
    assert not traits.has_valid_key("180032C02040123")


def test_matricules_are_compared_without_their_key() -> None:
    """An index often carries 13 characters, with spaces."""
    assert traits.same_matricule("1 80 03 2B 020 401", "180032b02040123")
    assert not traits.same_matricule("180032B020401", "180032B020402")


def test_a_matricule_implies_sex_and_month_of_birth_or_says_nothing() -> None:
    """Months above 12 stand for an unknown civil status, first digits above 2 for something
    else than a sex.
    """
    assert traits.implied_by_matricule("279035121518989") == ("female", "79-03")
    assert traits.implied_by_matricule("779205121518989") == (None, None)


def test_the_oid_says_what_a_matricule_is_worth() -> None:
    """Bare or as urn, the four INS OIDs and nothing else."""
    assert traits.domain_of("1.2.250.1.213.1.4.8") == "real"
    assert traits.domain_of("urn:oid:1.2.250.1.213.1.4.9") == "provisional"
    assert traits.domain_of("1.2.250.1.213.1.4.10") == "test"
    assert traits.domain_of("1.2.250.1.213.1.4.11") == "demo"
    assert traits.domain_of("1.2.250.1.213.1.4.2") is None
    assert traits.domain_of(None) is None


@pytest.mark.parametrize(
    ("raw", "fhir"),
    [
        ("1980-03-02", "1980-03-02"),
        ("1980-03-00", "1980-03"),
        ("1980-00-00", "1980"),
        ("02/03/1980", None),
        ("0000-00-00", None),
    ],
)
def test_an_incomplete_birth_date_is_truncated(raw: str, fhir: str | None) -> None:
    """INSi writes 00 for what is not known; FHIR leaves it out."""
    assert traits.birth_date_as_fhir(raw) == fhir


def test_the_two_axes_give_the_four_statuses_and_back() -> None:
    """PROV -I-> RECUP -C-> QUAL, PROV -C-> VALI -I-> QUAL, and the I axis is lost when a strict trait
    changes.
    """
    statuses: list[traits.Status] = [
        traits.status_of(retrieved=i, checked=c) for i, c in itertools.product((False, True), repeat=2)
    ]
    assert statuses == ["PROV", "VALI", "RECUP", "QUAL"]
    assert [traits.after_change_of_strict_trait(status) for status in statuses] == [
        "PROV",
        "VALI",
        "PROV",
        "VALI",
    ]


def test_only_a_qualified_identity_without_doubt_lets_its_matricule_out() -> None:
    """EXI ID 29: QUAL, and neither douteuse nor fictive; homonyme does not matter."""
    assert traits.matricule_may_circulate("QUAL", ())
    assert traits.matricule_may_circulate("QUAL", {"homonyme"})
    assert not traits.matricule_may_circulate("QUAL", {"douteuse"})
    statuses: tuple[traits.Status, ...] = ("PROV", "RECUP", "VALI")
    for status in statuses:
        assert not traits.matricule_may_circulate(status, ())


def test_only_douteuse_and_homonyme_combine() -> None:
    """EXI SI 09, EXI ID 24 and 26."""
    assert traits.forbidden_attributes({"douteuse", "homonyme"}) is None
    assert traits.forbidden_attributes(()) is None
    assert traits.forbidden_attributes({"douteuse", "fictive"}) is not None
    assert traits.forbidden_attributes({"fictive", "homonyme"}) is not None
    assert traits.forbidden_attributes({"autre"}) is not None
