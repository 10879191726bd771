"""The guards: what forbids a certain match however high the score. Pure.

A score cannot tell twins: family, birth date and place outweigh one given name. Each guard is a case in which documents
have been filed in the record of another person (identito-vigilance, RNIV 1 v2.0: collision). G1 to G7 are those of the
specification; what else forbids certainty has a code without a number.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from rapidfuzz.distance import DamerauLevenshtein, JaroWinkler

from fhir_server.linkage.comparable import Comparable
from fhir_server.linkage.score import Waterfall

WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "G1-same-family": "même nom et même date de naissance, autre prénom : jumeau ou fratrie possible",
        "G2-homonym": "mêmes nom et prénom, autre date de naissance : homonyme possible",
        "G3-other-matricule": "les matricules INS (NIR) diffèrent",
        "G4-matricule-traits": "le matricule est contredit par des traits : NIR partagé ou celui d'un proche",
        "G5-other-sex": "le sexe diffère",
        "G6-rival": "un autre salarié concorde presque aussi bien",
        "G7-no-birth-date": "aucune date de naissance complète à comparer",
        "other-birth-name": "le nom utilisé concorde, mais les deux noms de naissance diffèrent",
        "other-birth-place": "le lieu de naissance diffère",
        "test-matricule": "matricule INS de test ou de démonstration",
    }
)
"""Code of a guard -> what the reviewer reads. G6 is decided in grade.py, over all candidates at once."""

AGREES: Final = frozenset({"agree", "near"})
_GENERATION: Final = 12
"""Years between two birth dates from which a differing year is no slip: father and son of the same names."""

Guard = Callable[[Comparable, Comparable, Waterfall], bool]


def _same_family(_: Comparable, __: Comparable, found: Waterfall) -> bool:
    """G1. A given name that only begins alike (JEAN, JEAN-PIERRE) is another one: twins are named so. Where the NIR is
    the same one, its order number has told twins apart, and only a contradiction counts (G4).
    """
    if found.says("family") not in {"agree", "near", "weak"} or found.says("born") != "agree":
        return False
    return (
        found.says("given") in {"weak", "against", "nothing"}
        and found.level("family") not in {"swapped", "nearly swapped"}
        and not (found.says("nir") == "agree" and found.says("given") == "weak")
    )


def _homonym(one: Comparable, other: Comparable, found: Waterfall) -> bool:
    """G2. Also two dates one digit apart that are a generation apart."""
    if found.says("family") not in AGREES or found.says("given") not in {"agree", "near", "nothing"}:
        return False
    return found.says("born") == "against" or _generation_apart(one, other)


def _generation_apart(one: Comparable, other: Comparable) -> bool:
    return bool(one.year and other.year) and abs(int(one.year or 0) - int(other.year or 0)) >= _GENERATION


def _other_matricule(one: Comparable, other: Comparable, found: Waterfall) -> bool:
    """G3. A number one or two digits apart is the same one misread only where its key says that it was misread."""
    level = found.level("nir")
    if level in {None, "same"}:
        return False
    return level not in {"slip", "two slips"} or not (one.nir_damaged or other.nir_damaged)


def _matricule_and_traits(one: Comparable, other: Comparable, found: Waterfall) -> bool:
    """G4. The same number and other traits, or the same number that is not the worker's own (a dependant's record
    under the number of the insured) and no birth date that tells; or a number that speaks of another sex or month of
    birth than the other person has, whose number is not known: that of a spouse, a parent, a child.
    """
    if found.says("nir") == "agree":
        against = {found.says(field) for field in ("family", "given", "born", "sex")}
        return "against" in against or (found.says("born") != "agree" and _speaks_of_another(other, other))
    if found.says("nir") != "nothing":  # two numbers: G3
        return False
    return _speaks_of_another(one, other, slips=1 if one.nir_damaged else 0)


def _speaks_of_another(numbered: Comparable, person: Comparable, *, slips: int = 0) -> bool:
    """Whether the NIR of the one implies another sex or month of birth than the other has, by more than so many digits
    (one where its key says that it was misread).
    """
    sexes = bool(numbered.nir_sex and person.sex and numbered.nir_sex != person.sex)
    apart = 0
    if numbered.nir_year_month and person.born and person.year_month:
        apart = DamerauLevenshtein.distance(numbered.nir_year_month, person.year_month)
    return sexes + apart > slips


def _other_sex(_: Comparable, __: Comparable, found: Waterfall) -> bool:
    return found.says("sex") == "against"


def _no_birth_date(_: Comparable, __: Comparable, found: Waterfall) -> bool:
    """G7. The NIR holds year and month of birth: where it is the same one and both names agree, a date that neither
    contradicts nor confirms is not missed.
    """
    if found.says("born") not in {"nothing", "weak"}:
        return False
    return not (found.says("nir") == found.says("family") == found.says("given") == "agree")


def _other_birth_name(one: Comparable, other: Comparable, _: Waterfall) -> bool:
    """Both state birth name and used name, so that it is known which is which; and the birth names are unlike."""
    born = (one.birth_name, other.birth_name)
    used = (one.used_name, other.used_name)
    if not all(born) or not all(used) or born[0] in used or born[1] in used:
        return False
    a, b = str(born[0]), str(born[1])
    return a not in b and b not in a and JaroWinkler.normalized_similarity(a, b) < 0.78


def _other_place(_: Comparable, __: Comparable, found: Waterfall) -> bool:
    return found.says("place") == "against"


def _fictitious(one: Comparable, other: Comparable, _: Waterfall) -> bool:
    return one.fictitious or other.fictitious


GUARDS: Final[Mapping[str, Guard]] = MappingProxyType(
    {
        "G1-same-family": _same_family,
        "G2-homonym": _homonym,
        "G3-other-matricule": _other_matricule,
        "G4-matricule-traits": _matricule_and_traits,
        "G5-other-sex": _other_sex,
        "G7-no-birth-date": _no_birth_date,
        "other-birth-name": _other_birth_name,
        "other-birth-place": _other_place,
        "test-matricule": _fictitious,
    }
)


def guards_of(one: Comparable, other: Comparable, found: Waterfall) -> tuple[str, ...]:
    """The codes of the guards that forbid certainty about this pair: `one` came in, `other` is of the register."""
    return tuple(code for code, guard in GUARDS.items() if guard(one, other, found))
