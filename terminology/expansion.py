"""The codes of a value set as its expansion: filtered by what a user types, in pages, in his language.

https://hl7.org/fhir/R4/valueset-operation-expand.html - expansions are flat, so that they can be paged.
"""

import re
import unicodedata
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from terminology.composition import NO_VERSIONS, composed
from terminology.library import Library, Versions, split
from terminology.problems import Incomputable, NotKept, TooMuch
from terminology.selection import Gap, Member, Selection
from terminology.systems import LANGUAGE, VALUE_SET_UNCLOSED
from terminology.wording import Name, Wording

Json = Mapping[str, Any]

LARGEST: Final = 10_000
"""Codes of one answer; a larger expansion is asked for in pages."""
MOST_WORDS: Final = 20
"""Words of a filter: who types more pastes."""
PLACE: Final = "ValueSet.compose.include.system"
_MARKS: Final = re.compile(r"[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]")
"""Combining marks, such as accents, in the blocks of Unicode that are for nothing else."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client wants of an expansion; the names are those of the operation."""

    filter: str | None = None
    offset: int | None = None
    count: int | None = None
    include_designations: bool | None = None
    designations: Sequence[str] = ()
    include_definition: bool = False
    active_only: bool = False
    exclude_not_for_ui: bool = False
    display_language: str | None = None
    exclude_systems: Sequence[str] = ()
    versions: Versions = NO_VERSIONS
    echoed: Sequence[Json] = ()
    """The parameters of the call that shape the result, as the expansion repeats them."""


def expand(value_set: Json, library: Library, asked: Asked, identifier: str, timestamp: str) -> dict[str, Any]:
    """The ValueSet with its expansion. Raises NotKept, Incomputable, TooMuch."""
    selection = composed(value_set, library, asked.versions)
    excluded = {split(one) for one in asked.exclude_systems}
    gaps = {system: gap for system, gap in selection.gaps.items() if (system, None) not in excluded}
    wording = Wording(library, asked.display_language)
    members = [one for one in selection.members.values() if _is_wanted(one, asked, excluded)]
    unclosed = _unclosed(gaps)
    if asked.filter:
        members = _found(members, asked.filter, wording)
    expansion: dict[str, Any] = {"extension": [{"url": VALUE_SET_UNCLOSED, "valueBoolean": True}]} if unclosed else {}
    expansion |= {"identifier": identifier, "timestamp": timestamp, "total": len(members)}
    if asked.offset is not None or asked.count is not None:
        expansion["offset"] = asked.offset or 0
    parameters = [*asked.echoed, *_used(selection, wording)]
    if parameters:
        expansion["parameter"] = parameters
    several = _in_several_versions(members)
    if page := _page(members, asked):
        expansion["contains"] = [_entry(one, asked, wording, several) for one in page]
    return {**_head(value_set, asked.include_definition), "expansion": expansion}


def _is_wanted(member: Member, asked: Asked, excluded: set[tuple[str, str | None]]) -> bool:
    if (member.system, None) in excluded or (member.system, member.version) in excluded:
        return False
    return not (asked.active_only and member.inactive) and not (asked.exclude_not_for_ui and member.abstract)


def _unclosed(gaps: Mapping[str, Gap]) -> bool:
    """Whether codes are missing. Raises where there is nothing to list instead of them."""
    for gap in gaps.values():
        if gap.why == "absent":
            raise NotKept("This server does not keep a code system that the value set takes codes from", PLACE)
        if gap.why == "not-present":
            raise Incomputable("The codes of a code system that the value set takes codes from are not kept", PLACE)
    return bool(gaps)


def _page(members: Sequence[Member], asked: Asked) -> Sequence[Member]:
    start = asked.offset or 0
    page = members[start:] if asked.count is None else members[start : start + asked.count]
    if len(page) > LARGEST:
        raise TooMuch(f"The expansion has {len(page)} codes: ask for at most {LARGEST} by count and offset, or filter")
    return page


def _found(members: Sequence[Member], text: str, wording: Wording) -> list[Member]:
    """Those of which the code or one name has, for each word that was typed, a word that begins with it."""
    words = dict.fromkeys(folded(text).split())
    if len(words) > MOST_WORDS:
        raise TooMuch(f"The filter has more than {MOST_WORDS} words")
    typed = [re.compile(rf"(?<![^\W_]){re.escape(word)}") for word in words]
    found: list[Member] = []
    for one in members:
        texts = wording.texts(one)
        if not all(word.search(folded("\n".join(texts))) for word in typed):
            continue
        if len(typed) == 1 or any(all(word.search(folded(text)) for word in typed) for text in texts):
            found.append(one)
    return found


def folded(text: str) -> str:
    """Without case and accents."""
    return (text if text.isascii() else _MARKS.sub("", unicodedata.normalize("NFKD", text))).casefold()


def _in_several_versions(members: Iterable[Member]) -> set[str]:
    """The systems of which a code alone would not say from which version it is."""
    versions: dict[str, str | None] = {}
    return {one.system for one in members if versions.setdefault(one.system, one.version) != one.version}


def _entry(member: Member, asked: Asked, wording: Wording, several: Container[str]) -> dict[str, Any]:
    names = wording.names(member)
    shown = wording.display(names)
    entry: dict[str, Any] = {"system": member.system}
    if member.abstract:
        entry["abstract"] = True
    if member.inactive:
        entry["inactive"] = True
    if member.version and member.system in several:
        entry["version"] = member.version
    entry["code"] = member.code
    if shown:
        entry["display"] = shown.text
    wanted = [one for one in names if one is not shown and _designation_wanted(one, asked)]
    if wanted:
        entry["designation"] = [_designation(one) for one in wanted]
    return entry


def _designation_wanted(name: Name, asked: Asked) -> bool:
    """`designation` narrows by language or use, and asks for designations by being there."""
    if asked.include_designations is False or (not asked.include_designations and not asked.designations):
        return False
    return not asked.designations or any(_fits(name, one) for one in asked.designations)


def _fits(name: Name, token: str) -> bool:
    system, bar, code = token.rpartition("|")
    if (not bar or system == LANGUAGE) and code.casefold() == (name.language or "").casefold():
        return True
    return name.use_key == (system, code) if bar else bool(code) and name.use_key[1] == code


def _designation(name: Name) -> dict[str, Any]:
    designation: dict[str, Any] = {}
    if name.language:
        designation["language"] = name.language
    if name.use:
        designation["use"] = name.use
    return {**designation, "value": name.text}


def _used(selection: Selection, wording: Wording) -> list[Json]:
    """The versions of code systems, and the supplements, that it was made with."""
    systems = dict.fromkeys((one.system, one.version) for one in selection.members.values())
    versions = [f"{system}|{version}" for system, version in systems if version]
    supplements = dict.fromkeys(one.canonical for system in systems for one in wording.supplements(*system))
    return [
        *({"name": "version", "valueUri": canonical} for canonical in versions),
        *({"name": "used-supplement", "valueUri": canonical} for canonical in supplements),
    ]


def _head(value_set: Json, with_definition: bool) -> dict[str, Any]:
    """What is said of the value set; of `meta` what still holds, and its definition where that is wanted."""
    left_out = {"text", "meta", "expansion", *(() if with_definition else ("compose", "contained"))}
    head = {name: value for name, value in value_set.items() if name not in left_out}
    meta = {
        name: value for name, value in value_set.get("meta", {}).items() if name not in ("versionId", "lastUpdated")
    }
    if meta:
        head = {"resourceType": "ValueSet", "meta": meta} | head
    return head
