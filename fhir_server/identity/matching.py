"""Whose document is it: evidence of one scanned folder x known workers -> Certain | Doubtful | Unknown. Pure.

RNIV 1 v2.0 (identitovigilance), Referentiel INS v2.1; the guards G1 to G7 are in `REASONS`. A folder in the
wrong record is a collision of two persons, the worst outcome there is: whatever is not plainly certain is
left to a human.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from fhir_server.identity.policy import decide
from fhir_server.linkage.grade import Graded
from fhir_server.linkage.guards import WORDS as GUARD_WORDS
from fhir_server.linkage.traits import (
    Status,
    TraitsIns,
    domain_of,
    glued,
    halves,
    implied_by_matricule,
    same_matricule,
    without_particles,
    words,
)
from fhir_server.scans.cover import CoverReading

Anomaly = Literal["E08", "E10", "E11", "E12", "E13"]
Verdict = Literal["agree", "neutral", "conflict"]
Grades = Sequence[Mapping[str, Graded]]
"""For each source that states traits: the id of a candidate, and how likely he is meant."""
MOST_SHOWN: Final = 20
"""Candidates that a reviewer is shown."""
_WRITTEN_OTHERWISE: Final = frozenset({"name", "given-name"})
_KINDEST_FIRST: Final[tuple[Verdict, ...]] = ("agree", "neutral", "conflict")

REASONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "folder-number": "le numéro de dossier désigne ce salarié",
        "matricule": "le matricule INS est le sien",
        "name": "le nom concorde",
        "given-name": "le prénom concorde",
        "birth-date": "la date de naissance concorde",
        "sex": "le sexe concorde",
        "birth-place": "le lieu de naissance concorde",
        **GUARD_WORDS,
        "matricule-of-other-sex-or-birth": "le matricule lu implique un autre sexe ou une autre naissance",
        "traits-conflict": "des traits se contredisent",
        "traits-missing": "les traits ne suffisent pas",
        "folder-number-unknown": "le numéro de dossier est inconnu",
        "folder-number-missing": "le code-barres du dossier manque ou est illisible",
        "folder-number-shared": "le numéro de dossier désigne plusieurs salariés",
        "folder-number-of-another": "le numéro de dossier désigne un autre salarié",
        "several-persons": "plusieurs personnes dans un même dossier (codes INS lus)",
        "several-folders": "plusieurs numéros de dossier lus sur les pages",
        "index-and-page-differ": "l'index et un code INS lu sur une page se contredisent",
        "status-review": "identité provisoire ou homonyme signalé : rattachement par une personne",
        "status-never": "identité douteuse ou fictive : aucun rattachement",
        "nobody": "aucun salarié ne correspond",
        "cover-agrees": "ce qui se lit sur la couverture concorde (lecture automatique)",
        "cover-differs": "ce qui se lit sur la couverture contredit ce salarié (lecture automatique)",
        "cover-other-matricule": "le numéro de sécurité sociale lu sur la couverture est celui d'un autre",
        "cover-names-another": "la couverture semble nommer une autre personne (lecture automatique)",
        "cover-proposes": "proposé d'après la lecture automatique de la couverture seule",
    }
)
"""Code of a reason -> what the reviewer reads."""


@dataclass(frozen=True, slots=True)
class Known:
    """A worker of the register, with all that designates him: former matricules and every folder number
    included.
    """

    patient_id: str
    traits: TraitsIns
    former_matricules: tuple[str, ...]
    status: Status
    attributes: frozenset[str]
    folder_numbers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one scanned folder says of its owner.

    `folder_number` is that of its cover sheet, `index` the traits of the provider's index, `codes` the INS
    datamatrices and `barcodes` the folder numbers read on the pages. `read` is what was read of the words of the
    cover: `match` does not look at it, `reading.with_reading` does, and only to doubt or to propose.
    """

    folder_number: str | None
    index: TraitsIns | None
    codes: tuple[TraitsIns, ...]
    barcodes: tuple[str, ...]
    read: CoverReading | None = None


@dataclass(frozen=True, slots=True)
class Scored:
    """A worker who could be the owner, and what speaks for and against, in codes of `REASONS` or names of
    traits.
    """

    patient_id: str
    agreements: tuple[str, ...]
    conflicts: tuple[str, ...]
    graded: Graded | None = None


