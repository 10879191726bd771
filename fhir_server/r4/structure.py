"""Is this JSON a resource of R4? Every structural error at once, each with its place.

https://hl7.org/fhir/R4/json.html and https://hl7.org/fhir/R4/validation.html

The tables are compiled per type at first use into dictionaries of checks. A check answers with nothing when all is
well, so that a place is written only for what is wrong: `.contentType` by the innermost, the rest as it is handed up.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

from fhir_server.outcomes import Issue
from fhir_server.r4.definitions import PRIMITIVES, Element, ElementType, elements_of
from fhir_server.r4.invariants import INVARIANTS
from fhir_server.r4.primitives import LONGEST_STRING, NULL, Check, check_of, check_string
from fhir_server.r4.references import split_reference
from fhir_server.r4.resource_types import TYPE_NUMBER

DEEPEST: Final = 50
"""Objects within objects that are accepted; FHIR names no limit, and no document of the trade comes near."""
MOST_PROBLEMS: Final = 1000
"""Beyond so many the rest of an object or array is not looked at: each is carried through every level above it."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9]{0,63}")
_ABSOLUTE: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
_CONDITIONAL: Final = re.compile(r"([A-Z][A-Za-z]+)\?\S+")


class Problem(NamedTuple):
    """What is wrong, and where: the place is relative to the object that the check was given."""

    place: str
    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a check must know of the resource around it."""

    contained: frozenset[str]
    """The ids of its contained resources."""
    used: set[str]
    """Filled by the checks: which of them a Reference points to."""
    in_transaction: bool
    """Whether references may be searches: https://hl7.org/fhir/R4/http.html#trules."""


Problems = list[Problem]
Answer = Problems | None
ObjectCheck = Callable[[Any, Surroundings, int], Answer]

TOO_DEEP: Final = Problem("", "too-costly", f"nested deeper than {DEEPEST} levels")
NOT_OBJECT: Final = Problem("", "structure", "must be a JSON object")
EMPTY_OBJECT: Final = Problem("", "structure", "must not be empty")
ONLY_ID: Final = Problem("", "invariant", "an element has a value or children besides its id (ele-1)")
NOT_ARRAY: Final = Problem("", "structure", "must be a JSON array")
EMPTY_ARRAY: Final = Problem("", "structure", "an array must not be empty")
IS_ARRAY: Final = Problem("", "structure", "must not be an array")
NO_MATCH: Final = Problem("", "structure", "must have as many entries as the array of values beside it")
HOLE: Final = Problem("", "structure", "null without an extension beside it")
NO_VALUE: Final = Problem("", "invariant", "has neither a value nor an extension (ele-1)")
FOREIGN_TYPE: Final = Problem(".resourceType", "structure", "must be a resource type of R4")


def check(resource: object) -> list[Issue]:
    """The ways in which this parsed JSON is not a resource of R4, a thousand at most; empty when it is one.

    Takes what a JSON parser gives (dict, list, str, int, float, bool, None) and never raises. Severity is always
    `error`; `code` is an R4 issue code; `expression` is the place (`DocumentReference.content[0].attachment`). No text
    quotes the resource. A Bundle's resources and contained ones are checked too. Profiles, terminology beyond the
    required bindings of `code`, and references to other resources are not looked at.
    """
    name = resource.get("resourceType") if isinstance(resource, dict) else None
    root = name if isinstance(name, str) and name in TYPE_NUMBER else "Resource"
    problems = _check_resource(resource, Surroundings(frozenset(), set(), in_transaction=False), 0)
    return [Issue("error", code, text, root + place) for place, code, text in problems or ()]


