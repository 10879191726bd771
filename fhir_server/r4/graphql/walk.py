"""Resources walked along what is selected: they become branches of the answer, and what they lead to is noted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

import msgspec

from fhir_server.outcomes import Issue, NotFound, TooCostly
from fhir_server.r4.fhirpath.nodes import Node, root
from fhir_server.r4.graphql.arguments import Filters, Reading, Resolving
from fhir_server.r4.graphql.client_path import ClientPath, Meter
from fhir_server.r4.graphql.faults import place_of
from fhir_server.r4.graphql.limits import LARGEST_SHOWN, MOST_LOOKS, MOST_VALUES
from fhir_server.r4.graphql.output import Branch, Part
from fhir_server.r4.graphql.schema import ANY, QUERY, shown_name
from fhir_server.r4.graphql.search_arguments import Searching
from fhir_server.r4.graphql.selection import Field, Selected, Selections, Sets, below
from fhir_server.r4.graphql.wants import Key
from fhir_server.r4.references import is_local

Json = dict[str, Any]

_JSON: Final = msgspec.json.Decoder(float_hook=Decimal)
"""Numbers keep their digits: https://hl7.org/fhir/R4/json.html#primitive"""


def parsed(doc: bytes) -> Json:
    """A stored document."""
    return _JSON.decode(doc)


@dataclass(frozen=True, slots=True)
class Within:
    """Where an element stands: in which resource, and by what name others refer to that one."""

    around: Json
    name: str | None


NOWHERE: Final = Within({}, None)
LEADING: Final = frozenset({"resolve", "read", "search"})
"""What gets its values later."""


@dataclass(frozen=True, slots=True)
class Following:
    """A reference that is to be followed, or a read, and the part of the answer that waits for it."""

    part: Part
    key: Key


@dataclass(frozen=True, slots=True)
class Looking:
    """A list or connection, of the resource `name` where it is about what refers to one."""

    part: Part
    searching: Searching
    name: str | None


