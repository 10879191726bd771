"""Roles and what the law lets each see and write of a DMST: the table `roles.toml`, as bits.

R4624-45-5 C. trav. The edition in force is the law's, or less where the service's doctor has laid down less.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, Final, Literal

import msgspec

from fhir_server.sight import Sight
from mappings.access_facts import HEADINGS, NOT_A_MODEL, UNFILED, UNKNOWN, UNQUALIFIED, WITHHELD, WORKER_UNCLEAR

OF_A_WORKER: Final = sum(HEADINGS.values()) | UNQUALIFIED
NOTHING_OF_A_WORKER: Final = OF_A_WORKER | UNKNOWN | sum(WITHHELD.values())
Review = Literal["none", "index", "whole"]
"""How much of a folder that waits for its worker somebody sees and decides on."""
_LESS_TO_MORE: Final[tuple[Review, ...]] = ("none", "index", "whole")


class Role(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A row of the table; the fields are explained there."""

    label: str
    source: str
    read: tuple[int, ...] = ()
    write: tuple[int, ...] = ()
    unqualified: bool = False
    sees: tuple[str, ...] = ()
    opposed_by: tuple[str, ...] = ()
    delegation: bool = False
    models_only: bool = False
    own_record: bool = False
    purposes: tuple[str, ...] = ()
    recalls: bool = False
    trail: bool = False
    team: bool = False
    break_glass: bool = False
    review: Review = "none"

    def hidden(self) -> int:
        """The bits that hide a resource from it."""
        bits = UNKNOWN | _without(self.read) | sum(bit for code, bit in WITHHELD.items() if code not in self.sees)
        bits |= 0 if self.unqualified else UNQUALIFIED
        bits |= WORKER_UNCLEAR if self.opposed_by or self.own_record else 0
        return bits | NOT_A_MODEL if self.models_only else bits

    def closed(self) -> int:
        """The bits of what it may not write."""
        return UNKNOWN | UNFILED | _without(self.write) | (0 if self.unqualified else UNQUALIFIED)


def _without(headings: tuple[int, ...]) -> int:
    return sum(bit for heading, bit in HEADINGS.items() if heading not in headings)


def read_table(table: Mapping[str, Any]) -> dict[str, Role]:
    """Roles by their codes. Raises ValueError for what no table may hold."""
    roles: dict[str, Role] = {}
    for code, row in table.items():
        try:
            role = msgspec.convert(row, Role)
        except msgspec.ValidationError as error:
            raise ValueError(f"{code}: {error}") from error
        if not {*role.read, *role.write} <= HEADINGS.keys() or not set(role.sees) <= WITHHELD.keys():
            raise ValueError(f"{code}: a heading is 1 to 7, and what is seen one of {', '.join(WITHHELD)}")
        if role.unqualified and set(role.read) != HEADINGS.keys():
            raise ValueError(f"{code}: what is unqualified is seen only by who sees every heading")
        roles[code] = role
    return roles


@cache
def of_the_law() -> Mapping[str, Role]:
    """What no edition goes beyond."""
    return read_table(tomllib.loads((files("fhir_server") / "roles.toml").read_text(encoding="utf-8")))


def restricted(edition: Mapping[str, Role]) -> dict[str, Role]:
    """The table of the law with these rows in the place of its own. Raises ValueError for one that allows more."""
    for code, role in edition.items():
        law = of_the_law().get(code)
        if law is None:
            raise ValueError(f"{code}: no role of the law")
        if _allows_more(role, law):
            raise ValueError(f"{code}: goes beyond {law.source}")
    in_teams = {code: msgspec.structs.replace(role, team=True) for code, role in edition.items() if _of_a_team(code)}
    return {**of_the_law(), **edition, **in_teams}


def _of_a_team(code: str) -> bool:
    """An edition may put further roles into teams, and need not repeat which are: older ones could not."""
    return of_the_law()[code].team


def _allows_more(role: Role, law: Role) -> bool:
    return bool(
        law.hidden() & ~role.hidden()
        or law.closed() & ~role.closed()
        or set(law.opposed_by) - set(role.opposed_by)
        or (law.delegation and not role.delegation)
        or (law.models_only and not role.models_only)
        or (law.own_record and not role.own_record)
        or (role.recalls and not law.recalls)
        or (role.trail and not law.trail)
        or (role.break_glass and not law.break_glass)
        or _LESS_TO_MORE.index(role.review) > _LESS_TO_MORE.index(law.review)
        or (law.purposes and (not role.purposes or set(role.purposes) - set(law.purposes)))
    )


@dataclass(slots=True)
class InForce:
    """The table of this process, and the number of its edition: 0 is the law's."""

    edition: int = 0
    table: Mapping[str, Role] = field(default_factory=of_the_law)

    def put(self, edition: int, table: Mapping[str, Role]) -> None:
        self.edition, self.table = edition, table
        sight_of.cache_clear()
        closed_to.cache_clear()


IN_FORCE: Final = InForce()


@lru_cache(maxsize=4096)
def sight_of(
    role: str,
    purpose: str | None,
    only: int | None,
    *,
    delegated: bool,
    team: tuple[str, ...] | None = None,
    lifted: tuple[int, ...] = (),
) -> Sight:
    """What somebody in a role sees. An unknown role sees nothing of any worker.

    `team`: the centres to which he is kept, where the service keeps professionals to theirs; `lifted`: the workers for
    whom he declared a reason.
    """
    row = IN_FORCE.table.get(role)
    if row is None:
        return Sight(NOTHING_OF_A_WORKER)
    if (
        (row.delegation and not delegated)
        or (row.own_record and only is None)
        or (row.purposes and purpose not in row.purposes)
    ):
        return Sight(row.hidden() | OF_A_WORKER)
    only = only if row.own_record else None
    if not row.team:
        return Sight(row.hidden(), row.opposed_by, only)
    return Sight(row.hidden(), row.opposed_by, only, team=team, lifted=lifted)


@lru_cache(maxsize=256)
def closed_to(role: str, *, delegated: bool) -> int:
    """The bits of what somebody in a role may not write."""
    row = IN_FORCE.table.get(role)
    return NOTHING_OF_A_WORKER if row is None or (row.delegation and not delegated) else row.closed()


def may_recall(role: str) -> bool:
    """Whether somebody in a role may make what is non-transmissible transmissible again."""
    row = IN_FORCE.table.get(role)
    return row is not None and row.recalls


def needs_delegation(role: str) -> bool:
    """Whether somebody in a role sees nothing of a worker without a delegation in force."""
    row = IN_FORCE.table.get(role)
    return row is not None and row.delegation


def is_of_a_team(role: str) -> bool:
    """Whether somebody in a role belongs to the team of a centre, so that it is told when he looks beyond it."""
    row = IN_FORCE.table.get(role)
    return row is not None and row.team


def sees_own_record(role: str) -> bool:
    """Whether somebody in a role is a worker, who sees his own record alone."""
    row = IN_FORCE.table.get(role)
    return row is not None and row.own_record


def may_read_trail(role: str) -> bool:
    """Whether somebody in a role may read the trail, where a scope lets him."""
    row = IN_FORCE.table.get(role)
    return row is not None and row.trail


def may_review(role: str, *, delegated: bool) -> Review:
    """How much of the folders that wait for their worker somebody in a role sees and decides on."""
    row = IN_FORCE.table.get(role)
    return "none" if row is None or (row.delegation and not delegated) else row.review