def _check_resource(resource: Any, around: Surroundings, depth: int) -> Answer:
    """A resource that stands for itself: at the top, in a Bundle or in Parameters."""
    if type(resource) is not dict:
        return [NOT_OBJECT]
    name = resource.get("resourceType")
    if type(name) is not str or name not in TYPE_NUMBER:
        return [FOREIGN_TYPE]
    inside = resource.get("contained")
    in_transaction = around.in_transaction or (name == "Bundle" and resource.get("type") == "transaction")
    if inside is None:
        return _shape(name).check(resource, Surroundings(frozenset(), set(), in_transaction), depth)
    here = Surroundings(_ids(inside), set(), in_transaction)
    problems = _shape(name).check(resource, here, depth) or []
    if isinstance(inside, list) and depth < DEEPEST:
        problems += _unused(resource, inside, here)
    return problems


def _check_contained(resource: Any, around: Surroundings, depth: int) -> Answer:
    """A resource inside another: dom-2, dom-4, dom-5 (https://hl7.org/fhir/R4/references.html#contained)."""
    if type(resource) is not dict:
        return [NOT_OBJECT]
    name = resource.get("resourceType")
    if type(name) is not str or name not in TYPE_NUMBER:
        return [FOREIGN_TYPE]
    if "contained" in resource:
        return [Problem(".contained", "invariant", "a contained resource contains none itself (dom-2)")]
    problems = _shape(name).check(resource, around, depth) or []
    meta = resource.get("meta")
    if isinstance(meta, dict):
        if "versionId" in meta or "lastUpdated" in meta:
            problems.append(Problem(".meta", "invariant", "a contained resource has no version of its own (dom-4)"))
        if "security" in meta:
            problems.append(Problem(".meta", "invariant", "a contained resource has no security label (dom-5)"))
    if "id" not in resource:
        problems.append(Problem(".id", "required", "a contained resource has an id"))
    return problems


def _ids(contained: Any) -> frozenset[str]:
    if not isinstance(contained, list):
        return frozenset()
    ids = (one.get("id") for one in contained if isinstance(one, dict))
    return frozenset(one for one in ids if isinstance(one, str))


def _unused(resource: dict[str, Any], contained: list[Any], around: Surroundings) -> Problems:
    """dom-3: each contained resource is pointed to from the resource, or points to it."""
    ids = [one.get("id") for one in contained if isinstance(one, dict)]
    problems: Problems = []
    if len(ids) > len(set(map(str, ids))):
        problems.append(Problem(".contained", "invariant", "contained resources have different ids"))
    if around.contained <= around.used:
        return problems
    used = set(_fragments(resource))  # a canonical may point there too
    for n, one in enumerate(contained):
        key = one.get("id") if isinstance(one, dict) else None
        if isinstance(key, str) and "#" + key not in used and "#" not in _fragments(one):
            problems.append(Problem(f".contained[{n}]", "invariant", "nothing points to this resource (dom-3)"))
    return problems


def _fragments(value: Any) -> list[str]:
    """The strings that may point into the same resource."""
    found: list[str] = []
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, dict):
            pending.extend(one.values())
        elif isinstance(one, list):
            pending.extend(one)
        elif isinstance(one, str) and one.startswith("#"):
            found.append(one)
    return found


_Field = tuple[int, Any, Any, str, bool]
"""How a JSON property is checked: its form, its check, the quick one of a text (see `check_of`), its name in FHIRPath
(`value` for `valueString`), and whether it is one of a choice."""

_VALUE, _VALUES, _OBJECT, _OBJECTS, _SIBLING, _SIBLINGS, _TYPE = range(7)