class Walk:
    """The walk of one query through all that it is given, and what it leads to from there."""

    def __init__(self, selections: Selections) -> None:
        self.named: list[Following] = []
        self.referred: list[Following] = []
        self.looking: list[Looking] = []
        self._selections = selections
        self._meter = Meter()
        self._values = self._looks = self._characters = 0

    def top(self, sets: Sets) -> Branch:
        """The root of a query of the system."""
        return self._branch(sets, Selected(QUERY), {}, NOWHERE)

    def resource(self, sets: Sets, resource: Json) -> Branch:
        """A resource that is kept. Raises BadParameter, NotFound for a mandatory reference, TooCostly."""
        name = f"{resource['resourceType']}/{resource['id']}" if "id" in resource else None
        return self._branch(sets, Selected(resource["resourceType"]), resource, Within(resource, name))

    def show(self, part: Part, resources: Sequence[Json]) -> None:
        """Resources into the part that waits for them. Raises as `resource` does."""
        shape = part.field.shape
        for index, resource in enumerate(resources[:1] if shape.first else resources):
            place = root(resource)
            name = shape.slice.name(self._meter, place, place, index) if shape.slice else None
            self._add(part, self.resource(part.field.below, resource), name)

    def connect(self, part: Part, about: Mapping[str, Any], edges: Sequence[Json]) -> None:
        """A connection into the part that waits for it. Raises as `resource` does."""
        connection = {**about, "edges": edges}
        self._add(part, self._branch(part.field.below, Selected(part.field.definition.type), connection, NOWHERE))

    def chosen(self, resources: Sequence[Json], path: ClientPath) -> list[int]:
        """The places of the resources of which an expression is true. Raises BadParameter, TooCostly."""
        places = [root(resource) for resource in resources]
        return [at for at, place in enumerate(places) if path.holds(self._meter, place, place, at)]

    def is_missing(self, one: Following) -> None:
        """Nothing is there that may be shown. Raises NotFound where it has to be."""
        if isinstance(resolving := one.part.field.arguments, Resolving):
            self._missing(one.part, resolving)

    def _branch(self, sets: Sets, selected: Selected, value: Json, within: Within) -> Branch:
        branch = Branch([])
        fields = self._selections.of(sets, selected)
        self._look(len(fields))
        for one in fields:
            part = Part(one)
            self._fill(part, selected, value, within)
            if part.values or part.is_answered or one.definition.kind in LEADING:  # what is not there takes no memory
                branch.parts.append(part)
        return branch

    def _fill(self, part: Part, selected: Selected, value: Json, within: Within) -> None:
        one = part.field
        match one.definition.kind, one.arguments:
            case "primitive" | "complex", Filters() as filters:
                self._elements(part, filters, value, within)
            case "made", _:
                self._made(part, value, within)
            case "type-name", _:
                self._add(part, shown_name(selected.type))
            case "resource-type", _:
                self._add(part, value["resourceType"])
            case "resolve", Resolving() as resolving:
                self._resolve(part, resolving, value, within)
            case "read", Reading(resource_id):
                self.named.append(Following(part, (one.definition.type, resource_id)))
            case _, Searching() as searching:
                if searching.reference is None or within.name:
                    self.looking.append(Looking(part, searching, within.name))
                else:  # nobody refers to what is inside another resource
                    part.is_answered = not one.definition.connection
            case _:
                raise AssertionError(one.definition)

    def _elements(self, part: Part, filters: Filters, value: Json, within: Within) -> None:
        definition = part.field.definition
        found = value.get(definition.name)
        if found is None:
            return
        items = found if definition.repeats else [found]
        self._look(len(items))
        places = [
            (item, Node(definition.type, None, None, value, definition.name, index if definition.repeats else None))
            for index, item in enumerate(items)
        ]
        self._take(part, self._chosen(places, filters, within), within)

    def _chosen(
        self, places: Sequence[tuple[Any, Node]], filters: Filters, within: Within
    ) -> Sequence[tuple[Any, Node]]:
        """Those that the filters mean; offset and count are of what the others leave."""
        for name, texts in filters.equal:
            places = [one for one in places if isinstance(one[0], dict) and _has(one[0].get(name), texts)]
        if path := filters.path:
            around = root(within.around)
            places = [
                one
                for index, one in enumerate(places)
                if one[0] is not None and path.holds(self._meter, one[1], around, index)
            ]
        end = None if filters.count is None else filters.offset + filters.count
        return places[filters.offset : end]

    def _take(self, part: Part, places: Sequence[tuple[Any, Node]], within: Within) -> None:
        """Elements into the answer, under names of their own where they are sliced."""
        shape = part.field.shape
        for index, (item, place) in enumerate(places[:1] if shape.first else places):
            name = None
            if shape.slice and item is not None:
                name = shape.slice.name(self._meter, place, root(within.around), index)
            self._add(part, self._value(part.field, item, within), name)

    def _value(self, one: Field, item: Any, within: Within) -> Any:
        definition = one.definition
        if item is None or not one.below:
            return item
        if definition.type != ANY:
            return self._branch(one.below, below(definition, definition.type), item, within)
        if definition.name != "contained":  # an entry of a Bundle is a resource by itself
            within = Within(item, None)
        return self._branch(one.below, Selected(item["resourceType"]), item, Within(within.around, None))

    def _made(self, part: Part, value: Json, within: Within) -> None:
        definition = part.field.definition
        found = value.get(definition.name, ())
        part.is_answered = definition.repeats
        for item in (found if definition.repeats else [found])[: 1 if part.field.shape.first else None]:
            if "resourceType" in item:
                self._add(part, self.resource(part.field.below, item))
            else:
                self._add(part, self._branch(part.field.below, Selected(definition.type), item, within))

    def _add(self, part: Part, value: Any, name: str | None = None) -> None:
        self._values += 1
        if self._values > MOST_VALUES:
            raise TooCostly(
                f"The answer would have more than {MOST_VALUES} elements: select less, or in several queries"
            )
        self._characters += len(part.field.key) + len(name or "") + (len(value) if isinstance(value, str) else 0)
        if self._characters > LARGEST_SHOWN:
            raise TooCostly(f"The answer would have more than {LARGEST_SHOWN} characters: select less, or in several")
        part.add(value, name)

    def _look(self, count: int) -> None:
        self._looks += count
        if self._looks > MOST_LOOKS:
            raise TooCostly(f"The query looks at more than {MOST_LOOKS} fields and elements: select less, or narrow it")

    def _resolve(self, part: Part, resolving: Resolving, value: Json, within: Within) -> None:
        """https://hl7.org/fhir/R4/graphql.html#references"""
        text = str(value.get("reference", ""))
        types = resolving.types
        if text.startswith("#"):
            contained = within.around.get("contained", ()) if text != "#" else [within.around]
            inside = next((one for one in contained if text in ("#", f"#{one.get('id')}")), None)
            if inside is None:
                self._missing(part, resolving)
            elif types is None or inside["resourceType"] in types:
                selected = Selected(inside["resourceType"])
                self._add(part, self._branch(part.field.below, selected, inside, Within(within.around, None)))
            return
        target = is_local(text)
        if types is not None and (target[0] if target else value.get("type", next(iter(types)))) not in types:
            return
        if target is None:
            self._missing(part, resolving)
        else:
            self.referred.append(Following(part, target))

    def _missing(self, part: Part, resolving: Resolving) -> None:
        """The same words whatever the reason: whoever may not see a resource does not learn that it is there."""
        if not resolving.optional:
            text = "A reference that is not optional leads to nothing that can be shown"
            raise NotFound(issues=[Issue("error", "not-found", text, location=place_of(part.field.node))])


def _has(value: Any, texts: frozenset[str]) -> bool:
    """Whether an element, or one of a list of them, is written as one of these texts."""
    match value:
        case list():
            return any(_has(one, texts) for one in value)
        case bool():
            return str(value).lower() in texts
        case None:
            return False
        case _:
            return str(value) in texts
