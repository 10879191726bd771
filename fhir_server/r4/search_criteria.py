"""What a search asks, as plain values: criteria, their sort and page, independent of text and of tables.

https://hl7.org/fhir/R4/search.html
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

from fhir_server.outcomes import Issue
from fhir_server.r4.include import Include
from fhir_server.r4.search_parameters import SearchParameter
from fhir_server.sight import EVERYTHING, Sight

DEFAULT_COUNT = 20
LARGEST_COUNT = 1000

TokenValue = tuple[str | None, str | None]
"""(system, code): system None means any, '' none; code None means any code of the system."""

Comparison = tuple[str, int, int]
"""Prefix and the half-open span of a date, in microseconds."""


@dataclass(frozen=True, slots=True)
class NumberComparison:
    """Prefix, the span `[low, high)` that the digits of the number stand for, and the number itself."""

    prefix: str
    low: Decimal
    high: Decimal
    value: Decimal


@dataclass(frozen=True, slots=True)
class QuantityComparison:
    """A number, with the system and code of its unit; system None means any, code None that no unit was given."""

    number: NumberComparison
    system: str | None
    code: str | None


@dataclass(frozen=True, slots=True)
class TokenIs:
    """Any of these tokens; negated, none of them."""

    parameter: SearchParameter
    values: tuple[TokenValue, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class TokenText:
    """`:text`: what is shown for the token begins with any of these."""

    parameter: SearchParameter
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TokenOfType:
    """`:of-type`: an identifier with any of these (system of its type, code of its type, value)."""

    parameter: SearchParameter
    values: tuple[tuple[str, str, str], ...]


@dataclass(frozen=True, slots=True)
class TokenIn:
    """`:in`, `:not-in`, `:below`, `:above`: any token of a value set, or beside one in the tree of its code system."""

    parameter: SearchParameter
    relation: Literal["in", "below", "above"]
    values: tuple[TokenValue, ...]
    """For `in`: (None, canonical URL or `ValueSet/id`)."""
    negated: bool = False


@dataclass(frozen=True, slots=True)
class ReferenceIs:
    """Any of these targets: `Type/id` or an absolute URL."""

    parameter: SearchParameter
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReferenceHas:
    """`:identifier`: the reference itself carries any of these identifiers."""

    parameter: SearchParameter
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class DateIs:
    """Any of these spans."""

    parameter: SearchParameter
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class StringIs:
    """Any of these texts."""

    parameter: SearchParameter
    values: tuple[str, ...]
    mode: Literal["starts", "exact", "contains", "ends", "equals"]
    """`exact` as it stands; the others in folded form, without case and accents."""


@dataclass(frozen=True, slots=True)
class UriIs:
    """Any of these, or (`below`) any URI that begins with one of them."""

    parameter: SearchParameter
    values: tuple[str, ...]
    below: bool = False


@dataclass(frozen=True, slots=True)
class NumberIs:
    """Any of these numbers."""

    parameter: SearchParameter
    comparisons: tuple[NumberComparison, ...]


@dataclass(frozen=True, slots=True)
class QuantityIs:
    """Any of these measures."""

    parameter: SearchParameter
    comparisons: tuple[QuantityComparison, ...]


@dataclass(frozen=True, slots=True)
class StretchIs:
    """Two numbers of one element, such as where a variant starts and where it ends."""

    start: NumberComparison
    end: NumberComparison


@dataclass(frozen=True, slots=True)
class Together:
    """A composite: one element has `token` and, beside it, the other value, or both other values."""

    parameter: SearchParameter
    token: TokenValue
    value: "TokenIs | ReferenceIs | QuantityIs | StretchIs"
    """Of the second component's parameter, and of the third's; its alternatives are one each."""


@dataclass(frozen=True, slots=True)
class Near:
    """`Location?near`: within `metres` of a point."""

    parameter: SearchParameter
    latitude: float
    longitude: float
    metres: float


@dataclass(frozen=True, slots=True)
class Missing:
    """`:missing`: the resource has no value for the parameter; not `missing`, it has one."""

    parameter: SearchParameter
    missing: bool


@dataclass(frozen=True, slots=True)
class TextHas:
    """`_text`, `_content`: words in the narrative, or anywhere."""

    where: Literal["text", "content"]
    words: str


@dataclass(frozen=True, slots=True)
class IdIs:
    """Any of these ids."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpdatedIs:
    """`_lastUpdated`."""

    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True, slots=True)
