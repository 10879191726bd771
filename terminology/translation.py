"""From a code to its counterparts elsewhere, by concept maps.

https://hl7.org/fhir/R4/conceptmap.html, https://hl7.org/fhir/R4/conceptmap-operation-translate.html
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from terminology.library import canonical_of, chosen, split
from terminology.problems import Incomputable, NotKept, TooMuch

Json = Mapping[str, Any]

PLACE: Final = "ConceptMap.group.unmapped.url"
NO_MATCH: Final = frozenset({"unmatched", "disjoint"})
"""Equivalences that say that there is no counterpart."""
MOST_QUESTIONS: Final = 100
"""Codings of one concept, and what a translation is told to depend on."""
DEEPEST: Final = 20
"""Maps that refer to one another in a row."""
MOST_WORK: Final = 10_000_000
"""Elements, targets and what they depend on that are looked at, each as often as it is: some seconds."""
REVERSED: Final = {
    "wider": "narrower", "narrower": "wider", "subsumes": "specializes", "specializes": "subsumes",
}  # fmt: skip
"""What an equivalence is, seen from the other side; the others are the same from both."""
BY_RULE: Final = "relatedto"
"""The equivalence of what a map says of codes that it has not: R4 gives none, and this claims least."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A code to translate, and where to; the names are those of the operation."""

    system: str
    code: str
    version: str | None = None
    source: str | None = None
    target: str | None = None
    target_system: str | None = None
    dependencies: Sequence[tuple[str, Json]] = ()
    """Element and CodeableConcept of each."""
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """One counterpart, or that there is none; `source` is the canonical URL of the map that says so."""

    equivalence: str
    source: str
    coding: Json
    products: Sequence[dict[str, Any]] = ()


@dataclass(slots=True)
class Translation:
    """What the maps say of a code, as it is found."""

    matches: list[Match] = field(default_factory=list)
    known: bool = False
    """Whether a map lists the code."""
    by_rule: bool = False
    """Whether a map has it by its rule for codes that it does not list."""
    work: int = 0
    lacking: dict[str, None] = field(default_factory=dict)
    """Elements without which a counterpart cannot be chosen: they are told as `dependency`."""

    def spend(self, count: int) -> None:
        """Raises TooMuch where maps refer to others so often that it would never end."""
        self.work += count
        if self.work > MOST_WORK:
            raise TooMuch("The concept maps are too much work to translate by")

    @property
    def result(self) -> bool:
        return any(one.equivalence not in NO_MATCH for one in self.matches)

    @property
    def message(self) -> str | None:
        if self.lacking:
            return f"There are counterparts that depend on: {', '.join(self.lacking)}"
        if self.by_rule:
            return "No map lists the code; this is what a map says of all others"
        if self.result:
            return None
        return "The maps say that the code has no counterpart" if self.known else "No map says anything of the code"

    def parameters(self) -> list[dict[str, Any]]:
        """The result parameters."""
        found: list[dict[str, Any]] = [{"name": "result", "valueBoolean": self.result}]
        if self.message:
            found.append({"name": "message", "valueString": self.message})
        return found + [{"name": "match", "part": list(_parts(one))} for one in self.matches]


def translate(maps: Iterable[Json], questions: Iterable[Asked], others: Mapping[str, Sequence[Json]]) -> Translation:
    """What all these maps say of these codes; `others` are those that they may refer to, by URL.

    Raises NotKept where one of those is not at hand, Incomputable where maps refer to each other in a circle, TooMuch.
    """
    found = Translation()
    asked_maps, all_questions = list(maps), list(questions)
    if len(all_questions) > MOST_QUESTIONS:
        raise TooMuch(f"The concept has more than {MOST_QUESTIONS} codings")
    if any(len(one.dependencies) > MOST_QUESTIONS for one in all_questions):
        raise TooMuch(f"More than {MOST_QUESTIONS} dependencies are told")
    for asked in all_questions:
        for one in asked_maps:
            if _applies(one, asked):
                _translate(one, asked, others, found, ())
    once: dict[tuple[str, str, str, str], Match] = {}
    for one in found.matches:
        once.setdefault((one.equivalence, one.source, *_key(one.coding)), one)
    found.matches = list(once.values())
    return found


def _applies(concept_map: Json, asked: Asked) -> bool:
    """Whether a map is between these value sets; one that does not say where it starts from is for everything."""
    source = concept_map.get("sourceUri") or concept_map.get("sourceCanonical")
    target = concept_map.get("targetUri") or concept_map.get("targetCanonical")
    if asked.reverse:
        source, target = target, source
    return (not asked.source or not source or _same(asked.source, source)) and (
        not asked.target or (target is not None and _same(asked.target, target))
    )


def _same(asked: str, stated: str) -> bool:
    (one, version), (other, stated_version) = split(asked), split(stated)
    return one == other and (not version or not stated_version or version == stated_version)


