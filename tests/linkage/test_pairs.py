# ruff: noqa: E501
"""Hand-written French pairs: what the register knows, what came in, and the grade that identitovigilance expects.

One line is one pair. `Y` is the worker of the register, `X` what came in; a guard is named where it is why.
"""

import re

import pytest

from fhir_server.linkage.comparable import Comparable, comparable
from fhir_server.linkage.grade import Candidate, Graded, Judge
from fhir_server.linkage.model import default_model
from fhir_server.linkage.traits import Sex, TraitsIns

# birth name / used name | given names | birth date | sex | birth place | NIR (current, former...)
# register                                                                        => incoming                 => grade guard
PAIRS = """
# the same person, written otherwise
LE GOFF | Yann | 1979-03-14 | M | 29019 |                                          => LEGOFF | YANN | 1979-03-14 | M | | => certain
DE LA TOUR | Anne | 1985-06-02 | F | 75115 |                                       => DELATOUR | Anne | 1985-06-02 | F | | => certain
DE LA TOUR | Anne | 1985-06-02 | F | 75115 |                                       => TOUR | Anne | 1985-06-02 | F | | => certain
D'ARTAGNAN | Charles | 1971-11-03 | M | 32013 |                                    => DARTAGNAN | Charles | 1971-11-03 | M | | => certain
MÜLLER | Zoé | 1990-01-22 | F | 67482 |                                            => muller | zoe | 1990-01-22 | F | | => certain
SAINT-MARTIN | Léa | 1994-08-30 | F | 33063 |                                      => Saint Martin | LEA | 1994-08-30 | F | | => certain
BŒUF | Guy | 1961-04-17 | M | 21054 |                                              => BOEUF | GUY | 1961-04-17 | M | | => certain
N'GUESSAN | Aya | 1988-02-09 | F | 99326 |                                         => NGUESSAN | AYA | 1988-02-09 | F | | => certain
LOPEZ | Jean-Pierre | 1968-09-12 | M | 31555 |                                     => LOPEZ | JEAN PIERRE | 1968-09-12 | M | | => certain
LOPEZ | Jean-Pierre, Marie | 1968-09-12 | M | 31555 |                              => LOPEZ | JEANPIERRE | 1968-09-12 | M | | => certain
VASSEUR | Jean, Pierre, Louis | 1959-05-25 | M | 59350 |                           => VASSEUR | JEAN PIERRE LOUIS | 1959-05-25 | M | | => certain
VASSEUR | Jean, Pierre, Louis | 1959-05-25 | M | 59350 |                           => VASSEUR | JEAN | 1959-05-25 | | | => certain
# birth name, used name, double names by either half
DURAND / MARTIN | Sophie | 1980-07-19 | F | 69383 |                                => MARTIN | SOPHIE | 1980-07-19 | F | | => certain
DURAND / MARTIN | Sophie | 1980-07-19 | F | 69383 |                                => DURAND | SOPHIE | 1980-07-19 | F | | => certain
DURAND / DURAND-MARTIN | Sophie | 1980-07-19 | F | 69383 |                         => MARTIN | SOPHIE | 1980-07-19 | F | | => certain
LAMBERT-ROCHE | Hugo | 1999-12-08 | M | 44109 |                                    => ROCHE | HUGO | 1999-12-08 | M | | => certain
LAMBERT ROCHE | Hugo | 1999-12-08 | M | 44109 |                                    => LAMBERT | HUGO | 1999-12-08 | M | | => certain
LAMBERT | Hugo | 1999-12-08 | M | 44109 |                                          => LAMBERT--ROCHE | HUGO | 1999-12-08 | M | | => certain
PETIT / MARTIN | Sophie | 1980-07-19 | F | 69383 |                                 => DURAND / MARTIN | SOPHIE | 1980-07-19 | F | | => possible other-birth-name
DURAND | Sophie | 1980-07-19 | F | 69383 |                                         => KOWALSKI | SOPHIE | 1980-07-19 | F | 69383 | => not-certain
# slips of the pen, of the ear and of character recognition
GAUTHIER | Émilie | 1982-10-05 | F | 35238 |                                       => GAUTIER | EMILIE | 1982-10-05 | F | | => certain
THIBAULT | Marc | 1975-02-11 | M | 86194 |                                         => THIBAUT | MARC | 1975-02-11 | M | | => certain
LEFEBVRE | Karine | 1977-06-21 | F | 62041 |                                       => LEFEVRE | KARINE | 1977-06-21 | F | | => certain
MARTINEZ | Ludovic | 1987-03-03 | M | 34172 |                                      => MART1NEZ | LUD0VIC | 1987-03-03 | M | | => certain
FOURNIER | Catherine | 1966-08-15 | F | 49007 |                                    => FOUMIER | CATHERINE | 1966-08-15 | F | | => certain
SCHNEIDER | Christophe | 1972-12-01 | M | 67482 |                                  => SCHNEIDER | CHRISTOHPE | 1972-12-01 | M | | => certain
BOUCHARD | Philippe | 1963-04-29 | M | 87085 |                                     => PHILIPPE | BOUCHARD | 1963-04-29 | M | | => certain
GUILLEMOT | Guillaume | 1981-10-09 | M | 56121 |                                    => GUILLEMOT | GUILL | 1981-10-09 | M | | => certain
GUILLEMOT | Guillaume | 1981-10-09 | M | 56121 |                                    => GUILLEMOT | G | 1981-10-09 | M | | => not-certain
GUILLEMOT | Jean-Pierre | 1981-10-09 | M | 56121 |                                  => GUILLEMOT | JEAN-P | 1981-10-09 | M | | => not-certain
MARTIN | Nicolas | 1981-10-09 | M | 56121 |                                         => MARTINET | NICOLAS | 1981-10-09 | M | | => not-certain
VASSELIN | Nicolas | 1981-10-09 | M | 56121 |                                       => VSSELINN | NICOLAS | 1981-10-09 | M | | => certain
SAINTE-ROSE | Nicolas | 1981-10-09 | M | 97129 |                                    => STE ROSE | NICOLAS | 1981-10-09 | M | | => certain
BOUCHARD | Philippe | 1963-04-29 | M | 87085 |                                     => PHILIPE | BOUCHART | 1963-04-29 | M | | => probable
# dates
ROUSSEAU | Claire | 1984-05-07 | F | 45234 |                                       => ROUSSEAU | CLAIRE | 1984-07-05 | F | | => probable
ROUSSEAU | Claire | 1984-05-07 | F | 45234 |                                       => ROUSSEAU | CLAIRE | 1984-05-17 | F | | => probable
ROUSSEAU | Claire | 1984-05-07 | F | 45234 |                                       => ROUSSEAU | CLAIRE | 1984-01-01 | F | | => not-certain
ROUSSEAU | Claire | 1984-05-07 | F | 45234 |                                       => ROUSSEAU | CLAIRE | 1984 | F | | => possible G7-no-birth-date
ROUSSEAU | Claire | 1984-05-07 | F | 45234 |                                       => ROUSSEAU | CLAIRE | 1984-05-00 | F | | => possible G7-no-birth-date
ROUSSEAU-KERMADEC | Claire | 1984-05-07 | F | 45234 |                              => ROUSSEAU KERMADEC | CLAIRE | | F | | => possible G7-no-birth-date
ROUSSEAU | Claire | 1984-05-07 | F | 45234 |                                       => ROUSSEAU | CLAIRE | 1984-13-45 | F | | => not-certain
# twins and siblings
GARNIER | Jules | 2001-03-18 | M | 38185 |                                         => GARNIER | HUGO | 2001-03-18 | M | 38185 | => possible G1-same-family
GARNIER | Jean | 1958-03-18 | M | 38185 |                                          => GARNIER | JEAN-PIERRE | 1958-03-18 | M | 38185 | => possible G1-same-family
GARNIER | Jean-Pierre | 1958-03-18 | M | 38185 |                                   => GARNIER | JEAN | 1958-03-18 | M | 38185 | => possible G1-same-family
GARNIER | Marie-Louise | 1961-09-27 | F | 38185 |                                  => GARNIER | MARIE-LAURE | 1961-09-27 | F | 38185 | => possible G1-same-family
GARNIER | Marie | 1961-09-27 | F | 38185 |                                         => GARNIER | MARION | 1961-09-27 | F | 38185 | => possible G1-same-family
GARNIER | Lina | 2003-11-11 | F | 93066 |                                          => GARNIER | LENA | 2003-11-11 | F | 93066 | => possible G1-same-family
GARNIER | Louis | 1995-01-30 | M | 93066 |                                         => GARNIER | LOUISE | 1995-01-30 | | 93066 | => possible G1-same-family
GARNIER | Louis | 1995-01-30 | M | 93066 |                                         => GARNIER | LOUISE | 1995-01-30 | F | 93066 | => not-certain
GARNIER | Pascal | 1969-01-30 | M | 93066 |                                        => GARNIER | PASCALE | 1969-01-30 | | 93066 | => possible G1-same-family
GARNIER | Hassan | 1992-07-04 | M | 99350 |                                        => GARNIER | HUSSEIN | 1992-07-04 | M | 99350 | => possible G1-same-family
GARNIER | Jules | 2001-03-18 | M | 38185 | 1010338185021                           => GARNIER | HUGO | 2001-03-18 | M | | 1010338185022 => none
GARNIER | Jules | 2001-03-18 | M | 38185 | 1010338185021                           => GARNIER | JULES | 2001-03-18 | M | | 1010338185022 => possible G3-other-matricule
GARNIER | Jules, Hugo | 2001-03-18 | M | 38185 |                                   => GARNIER | HUGO | 2001-03-18 | M | 38185 | => possible G1-same-family
# homonyms, father and son
MARTIN | Jean | 1950-06-12 | M | 75112 |                                           => MARTIN | JEAN | 1980-06-12 | M | | => not-certain
MOREAU-DELPIERRE | Louis | 1952-06-12 | M | 80021 |                                => MOREAU-DELPIERRE | LOUIS | 1982-06-12 | M | 80021 | => possible G2-homonym
MOREAU-DELPIERRE | Louis | 1952-06-12 | M | 80021 |                                => MOREAU-DELPIERRE | LOUIS | 1983-11-02 | M | | => not-certain
MARTIN | Marie | 1970-01-01 | F | 75112 |                                          => MARTIN | MARIE | 1976-10-25 | F | | => none
# NIR
CORSE | Anthony | 1980-03-02 | M | 2B020 | 180032B02040123                         => CORSE | ANTHONY | 1980-03-02 | M | | 180032B02040123 => certain
CORSE | Anthony | 1980-03-02 | M | 2B020 | 180032B02040123                         => CORSE | ANTHONY | | | | 180032B020401 => certain
ECETINSI | Pierre-Alain | 2009-07-14 | M | 63220 | 109076322083489, 209076322083439 => ECETINSI | PIERRE-ALAIN | 2009-07-14 | M | | 209076322083439 => certain
LAMY | Paul | 1976-05-20 | M | 14118 | 176051411801233                             => LAMY | PAULE | 1978-09-02 | F | | 176051411801233 => possible G4-matricule-traits
LAMY | Paul | 1976-05-20 | M | 14118 | 176051411801233                             => LAMY | ENZO | 2004-02-13 | M | | 176051411801233 => possible G4-matricule-traits
LAMY | Paul | 1976-05-20 | M | 14118 | 176051411801233                             => LAMY | PAUL | 2004-02-13 | M | | 176051411801233 => possible G4-matricule-traits
LAMY | Paul | 1976-05-20 | M | 14118 |                                             => LAMY | PAUL | 1976-05-20 | M | | 278091411804417 => possible G4-matricule-traits
LAMY | Paul | 1976-05-20 | M | 14118 |                                             => LAMY | PAUL | 1976-05-20 | M | | 176111411804417 => possible G4-matricule-traits
LAMY | Paul | 1976-05-20 | M | 14118 |                                             => LAMY | PAUL | 1976-05-20 | M | | 176055935001288 => possible other-birth-place
LAMY | Paul | 1976-05-20 | M | 14118 | 176051411801233                             => LAMY | PAUL | 1976-05-20 | M | | 176055935001288 => possible G3-other-matricule
LAMY | Paul | 1976-05-20 | M | 14118 | 176051411801233                             => | | | | | 176051411801233 => not-certain
LAMY | Paul | 1976-05-20 | M | 14118 | 176051411801233                             => LAMY | PAUL | 1976-05-20 | M | | 000000000000000 => certain
LAMY | Jean-Paul | 1976-05-20 | M | 14118 | 176051411801233                        => LAMY | JEAN | 1976-05-20 | M | | 176051411801233 => certain
LAMY | Paul | 1976-05-20 | M | 14118 | 176051411801233                             => LAMY | PAUL | 1976-05-02 | M | | 176051411801233 => certain
LAMY | Paul | 1976-05-20 | M | 14118 | 176051411801233                             => LAMI | PAUL | 1976-05-02 | M | | 176051411801233 => probable
LAMY | Paul | 2004-02-13 | M | 14118 | 176051411801233                             => LAMY | PAUL | | M | | 176051411801233 => possible G4-matricule-traits
GARNIER | Fatoumata | 1996-09-27 | F | 99335 |                                      => GARNIER | FATOUMATOU | 1996-09-27 | F | 99335 | => possible G1-same-family
# sex, place
LAMY | Camille | 1993-04-04 | F | 14118 |                                          => LAMY | CAMILLE | 1993-04-04 | M | | => possible G5-other-sex
LAMY | Camille | 1993-04-04 | F | 14118 |                                          => LAMY | CAMILLE | 1993-04-04 | F | 13055 | => possible other-birth-place
CASANOVA | Ange | 1970-04-04 | M | 2A004 |                                         => CASANOVA | ANGE | 1970-04-04 | M | 20004 | => certain
LAMY | Camille | 1993-04-04 | F | 75115 |                                          => LAMY | CAMILLE | 1993-04-04 | F | 75056 | => certain
LAMY | Camille | 1993-04-04 | F | 14118 |                                          => LAMY | CAMILLE | 1993-04-04 | F | 99999 | => certain
# nobody
LAMY | Camille | 1993-04-04 | F | 14118 |                                          => BERGER | NOAH | 1988-10-11 | M | | => none
LAMY | Camille | 1993-04-04 | F | 14118 |                                          => | | | | | => none
LAMY | Camille | 1993-04-04 | F | 14118 |                                          => | | 1993-04-04 | F | | => none
LAMY | Camille | 1993-04-04 | F | 14118 |                                          => LAMY | | 1993-04-04 | F | | => not-certain
"""

