"""From the definition of a value set to the codes that it selects.

https://hl7.org/fhir/R4/valueset.html#compositions - includes are added up, then excludes are taken away. Within one
include its system (or codes, or filters of it) and each of its value sets have to select a code.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Final

from terminology.code_system import CodeSystem, Concept
from terminology.filters import selected
from terminology.library import Library, Versions, check_supplements
from terminology.problems import Incomputable, NotKept, Problem, TooMuch
from terminology.selection import Gap, Member, Selection, member_of, of_members
from terminology.systems import VALUE_SET_TOO_COSTLY, VALUE_SET_UNCLOSED

Json = Mapping[str, Any]

DEEPEST: Final = 20
MOST_WORK: Final = 10_000_000
"""Concepts that are looked at for one question, each as often as it is: some ten seconds."""
ALL_VERSIONS: Final = "*"
UNFINISHED: Final = frozenset({VALUE_SET_UNCLOSED, VALUE_SET_TOO_COSTLY})
"""Extensions of an expansion that does not hold all codes."""
NO_VERSIONS: Final = Versions()


def composed(value_set: Json, library: Library, versions: Versions = NO_VERSIONS, only: str | None = None) -> Selection:
    """The codes of a value set; with `only`, as far as that code is concerned.

    By its definition; by the expansion that it brings along where that is all it has, or where its definition refers
    to something that is not at hand or cannot be computed. Raises NotKept, Incomputable and TooMuch, with the FHIRPath
    of what stands in the way.
    """
    return _Composer(library, versions, only).of(value_set)


class _Composer:
    """One question; a value set that is imported twice is put together once."""

    def __init__(self, library: Library, versions: Versions, only: str | None) -> None:
        self._library = library
        self._versions = versions
        self._only = only
        self._done: dict[int, Selection] = {}
        self._under_way: list[int] = []
        self._work = 0

    def of(self, value_set: Json) -> Selection:
        number = id(value_set)
        if number in self._under_way:
            raise Incomputable("The value set refers to itself", "ValueSet.compose")
        if len(self._under_way) > DEEPEST:
            raise Incomputable(f"The value set refers to others more than {DEEPEST} deep", "ValueSet.compose")
        if number not in self._done:
            self._under_way.append(number)
            try:
                self._done[number] = self._made(value_set)
            finally:
                self._under_way.pop()
        return self._done[number]

    def _made(self, value_set: Json) -> Selection:
        check_supplements(value_set, self._library)
        expansion = value_set.get("expansion")
        finished = expansion is not None and _is_finished(expansion)
        if "compose" not in value_set:
            if expansion is None:
                raise Incomputable("The value set has neither a definition nor an expansion", "ValueSet.compose")
            if not finished:
                raise Incomputable("The value set has a part of its expansion only", "ValueSet.expansion")
            return self._expanded(value_set)
        try:
            found = self._composed(value_set)
        except Problem:
            if not finished:
                raise
            return self._expanded(value_set)
        return self._expanded(value_set) if finished and found.gaps else found

    def _composed(self, value_set: Json) -> Selection:
        compose = value_set["compose"]
        found = Selection()
        for number, part in enumerate(compose.get("include", ())):
            found = found.either(self._part(value_set, part, f"ValueSet.compose.include[{number}]"))
            self._spend(found.size)
        for number, part in enumerate(compose.get("exclude", ())):
            found = found.without(self._part(value_set, part, f"ValueSet.compose.exclude[{number}]"))
            self._spend(found.size)
        if compose.get("inactive") is False:
            found = found.only(lambda one: not one.inactive)
        return found

    def _spend(self, count: int) -> None:
        """Raises TooMuch where a definition makes more work than it is worth, by many parts of large systems."""
        self._work += count
        if self._work > MOST_WORK:
            raise TooMuch("The value set is too much work to put together")

    def _part(self, value_set: Json, part: Json, place: str) -> Selection:
        """What one include or exclude selects."""
        sets = [self.of(self._imported(value_set, url, place)) for url in part.get("valueSet", ()) if url]
        if "system" in part:
            sets.insert(0, self._of_system(value_set, part, place))
        self._spend(sum(one.size for one in sets))  # whatever is left of them afterwards
        return reduce(Selection.both, sets) if sets else Selection()

    def _imported(self, value_set: Json, url: str, place: str) -> Json:
        if url.startswith("#"):
            found = next((one for one in value_set.get("contained", ()) if one.get("id") == url[1:]), None)
        else:
            found = self._library.value_set(url, value_set["compose"].get("lockedDate"))
        if found is None:
            raise NotKept("This server does not keep a value set that the value set refers to", f"{place}.valueSet")
        return found

    def _of_system(self, value_set: Json, part: Json, place: str) -> Selection:
        url = part["system"]
        version = self._versions.of(url, part.get("version"))
        if version == ALL_VERSIONS:
            systems = [one for one in self._library.code_systems.get(url, ()) if not one.is_supplement]
        else:
            found = self._library.code_system(url, version, value_set["compose"].get("lockedDate"))
            systems = [found] if found else []
        if not systems:
            return self._unknown(value_set, part, version)
        self._versions.check(url, systems[0].version)
        return reduce(Selection.either, (self._of_version(value_set, part, one, place) for one in systems))

    def _of_version(self, value_set: Json, part: Json, system: CodeSystem, place: str) -> Selection:
        if "concept" in part:
            return of_members(self._listed(value_set, part, system))
        if not system.lists_codes:
            return Selection(gaps={system.url: Gap("filter" not in part, "not-present")})
        self._spend(len(system.concepts) * len(part.get("filter", ())))
        found = selected(system, self._asked(system), part.get("filter", ()), place)
        gaps = {} if system.is_whole else {system.url: Gap("filter" not in part, "fragment")}
        return Selection({(system.url, one.code): member_of(system, one) for one in found}, gaps)

    def _asked(self, system: CodeSystem) -> Collection[Concept]:
        """The concepts that the question is about."""
        if self._only is None:
            return system.concepts.values()
        found = system.find(self._only)
        return (found,) if found else ()

    def _listed(self, value_set: Json, part: Json, system: CodeSystem) -> Iterator[Member]:
        """The codes that are listed, without those that the whole code system has not."""
        self._spend(len(part["concept"]))
        asked = None if self._only is None else {self._only, *(one.code for one in self._asked(system))}
        for one in part["concept"]:
            concept = system.find(one.get("code", ""))
            if asked is not None and (concept.code if concept else one.get("code")) not in asked:
                continue
            if concept:
                yield member_of(system, concept).beside(_as_listed(value_set, system.url, system.version, one))
            elif not system.is_whole and "code" in one:
                yield _as_listed(value_set, system.url, system.version, one)

    def _unknown(self, value_set: Json, part: Json, version: str | None) -> Selection:
        """Of a code system that is not at hand: codes that are listed are taken at their word."""
        if "concept" not in part:
            return Selection(gaps={part["system"]: Gap("filter" not in part, "absent")})
        listed = [one for one in part["concept"] if "code" in one and self._only in (None, one["code"])]
        return of_members(_as_listed(value_set, part["system"], version, one) for one in listed)

    def _expanded(self, value_set: Json) -> Selection:
        return of_members(self._in_expansion(value_set, value_set["expansion"].get("contains", ())))

    def _in_expansion(self, value_set: Json, entries: Sequence[Json]) -> Iterator[Member]:
        for one in entries:
            if "code" in one and "system" in one:
                yield self._as_expanded(value_set, one)
            yield from self._in_expansion(value_set, one.get("contains", ()))

    def _as_expanded(self, value_set: Json, one: Json) -> Member:
        system = self._library.code_system(one["system"], one.get("version"))
        concept = system.find(one["code"]) if system else None
        return Member(
            one["system"],
            one["code"],
            one.get("version"),
            concept,
            system if concept else None,
            one.get("display"),
            value_set.get("language"),
            one.get("designation", ()),
            one.get("inactive", concept.inactive if concept else False),
            one.get("abstract", False),
        )


def _as_listed(value_set: Json, system: str, version: str | None, one: Json) -> Member:
    return Member(
        system,
        one["code"],
        version,
        display=one.get("display"),
        language=value_set.get("language"),
        designations=one.get("designation", ()),
    )


def _is_finished(expansion: Json) -> bool:
    """Whether an expansion holds all codes: no page of them, and nothing left out."""
    if any(one.get("url") in UNFINISHED for one in expansion.get("extension", ())):
        return False
    entries = list(expansion.get("contains", ()))
    count = 0
    while entries:
        one = entries.pop()
        count += "code" in one
        entries.extend(one.get("contains", ()))
    return not expansion.get("offset") and expansion.get("total", count) <= count
