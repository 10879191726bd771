"""A query carried out: resources are walked, and whoever runs it is told what to load next.

    execution = Execution(document, resource)
    while want := execution.next():
        execution.give(...)          # what was loaded for it
    execution.data()

Nothing is loaded twice for one level: the references that all resources of a level hold are one want, and reverse
references of several resources are one search where they can be.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import orjson

from fhir_server.outcomes import TooCostly
from fhir_server.r4.graphql.client_path import client_path
from fhir_server.r4.graphql.document import Document
from fhir_server.r4.graphql.limits import MOST_READS, MOST_RESOURCES, MOST_SEARCHES, MOST_TOGETHER
from fhir_server.r4.graphql.output import laid_out
from fhir_server.r4.graphql.schema import searched
from fhir_server.r4.graphql.search_arguments import Searching
from fhir_server.r4.graphql.selection import Field, Selected, Selections
from fhir_server.r4.graphql.walk import Following, Json, Looking, Walk, parsed
from fhir_server.r4.graphql.wants import Hits, Key, Reads, Search
from fhir_server.r4.index_values import Reference, extract
from fhir_server.r4.search_criteria import DEFAULT_COUNT, LARGEST_COUNT
from fhir_server.r4.search_parameters import SearchParameter

_ENCODER: Final = msgspec.json.Encoder(decimal_format="number")


class Execution:
    """One query that was checked, on the system or on one resource."""

    def __init__(self, document: Document, resource: bytes | None = None) -> None:
        self._selections = Selections(document)
        self._walk = Walk(self._selections)
        self._resources = self._reads = self._searches = 0
        self._now: Sequence[Following] | Sequence[Looking] = ()
        sets = (document.operation.selection_set,)
        self._top = self._walk.resource(sets, parsed(resource)) if resource else self._walk.top(sets)

    def next(self) -> Reads | Search | None:
        """What is to be loaded now, None where all is there. Raises TooCostly."""
        walk = self._walk
        if walk.named:
            self._now, walk.named = walk.named, []
            return self._reading(self._now, named=True)
        if walk.looking:
            return self._search()
        if walk.referred:
            self._now, walk.referred = walk.referred, []
            return self._reading(self._now, named=False)
        return None

    def give(self, found: Mapping[Key, bytes] | Hits) -> None:
        """What was loaded. Raises NotFound for a mandatory reference without resource, BadParameter, TooCostly."""
        if isinstance(found, Hits):
            self._look([one for one in self._now if isinstance(one, Looking)], found)
        else:
            self._follow([one for one in self._now if isinstance(one, Following)], found)
        self._now = ()

    def data(self) -> bytes:
        """The answer as JSON, once nothing is to be loaded any more. Raises BadParameter for what cannot be flat."""
        return _ENCODER.encode(laid_out(self._top))

    def _reading(self, wanted: Sequence[Following], *, named: bool) -> Reads:
        keys = tuple(dict.fromkeys(one.key for one in wanted))
        self._reads += len(keys) if named else 0
        if self._reads > MOST_READS:
            raise TooCostly(f"The query reads more than {MOST_READS} resources by their ids: ask for a list")
        self._count(len(keys))
        return Reads(keys, named)

    def _follow(self, wanted: Sequence[Following], found: Mapping[Key, bytes]) -> None:
        read: dict[Key, Json] = {}
        for one in wanted:
            if one.key in found:
                resource = read.get(one.key) or read.setdefault(one.key, parsed(found[one.key]))
                self._walk.show(one.part, [resource])
            else:
                self._walk.is_missing(one)

    def _count(self, resources: int) -> None:
        self._resources += resources
        if self._resources > MOST_RESOURCES:
            raise TooCostly(f"The query leads to more than {MOST_RESOURCES} resources: narrow it, or ask in several")

    def _search(self) -> Search:
        """The next search; for as many resources at once as can be told apart afterwards."""
        self._searches += 1
        if self._searches > MOST_SEARCHES:
            raise TooCostly(f"The query makes more than {MOST_SEARCHES} searches: ask for less, or in several queries")
        first, together = self._walk.looking[0], [self._walk.looking[0]]
        searching, one = first.searching, first.part.field
        if searching.reference and searching.count is None and not one.definition.connection:
            together = [other for other in self._walk.looking if other.part.field is one][:MOST_TOGETHER]
        self._now = together
        taken = set(map(id, together))
        self._walk.looking = [other for other in self._walk.looking if id(other) not in taken]
        pairs = searching.pairs
        if searching.reference:
            names = dict.fromkeys(str(other.name) for other in together)
            pairs = (*pairs, (searching.reference.code, ",".join(names)))
        if searching.count is not None:
            pairs = (*pairs, ("_count", str(searching.count)))
        return Search(
            searched(one.definition),
            pairs,
            self._wanted(one, searching),
            one.definition.connection,
            self._is_counted(one),
            searching.path.text if searching.path else None,
            searching.cursor,
        )

    def _wanted(self, one: Field, searching: Searching) -> int:
        """How many resources the search may find; of a list that is not to be cut, all that are left to the query."""
        if one.definition.connection:
            return min(DEFAULT_COUNT if searching.count is None else searching.count, LARGEST_COUNT)
        left = MOST_RESOURCES - self._resources
        if not left:
            self._count(1)
        return left if _is_whole(searching) else min(left, searching.count or 0)

    def _is_counted(self, one: Field) -> bool:
        if not one.definition.connection:
            return False
        selected = self._selections.of(one.below, Selected(one.definition.type))
        return any(other.definition.name == "count" for other in selected)

    def _look(self, together: Sequence[Looking], hits: Hits) -> None:
        self._count(len(hits.found))
        first = together[0]
        if hits.more and _is_whole(first.searching) and not first.part.field.definition.connection:
            raise TooCostly(
                f"More than {MOST_RESOURCES} resources would be listed: narrow it, give _count, or ask for a connection"
            )
        resources = [parsed(one.doc) for one in hits.found]
        if len(together) == 1:
            self._found(first, resources, hits)
            return
        reference = first.searching.reference
        assert reference is not None
        leads = [_leads(one.doc, reference) for one in hits.found]
        for one in together:
            self._found(one, [found for found, names in zip(resources, leads, strict=True) if one.name in names], hits)

    def _found(self, one: Looking, resources: Sequence[Json], hits: Hits) -> None:
        part, path = one.part, one.searching.path
        if hits.path and path is None:  # of a cursor
            path = client_path(hits.path, part.field.node)
        kept = self._walk.chosen(resources, path) if path else range(len(resources))
        if part.field.definition.connection:
            edges = [
                {"mode": hits.found[at].mode, "score": hits.found[at].score, "resource": resources[at]} for at in kept
            ]
            self._walk.connect(part, hits.about, edges)
        else:
            part.is_answered = True
            self._walk.show(part, [resources[at] for at in kept[: one.searching.count]])


def _is_whole(searching: Searching) -> bool:
    """Whether a list is everything that there is, or an error: what is chosen by FHIRPath is cut afterwards."""
    return searching.count is None or searching.path is not None


def _leads(doc: bytes, parameter: SearchParameter) -> frozenset[str]:
    """What a document refers to by a search parameter."""
    values: Iterable[Any] = extract(orjson.loads(doc))
    return frozenset(
        one.target for one in values if isinstance(one, Reference) and one.param.number == parameter.number
    )