_SEX: dict[str, Sex] = {"M": "male", "F": "female"}


def person(text: str) -> Comparable:
    """One side of a line."""
    names, given, born, sex, place, nirs = (part.strip() for part in (text.strip() + " |" * 6).split("|")[:6])
    birth, _, used = (part.strip() for part in names.partition("/"))
    numbers = [number.strip() for number in nirs.split(",") if number.strip()]
    model = default_model()
    stated = TraitsIns(
        birth_name=birth or None,
        used_name=used or None,
        given_names=tuple(name.strip() for name in given.split(",") if name.strip()),
        birth_date=born or None,
        sex=_SEX.get(sex),
        birth_place=place or None,
        matricule_ins=numbers[0] if numbers else None,
    )
    return comparable(stated, numbers[1:], families=model.families, givens=model.givens)


def judged(stated: Comparable, *register: Comparable) -> tuple[Graded, ...]:
    judge = Judge(default_model(), 100_000)
    return judge.grade(stated, [Candidate(str(place), one) for place, one in enumerate(register)])


LINES = [line for line in PAIRS.strip().splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("line", LINES, ids=lambda line: re.sub(r"\s+", " ", line))
def test_a_pair_is_graded_as_identitovigilance_expects(line: str) -> None:
    known, stated, expected = line.split("=>")
    grade, _, guard = expected.strip().partition(" ")
    found = judged(person(stated), person(known))[0]
    told = f"{found.odds:.1f} bits, {found.reasons}, {[(s.field, s.level, s.bits) for s in found.waterfall.steps]}"
    if grade == "not-certain":
        assert found.grade != "certain", told
    else:
        assert found.grade == grade, told
    assert guard in ("", *found.reasons), told


def test_there_are_pairs_enough() -> None:
    assert len(LINES) >= 50