class _Shape:
    """The compiled checks of one type or backbone element."""

    __slots__ = ("_fields", "_invariant", "_is_resource", "_path", "_required")

    def __init__(self, path: str) -> None:
        self._path = path
        self._fields: dict[str, _Field] = {}
        self._required: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
        self._invariant = INVARIANTS.get(path)
        self._is_resource = path in TYPE_NUMBER

    def check(self, value: Any, around: Surroundings, depth: int) -> Answer:
        """What is wrong with one object of this type."""
        if type(value) is not dict:
            return [NULL_OBJECT if value is None else IS_ARRAY if type(value) is list else NOT_OBJECT]
        if depth >= DEEPEST:
            return [TOO_DEEP]
        if not value:
            return [EMPTY_OBJECT]
        fields = self._fields or self._compile()
        problems: Problems = []
        found: Answer
        chosen: dict[str, str] | None = None
        for name, item in value.items():
            field = fields.get(name)
            if field is None:
                problems.append(_unknown(name))
                if len(problems) >= MOST_PROBLEMS:
                    break
                continue
            form, examine, quick, label, choice = field
            if form == _VALUE:
                sure = type(item) is str and 0 < len(item) <= LONGEST_STRING and quick(item)
                if not sure and (fault := examine(item)) and not (item is None and "_" + name in value):
                    problems.append(Problem("." + label, *(IS_ARRAY[1:] if type(item) is list else fault)))
            elif form == _OBJECT:
                if found := examine(item, around, depth + 1):
                    problems += [Problem(f".{label}{place}", code, text) for place, code, text in found]
            elif form == _OBJECTS and type(item) is list and item:
                for n, one in enumerate(item):
                    if found := examine(one, around, depth + 1):
                        problems += [Problem(f".{label}[{n}]{place}", code, text) for place, code, text in found]
                        if len(problems) >= MOST_PROBLEMS:
                            return problems[:MOST_PROBLEMS]
            elif form != _TYPE and (found := _RARE[form](examine, item, value, name, around, depth)):
                problems += [Problem(f".{label}{place}", code, text) for place, code, text in found]
            if choice:
                bare = name.lstrip("_")
                if chosen is None:
                    chosen = {label: bare}
                elif chosen.setdefault(label, bare) != bare:
                    problems.append(Problem("." + label, "structure", "must have one type only"))
        for label, first, names in self._required:
            if first not in value and not any(name in value for name in names):
                problems.append(Problem("." + label, "required", "is required"))
        if len(value) == 1 and "id" in value and not self._is_resource:
            problems.append(ONLY_ID)
        if self._invariant is not None:
            problems += [Problem(place, "invariant", f"{text} ({key})") for place, key, text in self._invariant(value)]
        return problems

    def _compile(self) -> dict[str, _Field]:
        fields: dict[str, _Field] = {}
        required: list[tuple[str, str, tuple[str, ...]]] = []
        for element in elements_of(self._path).values():
            label = element.name.removesuffix("[x]")
            names = element.json_names()
            for name, kind in names.items():
                for key, form, examine, quick in _forms(self._path, element, name, kind):
                    fields[key] = (form, examine, quick, label, label != element.name)
            if element.required:
                every = tuple(key for key in fields if fields[key][3] == label)
                required.append((label, every[0], every[1:]))
        if self._is_resource:
            fields["resourceType"] = (_TYPE, None, None, "resourceType", False)
        self._required = tuple(required)
        self._fields = fields
        return fields


NULL_OBJECT: Final = Problem("", *NULL)


@cache
def _shape(path: str) -> _Shape:
    return _Shape(path)


def _forms(path: str, element: Element, name: str, kind: ElementType) -> list[tuple[str, int, Any, Any]]:
    """The JSON properties of an element: itself, and beside a primitive `_name` for its id and extensions."""
    if kind.name not in PRIMITIVES:
        return [(name, _OBJECTS if element.repeats else _OBJECT, _object_check(f"{path}.{name}", kind), None)]
    examine, quick = check_of(kind.name, element.value_set, path)
    sibling = _shape("Element").check
    if element.repeats:
        return [(name, _VALUES, examine, None), ("_" + name, _SIBLINGS, sibling, None)]
    return [(name, _VALUE, examine, quick), ("_" + name, _SIBLING, sibling, None)]


