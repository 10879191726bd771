"""What a value set selects: codes, and code systems of which it is not known here which codes they have.

Value sets are put together by three-valued logic: a code is in, out, or (of a fragment, of a system that is not kept)
nobody here can tell.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple

from terminology.code_system import CodeSystem, Concept
from terminology.problems import Incomputable, NotKept, TooMuch

MOST: Final = 500_000
"""Codes of one value set, as far as this goes."""

Key = tuple[str, str]
"""System and code."""
Verdict = bool | None
"""In, out, or None: it cannot be told here."""
Why = Literal["absent", "not-present", "fragment"]
Rule = Callable[[Verdict, Verdict], Verdict]


class Member(NamedTuple):
    """One code that is selected. `concept` and `origin` are there where its code system is at hand."""

    system: str
    code: str
    version: str | None = None
    concept: Concept | None = None
    origin: CodeSystem | None = None
    display: str | None = None
    """What the value set calls it; `language` is that of the value set."""
    language: str | None = None
    designations: Sequence[Mapping[str, Any]] = ()
    inactive: bool = False
    abstract: bool = False

    @property
    def key(self) -> Key:
        return self.system, self.code

    def beside(self, other: "Member") -> "Member":
        """The same, with what only the other says of it."""
        if self.display or self.designations or not (other.display or other.designations):
            return self
        return self._replace(display=other.display, language=other.language, designations=other.designations)


@dataclass(frozen=True, slots=True)
class Gap:
    """Codes of a system that are selected and not listed: all others of it (`whole`), or some of them."""

    whole: bool
    why: Why


@dataclass(frozen=True, slots=True)
class Selection:
    """The codes of a value set, in the order of its definition."""

    members: Mapping[Key, Member] = field(default_factory=dict)
    gaps: Mapping[str, Gap] = field(default_factory=dict)
    left_out: frozenset[Key] = frozenset()
    """Codes that are not in, though they may belong to a system that is a whole gap."""

    @property
    def size(self) -> int:
        """What it costs to join it with another one."""
        return 1 + len(self.members) + len(self.gaps) + len(self.left_out)

    def verdict(self, key: Key) -> Verdict:
        """Whether a code is in; of a whole gap it is, provided that it is a code of the system."""
        if key in self.members:
            return True
        if key in self.left_out:
            return False
        return self._of_system(key[0])

    def _of_system(self, system: str) -> Verdict:
        gap = self.gaps.get(system)
        return False if gap is None else True if gap.whole else None

    def both(self, other: "Selection") -> "Selection":
        """What both select."""
        return self._joined(other, _and)

    def either(self, other: "Selection") -> "Selection":
        """What one of them selects. Raises TooMuch."""
        if not self.members and not self.gaps:
            return other
        return self._joined(other, _or)

    def without(self, other: "Selection") -> "Selection":
        """What this one selects and the other does not."""
        return self._joined(other, _and_not)

    def only(self, keeps: Callable[[Member], bool]) -> "Selection":
        """Its codes that pass a test."""
        return replace(self, members={key: one for key, one in self.members.items() if keeps(one)})

    def tokens(self) -> set[tuple[str, str | None]]:
        """System and code of each; (system, None) for a system that is in whole. Raises Incomputable, NotKept."""
        partly = {system for system, _ in self.left_out} | {name for name, gap in self.gaps.items() if not gap.whole}
        for gap in (self.gaps[system] for system in sorted(partly & self.gaps.keys())):
            if gap.why == "absent":
                raise NotKept("This server does not keep the code system that the value set takes some codes from")
            raise Incomputable("This server keeps too little of the code system that the value set takes codes from")
        return {*self.members, *((system, None) for system in self.gaps)}

    def _joined(self, other: "Selection", rule: Rule) -> "Selection":
        gaps: dict[str, Gap] = {}
        for system in {**self.gaps, **other.gaps}:
            verdict = rule(self._of_system(system), other._of_system(system))
            if verdict is not False:
                gap = self.gaps.get(system) or other.gaps[system]
                gaps[system] = Gap(verdict is True, gap.why)
        members: dict[Key, Member] = {}
        left_out: set[Key] = set()
        for key in {**self.members, **other.members, **dict.fromkeys(self.left_out | other.left_out)}:
            verdict = rule(self.verdict(key), other.verdict(key))
            mine, theirs = self.members.get(key), other.members.get(key)
            if verdict and (one := mine or theirs):
                members[key] = one.beside(theirs) if theirs else one
            elif verdict is False and key[0] in gaps:
                left_out.add(key)
            elif verdict is not False and key[0] not in gaps:
                gaps[key[0]] = Gap(whole=False, why=self._why(other, key[0]))
        if len(members) > MOST:
            raise TooMuch(f"The value set selects more than {MOST} codes")
        return Selection(members, gaps, frozenset(left_out))

    def _why(self, other: "Selection", system: str) -> Why:
        gap = self.gaps.get(system) or other.gaps.get(system)
        return gap.why if gap else "absent"


def member_of(system: CodeSystem, concept: Concept) -> Member:
    """A concept of a code system as a code that is selected."""
    return Member(
        system.url,
        concept.code,
        system.version,
        concept,
        system,
        inactive=concept.inactive,
        abstract=concept.abstract,
    )


def of_members(members: Iterable[Member]) -> Selection:
    """A selection of these codes; of two with one code the first."""
    found: dict[Key, Member] = {}
    for one in members:
        found.setdefault(one.key, one)
    return Selection(found)


def _and(one: Verdict, other: Verdict) -> Verdict:
    return False if one is False or other is False else None if one is None or other is None else True


def _or(one: Verdict, other: Verdict) -> Verdict:
    return True if one or other else None if one is None or other is None else False


def _and_not(one: Verdict, other: Verdict) -> Verdict:
    return _and(one, None if other is None else not other)
