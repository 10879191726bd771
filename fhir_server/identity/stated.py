"""What a query says of a person, and what is wrong with it. Pure.

Too little said is refused: a question that everybody answers is fishing. What is odd (a key that does not fit, a number
that speaks of another birth date) is told, and the question is answered.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from fhir_server.identity.matcher import Stated
from fhir_server.linkage.comparable import Comparable
from fhir_server.linkage.workers import traits_of
from fhir_server.outcomes import Issue
from mappings.patient_match import local_identifiers, stated_identity, stated_matricules
from terminology.ins import domain_of

LEAST: Final = 2
LONGEST: Final = 500
"""Of a name, 80 characters are compared."""
MOST_MATRICULES: Final = 8
_MATRICULE: Final = "Patient.identifier"


def stated_of(patient: Mapping[str, Any]) -> Stated:
    """A Patient that somebody is looked for by; of several current INS the first counts, the others as former ones."""
    numbers = stated_matricules(patient)
    traits = traits_of(stated_identity(patient))
    if numbers and not numbers[0].former:
        first, *others = numbers
        traits = replace(traits, matricule_ins=first.value, oid_ins=first.oid_ins)
    else:
        others = numbers
    former = tuple(one.value for one in others[:MOST_MATRICULES])
    return Stated(traits, former, tuple(local_identifiers(patient)))


def too_long(patient: Mapping[str, Any]) -> list[Issue]:
    """Errors where a name or an identifier is no text of a person. Asked before anything is compared."""
    held = [
        *((f"Patient.name[{at}].family", name.get("family")) for at, name in enumerate(patient.get("name", []))),
        *(
            (f"Patient.name[{at}].given", given)
            for at, name in enumerate(patient.get("name", []))
            for given in name.get("given", [])
        ),
        *((f"{_MATRICULE}[{at}].value", one.get("value")) for at, one in enumerate(patient.get("identifier", []))),
    ]
    text = f"Longer than {LONGEST} characters: this is no name or number of a person"
    return [Issue("error", "too-long", text, place) for place, value in held if len(value or "") > LONGEST]


def problems_of(stated: Stated, compared: Comparable, *, production: bool) -> list[Issue]:
    """Errors where less than two of family name, given name, birth date and NIR are stated; and warnings."""
    return [*_too_little(compared), *_odd(stated, compared, production=production)]


def _too_little(compared: Comparable) -> list[Issue]:
    held = {
        "Patient.name.family": compared.families,
        "Patient.name.given": compared.given_first,
        "Patient.birthDate": compared.born or compared.born_partly,
        _MATRICULE: compared.nirs,
    }
    if sum(map(bool, held.values())) >= LEAST:
        return []
    text = "Too little is stated of the person: two at least of family name, given name, birth date and INS"
    return [Issue("error", "required", text, place) for place, value in held.items() if not value]


def _odd(stated: Stated, compared: Comparable, *, production: bool) -> list[Issue]:
    found: list[Issue] = []
    traits = stated.traits
    if traits.matricule_ins and not compared.nirs:
        found.append(_warning("value", "The INS is no NIR or NIA: 13 characters and a key", _MATRICULE))
    elif compared.nir_damaged:
        found.append(_warning("value", "The key of the INS does not fit: a digit of it may be wrong", _MATRICULE))
    if production and domain_of(traits.oid_ins) in ("test", "demo"):
        found.append(
            _warning("business-rule", "A test or demonstration INS: no match is certain", f"{_MATRICULE}.system")
        )
    if compared.nir_sex and compared.sex and compared.nir_sex != compared.sex:
        found.append(_warning("business-rule", "The INS speaks of another sex", "Patient.gender"))
    if compared.nir_year_month and compared.year_month and compared.nir_year_month != compared.year_month:
        found.append(_warning("business-rule", "The INS speaks of another month of birth", "Patient.birthDate"))
    return found


def _warning(code: str, text: str, place: str) -> Issue:
    return Issue("warning", code, text, place)