@dataclass(frozen=True, slots=True)
class Certain:
    """It is this worker, and his status allows the folder to be attached without a human."""

    patient_id: str
    reasons: tuple[str, ...]
    graded: Graded | None = None


@dataclass(frozen=True, slots=True)
class Doubtful:
    """A human must choose. `candidates` come most likely first; `reasons` are codes of `REASONS`."""

    candidates: tuple[Scored, ...]
    code: Anomaly
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unknown:
    """No known worker is like this one."""

    code: Literal["E10"]
    reasons: tuple[str, ...]


Match = Certain | Doubtful | Unknown


# --- one trait against one trait


def _same_name(one: str, other: str) -> Verdict:
    """Equal once glued, or either half of a double name; a missing particle decides nothing."""
    a, b = glued(one), glued(other)
    if not a or not b:
        return "neutral"
    if a == b or a in halves(other) or b in halves(one):
        return "agree"
    bare = without_particles(one)
    return "neutral" if bare and bare == without_particles(other) else "conflict"


def compare_names(stated: TraitsIns, known: TraitsIns) -> Verdict | None:
    """Birth name with birth name; across to the used name only where that contradicts no
    other name stated.
    """
    if stated.birth_name and known.birth_name:
        direct = _same_name(stated.birth_name, known.birth_name)
        if direct != "conflict":
            return direct
    verdicts: list[Verdict] = []
    if stated.birth_name and known.used_name:
        cross = _same_name(stated.birth_name, known.used_name)
        others = [n for n in (known.birth_name, known.used_name) if n]
        contradicted = stated.used_name and all(_same_name(stated.used_name, n) == "conflict" for n in others)
        verdicts.append("conflict" if contradicted else cross)
    if stated.used_name and not (stated.birth_name and known.birth_name):
        verdicts.extend(_same_name(stated.used_name, n) for n in (known.used_name, known.birth_name) if n)
    if stated.birth_name and known.birth_name:
        verdicts.append("conflict")
    return next((v for v in _KINDEST_FIRST if v in verdicts), None)


def _ends(given_names: Iterable[str]) -> tuple[tuple[str, ...], frozenset[int]]:
    """All words of a list of given names in a row, and after how many words each name of the list ends."""
    row: list[str] = []
    ends: set[int] = set()
    for name in given_names:
        row += words(name)
        ends.add(len(row))
    return tuple(row), frozenset(ends - {0})


def compare_given_names(stated: Sequence[str], known: Sequence[str]) -> Verdict | None:
    """The first given name against the start of the list; hyphen, apostrophe and space are one (EXI ID 10).

    JEAN agrees with JEAN, PIERRE and JEAN-PIERRE with JEAN, PIERRE; JEAN against JEAN-PIERRE decides nothing,
    since twins are named so; neither does an initial or a second given name.
    """
    (a, ends_a), (b, ends_b) = _ends(stated), _ends(known)
    if not a or not b:
        return None
    first = glued(stated[0])
    if any(a[:n] == b[:n] for n in ends_a & ends_b) or (first and first == glued(known[0])):
        return "agree"
    shorter = min(len(a), len(b))
    initials = len(a[0]) == 1 or len(b[0]) == 1
    if a[:shorter] == b[:shorter] or "".join(a) == "".join(b) or (initials and a[0][0] == b[0][0]):
        return "neutral"
    later = {glued(name) for name in stated} & {glued(name) for name in known}
    return "neutral" if later else "conflict"


def compare_birth_dates(stated: str | None, known: str | None) -> Verdict | None:
    """Two full dates agree or conflict; a partial one may only conflict."""
    if not stated or not known:
        return None
    if len(stated) == len(known) == len("AAAA-MM-JJ"):
        return "agree" if stated == known else "conflict"
    return "neutral" if stated.startswith(known) or known.startswith(stated) else "conflict"


_CITIES: Final = {"75": "75056", "69": "69123", "13": "13055"}


