"""A GraphQL query on behalf of a caller: what it leads to is read and searched as REST would, with rights and traces.

https://hl7.org/fhir/R4/graphql.html - what a query means is in `r4/graphql`; here is what it needs from the store.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import orjson

from fhir_server.caller import Caller
from fhir_server.outcomes import Forbidden
from fhir_server.r4 import search_query
from fhir_server.r4.graphql.document import Document
from fhir_server.r4.graphql.execution import Execution
from fhir_server.r4.graphql.schema import QUERY
from fhir_server.r4.graphql.selection import check
from fhir_server.r4.graphql.wants import Hit, Hits, Key, Reads, Search
from fhir_server.records import audit
from fhir_server.records.read import Archive
from fhir_server.store.ordering import Place

Pairs = list[tuple[str, str]]

# Of a cursor only: what its page is besides a search, in words that no search parameter has.
PATH, OFFSET, BEFORE = "fhirpath", "_offset", "_before"
MOST_BEFORE: Final = 20
"""Pages that one can go back."""


class Cursors(Protocol):
    """Seals the place of a page for one caller, and opens what was sealed for him."""

    def seal(self, resource_type: str, pairs: Pairs, place: Place | None) -> str: ...

    def open(self, resource_type: str, text: str) -> tuple[Pairs, Place | None]:
        """Raises BadParameter for what was not sealed for him, or of another type."""
        ...


async def answered(
    archive: Archive, caller: Caller, document: Document, root: Key | None, request_id: str, cursors: Cursors
) -> bytes:
    """The `data` of a query on the system, or on the resource `root`, as JSON.

    Raises BadParameter, TooCostly, Forbidden, NotFound (also for a mandatory reference), Gone, Unavailable.
    """
    root_type = root[0] if root else QUERY
    await asyncio.to_thread(check, document, root_type)  # beside the requests of others, as everything that computes
    loader = _Loader(archive, caller, request_id, cursors)
    resource = (await loader.named([root]))[root] if root else None
    execution = await asyncio.to_thread(Execution, document, resource)
    while want := execution.next():
        found = await loader.load(want)
        await asyncio.to_thread(execution.give, found)
    return await asyncio.to_thread(execution.data)


@dataclass(frozen=True, slots=True)
class _Page:
    """One page of a search, as it is asked for or as a cursor has it."""

    pairs: Pairs
    place: Place | None = None
    path: str | None = None
    offset: int = 0
    before: tuple[Place | None, ...] = ()
    """Where the pages before it begin, the last one last; as far as they are remembered."""


@dataclass(frozen=True, slots=True)
class _Loader:
    archive: Archive
    caller: Caller
    request_id: str
    cursors: Cursors

    async def load(self, want: Reads | Search) -> Mapping[Key, bytes] | Hits:
        match want:
            case Reads(keys, named=True):
                return await self.named(keys)
            case Reads(keys):
                found = await self.archive.read_referred(self.caller, keys, self.request_id)
                return {key: one.doc or b"" for key, one in found.items()}
            case Search():
                return await self._search(want)

    async def named(self, keys: tuple[Key, ...] | list[Key]) -> Mapping[Key, bytes]:
        """Reads by id; reads of the same moment travel together. Raises as a read of the first that fails does."""
        answers = await asyncio.gather(
            *(self.archive.read(self.caller, *key, self.request_id) for key in keys), return_exceptions=True
        )
        for key, answer in zip(keys, answers, strict=True):
            if isinstance(answer, Forbidden):
                await self._trace_refusal("read", *key)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return {
            key: one.doc or b"" for key, one in zip(keys, answers, strict=True) if not isinstance(one, BaseException)
        }

    async def _search(self, want: Search) -> Hits:
        page = self._asked(want)
        limit = [] if want.connection else [("_count", str(want.count))]
        total = [("_total", "accurate")] if want.counted else []
        query = search_query.parse(want.type, [*page.pairs, *limit, *total])
        text = audit.query_for_trail([want.type], page.pairs)
        try:
            found = await self.archive.search(self.caller, query, page.place, self.request_id, text)
        except Forbidden:
            await self._trace_refusal("search-type", want.type)
            raise
        hits = [Hit(hit.doc) for hit in found.hits]
        if not want.connection:
            return Hits(hits, more=found.next is not None)
        about = {"count": found.total, "offset": page.offset, "pagesize": query.count}
        return Hits(hits, path=page.path, about={**about, **self._cursors(want.type, page, found.next, query.count)})

    def _asked(self, want: Search) -> _Page:
        if want.cursor is None:
            return _Page(list(want.pairs), path=want.path)
        pairs, place = self.cursors.open(want.type, want.cursor)
        own = {name: value for name, value in pairs if name in (PATH, OFFSET, BEFORE)}
        before = tuple(Place(*one) if one else None for one in orjson.loads(own[BEFORE]))
        rest = [pair for pair in pairs if pair[0] not in own]
        return _Page(rest, place, own.get(PATH), int(own[OFFSET]), before)

    def _cursors(self, resource_type: str, page: _Page, following: Place | None, count: int) -> dict[str, str]:
        """The pages beside one, as far as they are known: where the last one begins is not."""

        def sealed(place: Place | None, offset: int, before: tuple[Place | None, ...]) -> str:
            path = [(PATH, page.path)] if page.path else []
            places = orjson.dumps([list(one) if one else None for one in before[-MOST_BEFORE:]]).decode()
            return self.cursors.seal(
                resource_type, [*page.pairs, *path, (OFFSET, str(offset)), (BEFORE, places)], place
            )

        found = {"first": sealed(None, 0, ())}
        if page.before:
            found["previous"] = sealed(page.before[-1], max(0, page.offset - count), page.before[:-1])
        if following:
            found["next"] = sealed(following, page.offset + count, (*page.before, page.place))
        return found

    async def _trace_refusal(self, interaction: str, resource_type: str, resource_id: str | None = None) -> None:
        """What of the query was refused; that the query was, the edge traces."""
        row = audit.access(
            self.caller,
            interaction,
            self.request_id,
            outcome=audit.REFUSED,
            resource_type=resource_type,
            resource_id=resource_id,
            patient_id=resource_id if resource_type == "Patient" else None,
        )
        await self.archive.accesses.append(row)