def _translate(
    concept_map: Json, asked: Asked, others: Mapping[str, Sequence[Json]], found: Translation, before: Sequence[int]
) -> None:
    if id(concept_map) in before:
        raise Incomputable("The concept map refers to itself", PLACE)
    if len(before) > DEEPEST:
        raise Incomputable(f"The concept map refers to others more than {DEEPEST} deep", PLACE)
    found.spend(1 + len(concept_map.get("group", ())))
    groups = [one for one in concept_map.get("group", ()) if _is_between(one, asked)]
    source = canonical_of(concept_map)
    known = False
    for group in groups:
        found.spend(len(group.get("element", ())))
        for element, target in _targets(group, asked):
            found.spend(1)
            known = True
            if target is not None and (asked.reverse or _depends(target, asked, found)):
                found.matches.append(_match(group, element, target, asked, source))
    found.known |= known
    if known or asked.reverse:
        return
    for group in groups:
        _unmapped(concept_map, group, asked, others, found, before)


def _is_between(group: Json, asked: Asked) -> bool:
    """Whether a group leads from the system of the code (and its version), and to the system that is wanted."""
    start, end = ("target", "source") if asked.reverse else ("source", "target")
    version = group.get(f"{start}Version")
    return (
        group.get(start) == asked.system
        and (not asked.version or not version or version == asked.version)
        and (not asked.target_system or group.get(end) == asked.target_system)
    )


def _targets(group: Json, asked: Asked) -> Iterator[tuple[Json, Json | None]]:
    """The pairs of a group that have the code; the target is None where the element has none."""
    for element in group.get("element", ()):
        targets = element.get("target", ())
        if asked.reverse:
            yield from ((element, one) for one in targets if one.get("code") == asked.code and "code" in element)
        elif element.get("code") == asked.code:
            yield from ((element, one) for one in targets)
            if not targets:
                yield element, None


def _depends(target: Json, asked: Asked, found: Translation) -> bool:
    """Whether everything that a target depends on was told; what was not is remembered."""
    told = dict(asked.dependencies)
    for one in target.get("dependsOn", ()):
        element, value = one.get("property", ""), one.get("value")
        concept = told.get(element)
        if concept is None:
            found.lacking[element] = None
            return False
        codes = [(coding.get("system"), coding.get("code")) for coding in concept.get("coding", ())]
        found.spend(1 + len(codes))
        fits = any(code == value and one.get("system") in (None, system) for system, code in codes)
        if not fits and concept.get("text") != value:
            return False
    return True


def _match(group: Json, element: Json, target: Json, asked: Asked, source: str) -> Match:
    equivalence = str(target.get("equivalence", BY_RULE))
    if asked.reverse:
        return Match(REVERSED.get(equivalence, equivalence), source, _coding(group, "source", element))
    products = [
        {"name": "product", "part": [{"name": "element", "valueUri": one["property"]}, _product(one)]}
        for one in target.get("product", ())
        if "property" in one and "value" in one
    ]
    return Match(equivalence, source, _coding(group, "target", target), products)


def _product(one: Json) -> dict[str, Any]:
    coding = {"system": one.get("system"), "code": one["value"], "display": one.get("display")}
    return {"name": "concept", "valueCoding": {name: value for name, value in coding.items() if value}}


def _coding(group: Json, end: str, one: Json) -> Json:
    """The Coding at one end of a group; empty where there is no code."""
    if "code" not in one:
        return {}
    coding = {
        "system": group.get(end),
        "version": group.get(f"{end}Version"),
        "code": one["code"],
        "display": one.get("display"),
    }
    return {name: value for name, value in coding.items() if value}


def _unmapped(
    concept_map: Json,
    group: Json,
    asked: Asked,
    others: Mapping[str, Sequence[Json]],
    found: Translation,
    before: Sequence[int],
) -> None:
    """What a group says of a code that it does not list: https://hl7.org/fhir/R4/conceptmap.html#unmapped"""
    match group.get("unmapped"):
        case {"mode": "provided"}:
            target = {"code": asked.code}
        case {"mode": "fixed", "code": code, **more}:
            target = {"code": code, **more}
        case {"mode": "other-map", "url": url}:
            url, version = split(url)
            other = chosen(others.get(url, ()), version)
            if other is None:
                raise NotKept("This server does not keep the map that is meant for other codes", PLACE)
            _translate(other, asked, others, found, (*before, id(concept_map)))
            return
        case _:
            return
    found.by_rule = True
    found.matches.append(Match(BY_RULE, canonical_of(concept_map), _coding(group, "target", target)))


def other_maps(concept_map: Json) -> set[str]:
    """The URLs of the maps that a map refers to."""
    urls = (group.get("unmapped", {}).get("url") for group in concept_map.get("group", ()))
    return {split(url)[0] for url in urls if url}


def _key(coding: Json) -> tuple[str, str]:
    return coding.get("system", ""), coding.get("code", "")


def _parts(match: Match) -> Iterator[dict[str, Any]]:
    yield {"name": "equivalence", "valueCode": match.equivalence}
    if match.coding:
        yield {"name": "concept", "valueCoding": match.coding}
    yield from match.products
    if match.source:
        yield {"name": "source", "valueUri": match.source}