def compare_birth_places(stated: str | None, known: str | None) -> Verdict | None:
    """Two COG codes; unknown places, a city against its arrondissement and old Corsican
    codes decide nothing.
    """
    if not stated or not known or "99999" in (stated, known):
        return None
    if stated == known:
        return "agree"
    city = _CITIES.get(stated[:2])
    corsican = {stated[:2], known[:2]} <= {"20", "2A", "2B"} and stated[2:] == known[2:]
    if corsican or (stated[:2] == known[:2] and city in (stated, known)):
        return "neutral"
    return "conflict"


def _compare_sexes(stated: str | None, known: str | None) -> Verdict | None:
    if stated in (None, "unknown") or known in (None, "unknown"):
        return None
    return "agree" if stated == known else "conflict"


def _compare_matricules(stated: TraitsIns, known: Known) -> Verdict | None:
    """The matricule against the present and all former ones of the worker."""
    if not stated.matricule_ins:
        return None
    held = [m for m in (known.traits.matricule_ins, *known.former_matricules) if m]
    if not held:
        return None
    return "agree" if any(same_matricule(stated.matricule_ins, m) for m in held) else "conflict"


def _implies_another(stated: TraitsIns, known: Known) -> bool:
    """A spouse's number on the file: where the worker has no matricule to compare, what the number says of
    sex and birth.
    """
    if not stated.matricule_ins or known.traits.matricule_ins or known.former_matricules:
        return False
    sex, born = implied_by_matricule(stated.matricule_ins)
    month = (known.traits.birth_date or "")[2:7]
    return _compare_sexes(sex, known.traits.sex) == "conflict" or bool(born and len(month) == 5 and born != month)


# --- one worker against the whole evidence


@dataclass(frozen=True, slots=True)
class _Compared:
    """One source of traits (the index, or one datamatrix) against one worker."""

    name: Verdict | None
    given: Verdict | None
    born: Verdict | None
    sex: Verdict | None
    place: Verdict | None
    matricule: Verdict | None

    def said(self, verdict: Verdict) -> tuple[str, ...]:
        named = (
            ("matricule", self.matricule),
            ("name", self.name),
            ("given-name", self.given),
            ("birth-date", self.born),
            ("sex", self.sex),
            ("birth-place", self.place),
        )
        return tuple(name for name, said in named if said == verdict)

    @property
    def full(self) -> bool:
        """Name, given name and full birth date agree, and the sex does not speak against it."""
        return self.name == self.given == self.born == "agree" and self.sex != "conflict"

    @property
    def traits_beside_matricule(self) -> int:
        """How many traits that tell persons apart agree; the sex tells nobody apart."""
        return (self.name, self.given, self.born, self.place).count("agree")


def _compare(stated: TraitsIns, known: Known) -> _Compared:
    return _Compared(
        name=compare_names(stated, known.traits),
        given=compare_given_names(stated.given_names, known.traits.given_names),
        born=compare_birth_dates(stated.birth_date, known.traits.birth_date),
        sex=_compare_sexes(stated.sex, known.traits.sex),
        place=compare_birth_places(stated.birth_place, known.traits.birth_place),
        matricule=_compare_matricules(stated, known),
    )


@dataclass(frozen=True, slots=True)
class _Weighed:
    known: Known
    index: _Compared | None
    sources: tuple[_Compared, ...]
    designated: bool
    implied_other: bool
    grades: tuple[Graded, ...] = ()
    """How likely each source that states traits makes him (`linkage.grade`)."""

    @property
    def graded(self) -> Graded | None:
        """The likeliest of these."""
        return max(self.grades, key=lambda one: one.odds, default=None)

    @property
    def guards(self) -> tuple[str, ...]:
        """What forbids certainty by any source."""
        return tuple(dict.fromkeys(reason for one in self.grades for reason in one.reasons))

    @property
    def is_graded_certain(self) -> bool:
        """Every source says that it is he, however it spells him."""
        return bool(self.grades) and all(one.grade == "certain" for one in self.grades)

    @property
    def agreements(self) -> tuple[str, ...]:
        said = (name for source in self.sources for name in source.said("agree"))
        return tuple(dict.fromkeys((*(("folder-number",) if self.designated else ()), *said)))

    @property
    def conflicts(self) -> tuple[str, ...]:
        said = (name for source in self.sources for name in source.said("conflict"))
        implied = ("matricule-of-other-sex-or-birth",) if self.implied_other else ()
        return tuple(dict.fromkeys((*said, *implied)))

    @property
    def plausible(self) -> bool:
        """Worth showing to a human: something beyond the sex or the birth place speaks for this worker."""
        return bool(set(self.agreements) - {"sex", "birth-place"}) or any(one.grade != "none" for one in self.grades)

    @property
    def rival(self) -> bool:
        """Nothing that tells persons apart speaks against this worker, and enough speaks for him."""
        if set(self.conflicts) - {"birth-place"}:
            return False
        told_apart = {"name", "given-name", "birth-date"} & set(self.agreements)
        return len(told_apart) > 1 or "matricule" in self.agreements


