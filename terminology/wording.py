"""How a code is called: in which language, for which use, by whom.

https://hl7.org/fhir/R4/codesystem.html#designations, https://hl7.org/fhir/R4/languages.html - a value set may call a
code otherwise than its code system; supplements (content `supplement`) add names in other languages.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from terminology.code_system import CodeSystem, Concept
from terminology.library import Library
from terminology.selection import Member
from terminology.systems import DESIGNATION_USAGE, TERM_MAINTENANCE

Json = Mapping[str, Any]

DISPLAY_USES: Final = frozenset({
    ("", ""),
    (DESIGNATION_USAGE, "display"),
    (TERM_MAINTENANCE, "preferredForLanguage"),
})  # fmt: skip
"""System and code of the uses by which a designation is to be shown; without a use it is."""
OTHER_LANGUAGE: Final = 4


@dataclass(frozen=True, slots=True)
class Name:
    """One name of a code. `is_display` is what is shown for it as a rule, not a designation beside that."""

    text: str
    language: str | None
    use: Json | None = None
    is_display: bool = False

    @property
    def use_key(self) -> tuple[str, str]:
        use = self.use or {}
        return use.get("system", ""), use.get("code", "")


class Wording:
    """The names of codes, as far as a library tells them; `language` is the one that is wanted (BCP 47)."""

    def __init__(self, library: Library, language: str | None = None) -> None:
        self.language = language
        self._library = library
        self._supplements: dict[tuple[str, str | None], Sequence[CodeSystem]] = {}

    def names(self, member: Member) -> list[Name]:
        """Every name once: the value set's own first, then the code system's, then those of its supplements."""
        found = list(_of_member(member))
        if member.origin and member.concept:
            found += _of_concept(member.origin, member.concept)
        for supplement in self.supplements(member.system, member.version):
            if concept := supplement.find(member.code):
                found += _of_concept(supplement, concept)
        return _once(found)

    def texts(self, member: Member) -> list[str]:
        """The code and its names, as texts, some of them twice."""
        found = [member.code, member.display or "", *(one.get("value", "") for one in member.designations)]
        concepts = [member.concept, *(one.find(member.code) for one in self.supplements(member.system, member.version))]
        for concept in concepts:
            if concept:
                found.append(concept.display or "")
                found += [one["value"] for one in concept.designations]
        return found

    def supplements(self, url: str, version: str | None) -> Sequence[CodeSystem]:
        """Those of a code system."""
        if (url, version) not in self._supplements:
            self._supplements[url, version] = self._library.supplements(url, version)
        return self._supplements[url, version]

    def display(self, names: Sequence[Name]) -> Name | None:
        """What to show: in the language that is wanted where there is such a name, else what is shown as a rule."""
        if fitting := self.in_language(names):
            return fitting[0]
        return next((one for one in names if one.is_display), names[0] if names else None)

    def in_language(self, names: Iterable[Name]) -> list[Name]:
        """The names in the language that is wanted, the best first: `fr-FR` before `fr` before `fr-CA`."""
        wanted = self.language
        if wanted is None:
            return []
        ranked = [(distance(wanted, one.language), one.use_key not in DISPLAY_USES, one) for one in names]
        return [one for far, _, one in sorted(ranked, key=lambda row: row[:2]) if far < OTHER_LANGUAGE]


def distance(wanted: str, language: str | None) -> int:
    """How far a language is from the one that is wanted: 0 the same, `OTHER_LANGUAGE` another one.

    https://www.rfc-editor.org/rfc/rfc4647 - first a more special one (`fr` is answered with `fr-FR`), then a more
    general one (`fr-CA` with `fr`), last a cousin (`fr-CA` with `fr-FR`).
    """
    one, other = wanted.casefold(), (language or "").casefold()
    if one == other:
        return 0
    if other.startswith(f"{one}-"):
        return 1
    if other and one.startswith(f"{other}-"):
        return 2
    return 3 if other and one.partition("-")[0] == other.partition("-")[0] else OTHER_LANGUAGE


def _of_member(member: Member) -> Iterator[Name]:
    if member.display:
        yield Name(member.display, member.language, is_display=True)
    yield from _designated(member.designations)


def _of_concept(system: CodeSystem, concept: Concept) -> Iterator[Name]:
    if concept.display:
        yield Name(concept.display, system.language, is_display=not system.is_supplement)
    yield from _designated(concept.designations)


def _designated(designations: Iterable[Json]) -> Iterator[Name]:
    return (Name(one["value"], one.get("language"), one.get("use")) for one in designations if "value" in one)


def _once(names: Iterable[Name]) -> list[Name]:
    found: dict[tuple[str, str | None, tuple[str, str]], Name] = {}
    for one in names:
        found.setdefault((one.text, one.language, one.use_key), one)
    return list(found.values())
