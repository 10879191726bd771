"""Somebody approves a list: from then on `retention delete` may destroy what is on it, if it still may by then."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from fhir_server.outcomes import BadParameter, Conflict
from fhir_server.records import audit
from fhir_server.records.write import new_id
from fhir_server.retention import listing
from fhir_server.retention.due import CALLER
from fhir_server.store.access_log import insert_accesses
from fhir_server.store.retention import Line, RetentionRows, approvers

LINES_AT_ONCE: Final = 1000


@dataclass(frozen=True, slots=True)
class Approved:
    """A list after somebody's approval, and how many persons it still needs."""

    list_id: str
    documents: int
    approvers: tuple[str, ...]
    missing: int


async def approve(rows: RetentionRows, file: Path, *, by: str, needed: int) -> Approved:
    """Approve the list in a file. The same lines are the same list, whoever gives them back.

    Raises BadSyntax for a file that is no list, BadParameter for an empty one or a name that is none, Conflict where
    the same person approved it before.
    """
    name = " ".join(by.split()).casefold()
    if not name:
        raise BadParameter("Say who approves")
    list_id, number = listing.identity(file)
    if not number:
        raise BadParameter("There is no document on this list")
    at = datetime.now(UTC)
    async with rows.database.transaction() as connection:
        if await rows.announce(connection, list_id, number, at):
            for lines in _groups(listing.read(file)):
                await rows.add_lines(connection, list_id, lines, at)
        if not await rows.approve(connection, list_id, name, at):
            raise Conflict("This person has approved this list already: somebody else must")
        told = audit.access(CALLER, "operation", new_id(), query=f"retention approve {list_id}")
        await insert_accesses(connection, [told])
        names = tuple(await approvers(connection, list_id))
    return Approved(list_id, number, names, max(0, needed - len(names)))


def _groups(lines: Iterable[Line]) -> Iterator[list[Line]]:
    left = iter(lines)
    while group := list(islice(left, LINES_AT_ONCE)):
        yield group
