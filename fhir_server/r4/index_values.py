"""Everything that a resource can be found by: the values of its search parameters, in the shape of each search type.

https://hl7.org/fhir/R4/search.html#ptypes

Per resource type the paths of all parameters are merged into one tree of JSON properties at first use, so that a
resource is walked once. At the end of a path stands a maker: it knows the type that is found there.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final, NamedTuple

from fhir_server.r4.dates import period_of
from fhir_server.r4.definitions import codes_of
from fhir_server.r4.paths import RESOLVE, ExistsAndIsNot, Filter, Step, TypedPath, compile_expression
from fhir_server.r4.references import split_reference
from fhir_server.r4.search_parameters import REGISTRY, SearchParameter, indexed_of, parameter_at

__all__ = [
    "Composite", "IndexValue", "Number", "Period", "Position", "Quantity", "Reference", "Text", "Token", "Uri",
    "can_index", "extract", "period_of",
]  # fmt: skip

EVER: Final = 2**62
"""An open end of a Period, in microseconds; its negative for an open start."""

NOT_EXTRACTED: Final = frozenset({"_id", "_lastUpdated"})
"""The store has columns for these."""

LEAST: Final = Decimal("-Infinity")
GREATEST: Final = Decimal("Infinity")
ISO_4217: Final = "urn:iso:std:iso:4217"


class Token(NamedTuple):
    """A code within a system: Coding, CodeableConcept, Identifier, code, boolean, ContactPoint, text."""

    param: SearchParameter
    system: str | None
    """None when there is none; of a code with a required binding, the system of its value set."""
    code: str | None
    """None for a concept that has only a text."""
    display: str | None = None
    """For `:text`: the display of a coding, else the text of its concept; the text of an identifier's type."""
    kinds: tuple[tuple[str | None, str], ...] = ()
    """For `:of-type`: system and code of an identifier's type."""


class Reference(NamedTuple):
    """What a reference points to."""

    param: SearchParameter
    target: str
    """`Type/id` without version for a relative one; an absolute URL, urn:, #fragment or canonical as given; else ''."""
    identifier: tuple[str | None, str] | None = None
    """For `:identifier`: system and value of the logical reference."""


class Text(NamedTuple):
    """A string as it stands: whoever compares folds case and accents."""

    param: SearchParameter
    value: str


class Period(NamedTuple):
    """A span of time `[low, high)`, in microseconds UTC since 1970; open ends are `-EVER` and `EVER`."""

    param: SearchParameter
    low: int
    high: int


class Number(NamedTuple):
    """A number, or a range of numbers with both ends in it; a plain number is exact, so low is high."""

    param: SearchParameter
    low: Decimal
    high: Decimal


class Quantity(NamedTuple):
    """A measure as it stands, in its own unit: whoever compares converts."""

    param: SearchParameter
    low: Decimal
    high: Decimal
    """Both equal `value`, unless a comparator, a range or samples say otherwise; open ends are infinite."""
    value: Decimal
    system: str | None
    code: str | None
    unit: str | None


class Uri(NamedTuple):
    """A uri, url, oid or canonical as given."""

    param: SearchParameter
    value: str


class Position(NamedTuple):
    """A point on the globe, in degrees of WGS 84: `Location?near`."""

    param: SearchParameter
    latitude: float
    longitude: float


class Composite(NamedTuple):
    """The values of the components that stand together in one element; a part may have several values."""

    param: SearchParameter
    parts: "tuple[tuple[IndexValue, ...], ...]"


IndexValue = Token | Reference | Text | Period | Number | Quantity | Uri | Position | Composite


class Root(NamedTuple):
    """The resource that is walked, and what it contains: looked up, since many references may lead there."""

    resource: Mapping[str, Any]
    contained: Mapping[str, Sequence[Mapping[str, Any]]]
    """By the text of a reference to it: `#id`."""


Out = list[IndexValue]
Maker = Callable[[Any, Root, Out], None]
"""Adds the index values of one found value."""


def extract(resource: Mapping[str, Any]) -> list[IndexValue]:
    """Every index value of a resource that is valid R4 (see `structure.check`), for every parameter of its type.

    `_id` and `_lastUpdated` are left to the store; `_text` and `_content` have no expression. Nothing is said of
    contained resources but where an expression goes there (`resolve().ofType(Type)`). The order means nothing, and a
    value may come twice.
    """
    out: Out = []
    contained: dict[str, list[Mapping[str, Any]]] = {}
    for one in resource.get("contained", ()):
        if "id" in one:
            contained.setdefault(f"#{one['id']}", []).append(one)
    _walker(resource["resourceType"])(resource, Root(resource, contained), out)
    return out