def _object_check(path: str, kind: ElementType) -> ObjectCheck:
    if path.endswith(".contained"):
        return _check_contained
    if kind.name == "Resource":
        return _check_resource
    if kind.name == "Reference":
        return _check_reference
    return _shape(kind.name).check


def _check_values(examine: Check, items: Any, value: Any, name: str, _around: Surroundings, _depth: int) -> Answer:
    """An array of primitives; null only where the array of extensions has something."""
    if type(items) is not list:
        return [NOT_ARRAY]
    if not items:
        return [EMPTY_ARRAY]
    problems: Problems = []
    beside = value.get("_" + name)
    for n, item in enumerate(items):
        if (fault := examine(item)) is None:
            continue
        if item is not None:
            problems.append(Problem(f"[{n}]", *fault))
        elif type(beside) is not list or n >= len(beside) or beside[n] is None:
            problems.append(HOLE._replace(place=f"[{n}]"))
        if len(problems) >= MOST_PROBLEMS:
            break
    return problems


def _no_objects(_examine: Any, items: Any, *_rest: Any) -> Answer:
    """What stands in the place of an array of objects and is none."""
    return [EMPTY_ARRAY if type(items) is list else NOT_ARRAY]


def _check_sibling(examine: ObjectCheck, item: Any, value: Any, name: str, around: Surroundings, depth: int) -> Answer:
    """`_birthDate`, beside `birthDate` or instead of it."""
    valued = value.get(name[1:]) is not None
    if valued and type(item) is dict and item.keys() == {"id"}:
        return [Problem(".id", *fault)] if (fault := check_string(item["id"])) else None
    if not valued and type(item) is dict and item and "extension" not in item:
        return [NO_VALUE]
    return examine(item, around, depth + 1)


def _check_siblings(
    examine: ObjectCheck, items: Any, value: Any, name: str, around: Surroundings, depth: int
) -> Answer:
    """`_given`, beside the array `given` or instead of it."""
    if type(items) is not list:
        return [NOT_ARRAY]
    if not items:
        return [EMPTY_ARRAY]
    values = value.get(name[1:])
    if type(values) is list and len(values) != len(items):
        return [NO_MATCH]
    problems: Problems = []
    for n, item in enumerate(items):
        alone = type(values) is not list or values[n] is None
        if item is None:
            found = [HOLE] if alone else None
        else:
            found = _check_sibling(examine, item, {} if alone else {"": True}, "_", around, depth)
        problems += [Problem(f"[{n}]{place}", code, text) for place, code, text in found or ()]
        if len(problems) >= MOST_PROBLEMS:
            break
    return problems


_REFERENCE: Final = _shape("Reference")
_RARE: Final[dict[int, Any]] = {
    _VALUES: _check_values,
    _OBJECTS: _no_objects,
    _SIBLING: _check_sibling,
    _SIBLINGS: _check_siblings,
}


def _check_reference(value: Any, around: Surroundings, depth: int) -> Answer:
    """A Reference: its form, and ref-1. Official examples point beyond the listed targets: those are not enforced."""
    problems = _REFERENCE.check(value, around, depth)
    text = value.get("reference") if type(value) is dict else None
    if type(text) is not str or problems:
        return problems
    if text.startswith("#"):
        if text == "#" or text[1:] in around.contained:
            around.used.add(text[1:])
            return None
        return [Problem(".reference", "invariant", "no contained resource has this id (ref-1)")]
    if split_reference(text):
        return None
    search = _CONDITIONAL.fullmatch(text) if around.in_transaction else None
    if _ABSOLUTE.fullmatch(text) or (search and search[1] in TYPE_NUMBER):
        return None
    return [Problem(".reference", "value", "must be Type/id, an absolute URL, a urn: or a #fragment")]


def _unknown(name: Any) -> Problem:
    """The place of an unknown property names it only when it looks like a name, and not like content."""
    place = f".{name}" if isinstance(name, str) and _NAME.fullmatch(name) else ""
    return Problem(place, "structure", "R4 has no such element here")