class ListedIn:
    """`_list`: an entry of the List with this id."""

    list_id: str


@dataclass(frozen=True, slots=True)
class Chained:
    """The reference leads to a resource of one of the types, which meets the criterion that stands beside the type.

    `many` says that so many are met that one had better begin at the other end; the store finds out.
    """

    parameter: SearchParameter
    branches: tuple[tuple[str, "Criterion"], ...]
    many: bool = False


@dataclass(frozen=True, slots=True)
class Referred:
    """`_has`: a resource of `source` that meets `criterion` refers to this one by `parameter`."""

    source: str
    parameter: SearchParameter
    criterion: "Criterion"
    many: bool = False


@dataclass(frozen=True, slots=True)
class AllOf:
    criteria: tuple["Criterion", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    criteria: tuple["Criterion", ...]


@dataclass(frozen=True, slots=True)
class Not:
    criterion: "Criterion"


Criterion = (
    TokenIs | TokenText | TokenOfType | TokenIn | ReferenceIs | ReferenceHas | DateIs | StringIs | UriIs | NumberIs
    | QuantityIs | Together | Near | Missing | TextHas | IdIs | UpdatedIs | ListedIn | Chained | Referred
    | AllOf | AnyOf | Not
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sort:
    """One key of the order. `parameter` None is `_lastUpdated`. What has no value comes last, either way."""

    parameter: SearchParameter | None
    descending: bool


@dataclass(frozen=True, slots=True)
class SearchQuery:
    """A search on one resource type. `applied` is what was understood, for the self link."""

    resource_type: str
    criteria: tuple[Criterion, ...]
    sort: tuple[Sort, ...] = ()
    count: int = DEFAULT_COUNT
    total: Literal["none", "estimate", "accurate"] = "none"
    only_count: bool = False
    cursor: str | None = None
    applied: tuple[tuple[str, str], ...] = ()
    ignored: tuple[Issue, ...] = field(default=())
    includes: tuple[Include, ...] = ()
    explained: bool = False
    sight: Sight = EVERYTHING
    """Of whoever asks."""

    @property
    def asked_types(self) -> frozenset[str]:
        """The types whose content the answer tells something of: the own one, and those that criteria lead to."""
        return frozenset({self.resource_type}.union(*(types_of(one) for one in self.criteria)))


def branches_of(criterion: Criterion) -> int:
    """How many resource types have to be asked, each by itself, for a criterion: what it costs at least."""
    match criterion:
        case Chained(_, branches):
            return sum(1 + branches_of(inner) for _, inner in branches)
        case Referred(_, _, inner):
            return 1 + branches_of(inner)
        case AllOf(criteria) | AnyOf(criteria):
            return sum(map(branches_of, criteria))
        case Not(inner):
            return branches_of(inner)
        case _:
            return 0


def types_of(criterion: Criterion) -> Iterator[str]:
    """The other types that a criterion asks about."""
    match criterion:
        case Chained(_, branches):
            for name, inner in branches:
                yield name
                yield from types_of(inner)
        case Referred(source, _, inner):
            yield source
            yield from types_of(inner)
        case ListedIn():
            yield "List"
        case TokenIn(_, relation):
            yield "CodeSystem"
            if relation == "in":
                yield "ValueSet"
        case AllOf(criteria) | AnyOf(criteria):
            for one in criteria:
                yield from types_of(one)
        case Not(inner):
            yield from types_of(inner)
        case _:
            pass


def narrowed(query: SearchQuery, may_search: Callable[[str], bool]) -> SearchQuery:
    """The query without the types that a chain only might lead to (`author.family`) and that may not be searched.

    A type that is named stays: whoever asks for it learns that he may not.
    """
    return replace(query, criteria=tuple(_narrowed(one, may_search) or one for one in query.criteria))


def _narrowed(criterion: Criterion, may_search: Callable[[str], bool]) -> Criterion | None:
    """None where nothing is left."""
    match criterion:
        case Chained(parameter, branches) if len(branches) > 1:
            left = tuple(
                (name, inner) for name, one in branches if may_search(name) and (inner := _narrowed(one, may_search))
            )
            return Chained(parameter, left) if left else None
        case AnyOf(criteria):
            left = tuple(inner for one in criteria if (inner := _narrowed(one, may_search)))
            return AnyOf(left) if left else None
        case _:
            return criterion