def can_index(search_type: str, type_name: str) -> bool:
    """Whether values of this FHIR type can be found by a parameter of this search type."""
    return (search_type, type_name) in _FACTORIES


class _Node:
    """One place in the tree: what is made of a value there, and where the walk goes on."""

    __slots__ = ("branches", "makers")

    def __init__(self) -> None:
        self.makers: list[Maker] = []
        self.branches: dict[Step, _Node] = {}

    def plant(self, steps: Iterable[Step], maker: Maker) -> None:
        node = self
        for step in steps:
            node = node.branches.setdefault(step, _Node())
        node.makers.append(maker)

    def walker(self) -> Maker:
        """The tree as one function."""
        contained = [(s.filter, n) for s, n in self.branches.items() if s.key == RESOLVE]
        makers = (*self.makers, *(_contained(kind.value, n.walker()) for kind, n in contained if kind))
        others = [(s, n) for s, n in self.branches.items() if s.key != RESOLVE]
        branches = tuple((s.key, s.index, _keeps(s.filter), n.walker()) for s, n in others)
        if not branches and len(makers) == 1:
            return makers[0]

        def walk(value: Any, root: Root, out: Out) -> None:
            for make in makers:
                make(value, root, out)
            for key, index, keeps, go_on in branches:
                found = value.get(key)
                if found is None:
                    continue
                items = found if type(found) is list else (found,)
                if index is not None:
                    items = items[index : index + 1]
                for item in items:
                    if item is not None and (keeps is None or keeps(item, root)):
                        go_on(item, root, out)

        return walk


@REGISTRY.cached
def _walker(resource_type: str) -> Maker:
    tree = _Node()
    for parameter in indexed_of(resource_type).values():
        if parameter.code in NOT_EXTRACTED or not parameter.expression:
            continue
        selected = compile_expression(parameter.expression, resource_type)
        if isinstance(selected, ExistsAndIsNot):
            tree.plant((), _truth(parameter, selected.paths))
        elif parameter.type == "composite":
            for path in selected:
                tree.plant(path.steps, _composite(parameter, path.type))
        else:
            _plant(tree, parameter, selected)
    return tree.walker()


def _plant(tree: _Node, parameter: SearchParameter, paths: Iterable[TypedPath]) -> None:
    """Paths whose type the search type cannot use, such as an Age for a date, are left out."""
    for path in paths:
        factory = _FACTORIES.get((parameter.type, path.type))
        if factory is not None:
            tree.plant(path.steps, factory(parameter, path))


def _composite(parameter: SearchParameter, type_name: str) -> Maker:
    """One value per element in which every component has one."""
    parts: list[tuple[Maker, bool]] = []
    for url, expression in parameter.components:
        paths = compile_expression(expression, type_name)
        assert not isinstance(paths, ExistsAndIsNot)
        tree = _Node()
        _plant(tree, parameter_at(url), paths)
        parts.append((tree.walker(), any(path.from_resource for path in paths)))

    def make(value: Any, root: Root, out: Out) -> None:
        found: list[tuple[IndexValue, ...]] = []
        for walk, from_resource in parts:
            values: Out = []
            walk(root.resource if from_resource else value, root, values)
            if not values:
                return
            found.append(tuple(values))
        out.append(Composite(parameter, tuple(found)))

    return make


def _truth(parameter: SearchParameter, paths: Iterable[TypedPath]) -> Maker:
    keys = tuple(path.steps[0].key for path in paths)

    def make(_value: Any, root: Root, out: Out) -> None:
        true = any(root.resource.get(key) not in (None, False) for key in keys)
        out.append(Token(parameter, None, "true" if true else "false"))

    return make


def _keeps(condition: Filter | None) -> Callable[[Any, Root], bool] | None:
    if condition is None:
        return None
    name, wanted = condition.name, condition.value
    if condition.kind == "equals":
        return lambda item, _root: item.get(name) == wanted
    return lambda item, root: _type_behind(item, root) == wanted


def _contained(kind: str, go_on: Maker) -> Maker:
    """From a Reference to the contained resource of this type that it names."""

    def make(value: Any, root: Root, out: Out) -> None:
        for one in root.contained.get(value.get("reference", ""), ()):
            if one["resourceType"] == kind:
                go_on(one, root, out)

    return make


