"""Is a code one of a code system, or of a value set, and is it called by one of its names?

https://hl7.org/fhir/R4/codesystem-operation-validate-code.html,
https://hl7.org/fhir/R4/valueset-operation-validate-code.html - `result` is true only for what is known to be right: of
a code that cannot be judged here it is false, and the message says so.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from terminology.code_system import CodeSystem
from terminology.composition import composed
from terminology.library import Library, Versions
from terminology.problems import TooMuch
from terminology.selection import Gap, Member, Selection, member_of
from terminology.wording import Name, Wording

Json = Mapping[str, Any]

MOST_CODINGS: Final = 100
"""Of one CodeableConcept: each is a question of its own."""
UNNAMED: Final = "The code is known; what it is called is not, so the display cannot be judged"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer: what is wrong or noteworthy (`message`), and what may be shown for the code (`display`)."""

    result: bool
    message: str | None = None
    display: str | None = None


@dataclass(frozen=True, slots=True)
class Coded:
    """One code that is asked about."""

    system: str | None
    code: str | None
    version: str | None = None
    display: str | None = None


Judge = Callable[[Coded], Verdict]


def coded(coding: Json) -> Coded:
    """A Coding."""
    return Coded(coding.get("system"), coding.get("code"), coding.get("version"), coding.get("display"))


def any_of(codings: Sequence[Json], judge: Judge) -> Verdict:
    """A CodeableConcept: one coding that is right is enough; the messages of the others where none is.

    Raises TooMuch, and whatever the judge raises.
    """
    if not codings:
        return Verdict(False, "The concept has no coding")
    if len(codings) > MOST_CODINGS:
        raise TooMuch(f"The concept has more than {MOST_CODINGS} codings")
    verdicts = [judge(coded(one)) for one in codings]
    right = next((one for one in verdicts if one.result), None)
    if right:
        return right
    if len(verdicts) == 1:
        return verdicts[0]
    messages = (f"coding[{number}]: {one.message}" for number, one in enumerate(verdicts))
    return Verdict(False, "; ".join(messages), next((one.display for one in verdicts if one.display), None))


def in_code_system(
    system: CodeSystem, library: Library, *, fixed: bool, abstract: bool = True, language: str | None = None
) -> Judge:
    """Judges codes of a code system; a coding of another version by that version, unless this one is `fixed`."""
    wording = Wording(library, language)

    def judge(asked: Coded) -> Verdict:
        if asked.system != system.url:
            return Verdict(False, "The coding is of another code system, or of none")
        meant: CodeSystem | None = system
        if asked.version and asked.version != system.version:
            meant = None if fixed else library.code_system(system.url, asked.version)
        if meant is None:
            return Verdict(False, "The coding is of another version of the code system")
        found = meant.find(asked.code or "")
        if found is None:
            return Verdict(False, _unknown_code(meant))
        return _judged(member_of(meant, found), asked, wording, abstract=abstract)

    return judge


def in_value_set(value_set: Json, library: Library, *, abstract: bool = True, language: str | None = None) -> Judge:
    """Judges codes of a value set, by the version of a coding where the value set names none.

    It raises NotKept, Incomputable and TooMuch where the value set cannot be put together.
    """
    wording = Wording(library, language)

    def judge(asked: Coded) -> Verdict:
        if not asked.system or not asked.code:
            return Verdict(False, "The coding lacks its system or its code")
        versions = Versions(preferred={asked.system: asked.version} if asked.version else {})
        selection = composed(value_set, library, versions, only=asked.code)
        member = _member(selection, library, asked.system, asked.code)
        if member is None:
            return _not_in(selection, wording, library, asked)
        if asked.version and member.version and asked.version != member.version:
            return Verdict(False, f"The value set takes the code from version {member.version} of the code system")
        return _judged(member, asked, wording, abstract=abstract)

    return judge


def _member(selection: Selection, library: Library, system: str, code: str) -> Member | None:
    """The code as the value set has it, in whatever case it is written where its code system allows that."""
    if found := selection.members.get((system, code)):
        return found
    for one in library.code_systems.get(system, ()):
        concept = None if one.is_supplement or one.case_sensitive else one.find(code)
        if concept and (found := selection.members.get((system, concept.code))):
            return found
    return None


def _not_in(selection: Selection, wording: Wording, library: Library, asked: Coded) -> Verdict:
    """A code that the value set does not have; its display, where its code system is at hand."""
    system, code = asked.system or "", asked.code or ""
    gap = selection.gaps.get(system)
    if gap and (system, code) not in selection.left_out:
        return Verdict(False, _not_judged(gap))
    known = library.code_system(system, asked.version)
    concept = known.find(code) if known else None
    if known and concept:
        shown = wording.display(wording.names(member_of(known, concept)))
        return Verdict(False, "The code is not in the value set", shown.text if shown else None)
    if known and known.is_whole:
        return Verdict(False, "The code is in neither the value set nor its code system")
    return Verdict(False, "The code is not in the value set")


def _not_judged(gap: Gap) -> str:
    match gap.why:
        case "absent":
            return "It cannot be told: this server does not keep the code system, or that version of it"
        case "not-present":
            return "It cannot be told: this server does not keep the codes of the code system"
        case "fragment":
            return "It cannot be told: this server keeps a fragment of the code system, in which the code is not"


def _unknown_code(system: CodeSystem) -> str:
    if system.is_whole:
        return "The code system has no such code"
    return _not_judged(Gap(whole=True, why="fragment" if system.lists_codes else "not-present"))


def _judged(member: Member, asked: Coded, wording: Wording, *, abstract: bool) -> Verdict:
    """A code that is there: may it be used, and is it called so?"""
    names = wording.names(member)
    shown = wording.display(names)
    display = shown.text if shown else None
    if member.abstract and not abstract:
        return Verdict(False, "The code is abstract: it groups others and is not used itself", display)
    if asked.display and not _is_called(asked.display, names, wording):
        return Verdict(False, "The code is known, and it is not called so" if names else UNNAMED, display)
    notes = [*(["The code is inactive"] if member.inactive else []), *_unchecked(member)]
    return Verdict(True, "; ".join(notes) or None, display)


def _unchecked(member: Member) -> list[str]:
    if member.concept is None:
        return ["The code is listed by the value set; its code system is not kept here"]
    return []


def _is_called(display: str, names: Sequence[Name], wording: Wording) -> bool:
    """By any name, or by those in the language that is wanted where there are some. Case and blanks do not matter."""
    valid = wording.in_language(names) or names
    return any(_plain(one.text) == _plain(display) for one in valid)


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())