def _weigh(known: Known, evidence: Evidence, numbers: frozenset[str], grades: Grades) -> _Weighed:
    index = _compare(evidence.index, known) if evidence.index else None
    stated = [*([evidence.index] if evidence.index else []), *evidence.codes]
    return _Weighed(
        known=known,
        index=index,
        sources=tuple(_compare(traits, known) for traits in stated),
        designated=bool(numbers & {_number(n) for n in known.folder_numbers}),
        implied_other=any(_implies_another(traits, known) for traits in stated),
        grades=tuple(found[known.patient_id] for found in grades if known.patient_id in found),
    )


def _number(folder_number: str) -> str:
    return folder_number.strip().upper()


def _contradict(one: TraitsIns, other: TraitsIns) -> bool:
    """Two sources of one folder that cannot speak of the same person."""
    if one.matricule_ins and other.matricule_ins:
        return not same_matricule(one.matricule_ins, other.matricule_ins)
    given = compare_given_names(one.given_names, other.given_names)
    born = compare_birth_dates(one.birth_date, other.birth_date)
    # An index that gives the used name as birth name is ordinary: the name alone does not make two persons.
    renamed = given == born == "agree"
    return "conflict" in (given, born) or (not renamed and compare_names(one, other) == "conflict")


def _mixed(evidence: Evidence, numbers: frozenset[str]) -> tuple[str, ...]:
    """Reasons to believe that the folder holds pages of several workers (E13)."""
    codes = evidence.codes
    several = any(_contradict(a, b) for i, a in enumerate(codes) for b in codes[i + 1 :])
    index = evidence.index
    found = (
        ("several-persons", several),
        ("several-folders", len(numbers) > 1),
        ("index-and-page-differ", index is not None and any(_contradict(index, code) for code in codes)),
    )
    return tuple(reason for reason, holds in found if holds)


def _foreign_domain(traits: TraitsIns, production: bool) -> bool:
    return production and domain_of(traits.oid_ins) in ("test", "demo")


def _guards(weighed: _Weighed) -> tuple[str, ...]:
    """Which of G1-G5 and G7 speak about this worker."""
    agree, conflict = set(weighed.agreements), set(weighed.conflicts)
    found = (
        ("G1-same-family", {"name", "birth-date"} <= agree and "given-name" in conflict),
        ("G2-homonym", {"name", "given-name"} <= agree and "birth-date" in conflict),
        ("G3-other-matricule", "matricule" in conflict),
        ("G4-matricule-traits", "matricule" in agree and bool(conflict)),
        ("G5-other-sex", "sex" in conflict),
        ("G7-no-birth-date", bool(weighed.sources) and not {"birth-date"} & (agree | conflict)),
    )
    return tuple(reason for reason, holds in found if holds)


def _by_likelihood(weighed: _Weighed) -> tuple[bool, float, int, int, str, str]:
    """Sort key, most likely first; the identity of the worker settles ties, so that the order of candidates
    never does.
    """
    known = weighed.known
    odds = weighed.graded.odds if weighed.graded else 0.0
    strong = {"folder-number", "matricule", "name", "given-name", "birth-date"} & set(weighed.agreements)
    against = len(weighed.conflicts) - 2 * len(strong)
    settled = f"{known.traits}{known.former_matricules}{known.folder_numbers}{sorted(known.attributes)}"
    return not weighed.designated, -odds, against, -len(weighed.agreements), known.patient_id, settled