def _type_behind(reference: Mapping[str, Any], root: Root) -> str | None:
    """The type of what a Reference points to, as far as its text, its `type` or the contained resources tell."""
    text = reference.get("reference", "")
    if text.startswith("#"):
        return next((one["resourceType"] for one in root.contained.get(text, ())), None)
    if parts := split_reference(text):
        return parts[0]
    if stated := reference.get("type"):
        return str(stated).rpartition("/")[2]
    if text.startswith("http") and (parts := split_reference("/".join(_tail(text)))):
        return parts[0]
    return None


def _tail(url: str) -> list[str]:
    """`Type/id` at the end of a RESTful URL, with `_history/version` where it is there."""
    segments = url.split("/")
    return segments[-4:] if segments[-2:-1] == ["_history"] else segments[-2:]


def _token_coding(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        out.append(Token(p, value.get("system"), value.get("code"), value.get("display")))

    return make


def _token_concept(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        text, codings = value.get("text"), value.get("coding", ())
        for coding in codings:
            out.append(Token(p, coding.get("system"), coding.get("code"), coding.get("display", text)))
        if text is not None and all(coding.get("display", text) != text for coding in codings):
            out.append(Token(p, None, None, text))

    return make


def _token_identifier(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        kind = value.get("type")
        if kind is None:
            out.append(Token(p, value.get("system"), value.get("value")))
            return
        kinds = tuple((one.get("system"), one["code"]) for one in kind.get("coding", ()) if "code" in one)
        out.append(Token(p, value.get("system"), value.get("value"), kind.get("text"), kinds))

    return make


def _token_contact(p: SearchParameter, _path: TypedPath) -> Maker:
    """The system of a contact point is its kind (`phone`), so that `telecom=email|...` can be asked."""

    def make(value: Any, _root: Root, out: Out) -> None:
        if "value" in value:
            out.append(Token(p, value.get("system"), value["value"]))

    return make


def _token_code(p: SearchParameter, path: TypedPath) -> Maker:
    listed = path.value_set not in {None, "currencies", "mimetypes"}
    system = codes_of(path.value_set).system if listed and path.value_set else None

    def make(value: Any, _root: Root, out: Out) -> None:
        out.append(Token(p, system, value))

    return make


def _token_boolean(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        out.append(Token(p, None, "true" if value else "false"))

    return make


def _reference(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        target = value.get("reference", "")
        if "/_history/" in target and (parts := split_reference(target)):
            target = f"{parts[0]}/{parts[1]}"
        identifier = value.get("identifier")
        named = (identifier.get("system"), identifier["value"]) if identifier and "value" in identifier else None
        if target or named:
            out.append(Reference(p, target, named))

    return make


def _reference_text(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        out.append(Reference(p, value))

    return make


def _reference_attachment(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        if "url" in value:
            out.append(Reference(p, value["url"]))

    return make


def _reference_resource(p: SearchParameter, _path: TypedPath) -> Maker:
    """The first resource of a Bundle, where it is one that the parameter is about."""

    def make(value: Any, _root: Root, out: Out) -> None:
        if "id" in value and value["resourceType"] in p.targets:
            out.append(Reference(p, f"{value['resourceType']}/{value['id']}"))

    return make


def _text(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        out.append(Text(p, value))

    return make


def _parts(*names: str) -> Callable[[SearchParameter, TypedPath], Maker]:
    """A structure of texts: each of them is found by itself."""

    def factory(p: SearchParameter, _path: TypedPath) -> Maker:
        def make(value: Any, _root: Root, out: Out) -> None:
            for name in names:
                part = value.get(name)
                if type(part) is list:
                    out.extend(Text(p, one) for one in part if one is not None)
                elif part is not None:
                    out.append(Text(p, part))

        return make

    return factory


def _date(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        low, high = period_of(value)
        out.append(Period(p, low, high))

    return make


def _span(value: Mapping[str, Any]) -> tuple[int, int] | None:
    start, end = value.get("start"), value.get("end")
    if start is None and end is None:
        return None
    return period_of(start)[0] if start else -EVER, period_of(end)[1] if end else EVER


def _date_period(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        if span := _span(value):
            out.append(Period(p, *span))

    return make


def _date_timing(p: SearchParameter, _path: TypedPath) -> Maker:
    """From the first moment that is named to the last: https://hl7.org/fhir/R4/search.html#date."""

    def make(value: Any, _root: Root, out: Out) -> None:
        spans = [period_of(one) for one in value.get("event", ()) if one is not None]
        if bounds := _span(value.get("repeat", {}).get("boundsPeriod", {})):
            spans.append(bounds)
        if spans:
            out.append(Period(p, min(low for low, _ in spans), max(high for _, high in spans)))

    return make


def _decimal(value: float | Decimal) -> Decimal:
    """The shortest decimal that reads the same: a float was once `72.5`, not its binary neighbour."""
    return Decimal(repr(value)) if type(value) is float else Decimal(value)


def _ends(value: Mapping[str, Any]) -> tuple[Decimal, Decimal] | None:
    """The ends of a Range: an end that is missing is open."""
    low, high = (value.get(end, {}).get("value") for end in ("low", "high"))
    if low is None and high is None:
        return None
    return LEAST if low is None else _decimal(low), GREATEST if high is None else _decimal(high)


def _number(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        number = _decimal(value)
        out.append(Number(p, number, number))

    return make


def _number_range(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        if ends := _ends(value):
            out.append(Number(p, *ends))

    return make


def _quantity(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        if (stated := value.get("value")) is None:
            return
        number = _decimal(stated)
        comparator = value.get("comparator", "")
        low = LEAST if comparator.startswith("<") else number
        high = GREATEST if comparator.startswith(">") else number
        out.append(Quantity(p, low, high, number, value.get("system"), value.get("code"), value.get("unit")))

    return make


def _quantity_money(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        if (stated := value.get("value")) is not None:
            number, currency = _decimal(stated), value.get("currency")
            out.append(Quantity(p, number, number, number, currency and ISO_4217, currency, currency))

    return make


def _quantity_range(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        if ends := _ends(value):
            unit = value.get("low") or value.get("high")
            known = ends[0] if ends[0].is_finite() else ends[1]
            out.append(Quantity(p, *ends, known, unit.get("system"), unit.get("code"), unit.get("unit")))

    return make


def _quantity_samples(p: SearchParameter, _path: TypedPath) -> Maker:
    """From the least sample to the greatest; `E`, `L` and `U` are no numbers."""

    def make(value: Any, _root: Root, out: Out) -> None:
        origin = value["origin"]
        if (stated := origin.get("value")) is None:
            return
        zero, factor = _decimal(stated), _decimal(value.get("factor", 1))
        try:
            samples = [Decimal(one) for one in value.get("data", "").split() if one not in {"E", "L", "U"}]
        except InvalidOperation:
            samples = []
        ends = sorted(zero + factor * one for one in (min(samples), max(samples))) if samples else [zero, zero]
        out.append(Quantity(p, ends[0], ends[1], zero, origin.get("system"), origin.get("code"), origin.get("unit")))

    return make


def _uri(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        out.append(Uri(p, value))

    return make


def _position(p: SearchParameter, _path: TypedPath) -> Maker:
    def make(value: Any, _root: Root, out: Out) -> None:
        if "latitude" in value and "longitude" in value:
            out.append(Position(p, float(value["latitude"]), float(value["longitude"])))

    return make


_NAME: Final = _parts("text", "family", "given", "prefix", "suffix")
_ADDRESS: Final = _parts("text", "line", "city", "district", "state", "postalCode", "country")

_FACTORIES: Final[Mapping[tuple[str, str], Callable[[SearchParameter, TypedPath], Maker]]] = {
    ("token", "Coding"): _token_coding,
    ("token", "CodeableConcept"): _token_concept,
    ("token", "Identifier"): _token_identifier,
    ("token", "ContactPoint"): _token_contact,
    ("token", "code"): _token_code,
    ("token", "boolean"): _token_boolean,
    **dict.fromkeys([("token", kind) for kind in ("string", "uri", "canonical", "id")], _token_code),
    ("reference", "Reference"): _reference,
    ("reference", "Resource"): _reference_resource,
    ("reference", "Attachment"): _reference_attachment,
    **dict.fromkeys([("reference", kind) for kind in ("canonical", "uri")], _reference_text),
    **dict.fromkeys([("string", kind) for kind in ("string", "markdown")], _text),
    ("string", "HumanName"): _NAME,
    ("string", "Address"): _ADDRESS,
    **dict.fromkeys([("date", kind) for kind in ("date", "dateTime", "instant")], _date),
    ("date", "Period"): _date_period,
    ("date", "Timing"): _date_timing,
    **dict.fromkeys([("number", kind) for kind in ("decimal", "integer")], _number),
    ("number", "Range"): _number_range,
    **dict.fromkeys([("quantity", kind) for kind in ("Quantity", "Age", "Duration")], _quantity),
    ("quantity", "Money"): _quantity_money,
    ("quantity", "Range"): _quantity_range,
    ("quantity", "SampledData"): _quantity_samples,
    **dict.fromkeys([("uri", kind) for kind in ("uri", "url", "canonical")], _uri),
    ("special", "Location.position"): _position,
}