def match(evidence: Evidence, candidates: Sequence[Known], *, production: bool = True, grades: Grades = ()) -> Match:
    """Decide whose folder this is.

    `candidates` are all workers that the folder number or a part of an identity bring up; their order does not
    matter. `grades` say how likely each source that states traits makes each of them. In `production` a test or
    demonstration matricule matches nobody. Certain needs (a) a folder number that designates one worker and name,
    given name and full birth date that agree, or are graded certain, or (b) an equal matricule and two further
    traits; and in both no conflict that a grade does not explain, no guard, no rival, and a status that allows it
    (`policy.toml`).
    """
    numbers = frozenset(_number(n) for n in (evidence.folder_number, *evidence.barcodes) if n and _number(n))
    weighed = sorted((_weigh(known, evidence, numbers, grades) for known in set(candidates)), key=_by_likelihood)
    plausible = [one for one in weighed if one.plausible]
    designated = [one for one in weighed if one.designated]

    def doubtful(code: Anomaly, *reasons: str) -> Doubtful:
        guards = (reason for one in plausible for reason in (*_guards(one), *one.guards))
        return Doubtful(
            tuple(
                Scored(one.known.patient_id, one.agreements, one.conflicts, one.graded)
                for one in plausible[:MOST_SHOWN]
            ),
            code,
            tuple(dict.fromkeys((*reasons, *guards))),
        )

    stated = [*([evidence.index] if evidence.index else []), *evidence.codes]
    if mixed := _mixed(evidence, numbers):
        return doubtful("E13", *mixed)
    if any(_foreign_domain(traits, production) for traits in stated):
        return doubtful("E12", "test-matricule")
    if not plausible:
        return Unknown("E10", ("nobody",))
    if len(designated) > 1:
        return doubtful("E11", "folder-number-shared")

    chosen = designated[0] if designated else _by_matricule(plausible, numbers)
    if chosen is None:
        return doubtful("E08", "folder-number-unknown" if numbers else "folder-number-missing")
    if set(chosen.conflicts) & {"matricule", "matricule-of-other-sex-or-birth"}:
        return doubtful("E12", "G3-other-matricule")
    elsewhere = [one for one in plausible if one is not chosen]
    if any("matricule" in one.agreements for one in elsewhere):
        return doubtful("E12", "G3-other-matricule", "folder-number-of-another")
    if chosen.guards:
        return doubtful("E11", *chosen.guards)
    # Of a trait that is only written otherwise the grade knows more than the comparison letter by letter.
    if set(chosen.conflicts) - (_WRITTEN_OTHERWISE if chosen.is_graded_certain else set()):
        return doubtful("E11", "traits-conflict")
    if any(one.rival for one in elsewhere):
        return doubtful("E11", "G6-rival")
    if not (_certain_by_number(chosen) or _certain_by_matricule(chosen)):
        return doubtful("E10", "traits-missing")
    return _allowed(chosen, production) or doubtful("E11", _policy_reason(chosen, production))


def _by_matricule(plausible: Sequence[_Weighed], numbers: frozenset[str]) -> _Weighed | None:
    """The worker whose matricule is on the folder, where no number designates anybody.

    A number that nobody has is an anomaly: then one stray page must not draw the folder to its owner, and the
    index must name him too.
    """
    having = [one for one in plausible if "matricule" in one.agreements]
    if len({one.known.patient_id for one in having}) != 1 or len(having) > 1:
        return None
    if numbers and not (having[0].index and having[0].index.name == having[0].index.born == "agree"):
        return None
    return having[0]


def _certain_by_number(one: _Weighed) -> bool:
    return one.designated and (any(source.full for source in one.sources) or one.is_graded_certain)


def _certain_by_matricule(one: _Weighed) -> bool:
    return any(s.matricule == "agree" and s.traits_beside_matricule > 1 for s in one.sources)


def _policy_reason(one: _Weighed, production: bool) -> str:
    if _foreign_domain(one.known.traits, production):
        return "test-matricule"
    decided = decide("certain", one.known.status, one.known.attributes)
    return {"attach": "", "never": "status-never"}.get(decided, "status-review")


def _allowed(one: _Weighed, production: bool) -> Certain | None:
    return None if _policy_reason(one, production) else Certain(one.known.patient_id, one.agreements, one.graded)
